"""The settings, from the environment (`CRON_JSONL_…`) or a `.env` file."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class JsonlSettings(BaseSettings):
    """Where the files are."""

    model_config = SettingsConfigDict(env_prefix="CRON_JSONL_", env_file=".env", extra="ignore", frozen=True)

    folder: Path = Field(
        default=Path("crons-history"), description="The folder of the history's files; made where it is missing."
    )
    lock_timeout: float = Field(
        default=4.0,
        gt=0,
        le=60,
        description="How long (seconds) to wait for another process's write; below CRON_STORE_TIMEOUT.",
    )
