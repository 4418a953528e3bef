"""Settings of the app, from the environment."""

from __future__ import annotations

from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """`BOOKSHOP_DATABASE_URL` and so on."""

    model_config = SettingsConfigDict(env_prefix="BOOKSHOP_")

    database_url: str = "sqlite+aiosqlite:///bookshop.db"
    carrier_url: str | None = None
    """Where parcels are announced; None for a carrier that takes everything, to try the app."""
    alert_url: str | None = None
    """Where failures of jobs are told, as by a webhook of a chat."""
