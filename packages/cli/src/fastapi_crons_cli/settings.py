"""The settings of the command line, from the environment (`CRON_…`) or a `.env` file."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class CliSettings(BaseSettings):
    """Where the command line finds the app."""

    model_config = SettingsConfigDict(env_prefix="CRON_", env_file=".env", extra="ignore", frozen=True)

    app: str | None = Field(
        default=None,
        pattern=r"^[\w.]+(:[\w.]+)?$",
        description="Where the command line finds the app: module:attribute, of a FastAPI app, a Crons or a factory.",
    )
