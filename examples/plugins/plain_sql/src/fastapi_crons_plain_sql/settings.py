"""The settings of the backend, from variables `CRON_PLAIN_SQL_…` or a `.env` file."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class PlainSqlSettings(BaseSettings):
    """Where the file is."""

    model_config = SettingsConfigDict(env_prefix="CRON_PLAIN_SQL_", env_file=".env", extra="ignore", frozen=True)

    path: Path = Field(default=Path("crons-locks.db"), description="The file of the lock store.")
