"""A plugin with settings of its own."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import AliasChoices, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from fastapi_crons import hookimpl
from fastapi_crons_cli.configuration.all_settings import SettingInfo


class PagerSettings(BaseSettings):
    """Settings of somebody else's plugin, who takes no care of errors."""

    model_config = SettingsConfigDict(env_prefix="PAGER_", env_file=".env", extra="ignore")

    key: SecretStr = Field(SecretStr("none"), description="The key.")
    webhook: SecretStr | None = Field(None, description="Where to send to; the path is a secret, too.")
    proxy: str = Field("", description="A proxy.")
    places: dict[str, str] = Field({}, description="Who is called where.")
    people: int = Field(1, validation_alias=AliasChoices("PAGER_PEOPLE", "PAGER_STAFF"), description="How many.")
    most: int = Field(5, description="At most so many.")
    timezone: str = Field("UTC", description="A name that is taken.")

    @model_validator(mode="after")
    def _enough(self) -> PagerSettings:
        if self.people > self.most:
            raise ValueError("too many people")
        return self


class Pager:
    def __init__(self, classes: object) -> None:
        self.classes = classes

    @hookimpl
    def settings(self) -> object:
        if isinstance(self.classes, Exception):
            raise self.classes
        return self.classes


def by_variable(described: Sequence[SettingInfo]) -> dict[str, SettingInfo]:
    found = {info.variable: info for info in described}
    assert len(found) == len(described)
    return found
