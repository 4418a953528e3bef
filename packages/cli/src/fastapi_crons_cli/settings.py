"""The settings of the command line, from the environment (`CRON_…`) or a `.env` file."""

from __future__ import annotations

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class CliSettings(BaseSettings):
    """Where the command line finds the app."""

    model_config = SettingsConfigDict(env_prefix="CRON_", env_file=".env", extra="ignore", frozen=True)

    app: str | None = Field(
        default=None,
        description="Where the command line finds the app: module:attribute, of a FastAPI app, a Crons or a factory.",
    )

    @field_validator("app")
    @classmethod
    def _names_an_app(cls, value: str | None) -> str | None:
        """Nothing is as good as unset: `CRON_APP=` is how files say so."""
        if value is not None and value.strip():
            check_app_name(value)
        return value or None


def check_app_name(name: str) -> None:
    """Raises `ValueError` for what can't name an app, with what was probably meant."""
    named = all(part.isidentifier() for part in name.replace(":", ".", 1).split("."))
    if not named or name.partition(":")[0].endswith(".py"):
        raise ValueError(f"give module:attribute, such as {_probably_meant(name)}")


def _probably_meant(name: str) -> str:
    path, _, attribute = name.strip().partition(":")
    if path.endswith(".py") or "/" in path or "\\" in path:
        parts = [part for part in path.removesuffix(".py").replace("\\", "/").split("/") if part not in ("", ".", "..")]
        if parts and all(part.isidentifier() for part in parts):
            return f"{'.'.join(parts)}:{attribute if attribute.isidentifier() else 'app'}"
    return "main:app"
