"""The settings of the SQLite stores, from the environment (`CRON_SQLITE_…`) or a `.env` file."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from fastapi_crons.config import describe_faults, without_quotes
from fastapi_crons.errors import ConfigurationError

PREFIX = "CRON_SQLITE_"


class SQLiteSettings(BaseSettings):
    """Where the file is, and how long to wait for it. Raises `ConfigurationError`, listing every fault."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_file=".env", extra="ignore", frozen=True)

    path: str = Field("crons.db", min_length=1, description="The database file; its folder must exist.")
    busy_timeout: Annotated[float, Field(gt=0, le=60)] = Field(
        4.0,
        description="How long (seconds) to wait for another process's write; cut to 80 % of CRON_STORE_TIMEOUT.",
    )

    @field_validator("path")
    @classmethod
    def _has_no_quotes(cls, value: str) -> str:
        return without_quotes(value)

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise ConfigurationError(describe_faults(error, PREFIX)) from None
