"""The settings, from the environment (`CRON_ALERTS_…`) or a `.env` file."""

from __future__ import annotations

from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class AlertSettings(BaseSettings):
    """Where alerts go, and when."""

    model_config = SettingsConfigDict(
        env_prefix="CRON_ALERTS_",
        env_file=".env",
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,  # the URL is a secret, also where it is wrong
    )

    url: SecretStr | None = Field(default=None, description="Where alerts are posted; unset: none are.")
    nth: int = Field(default=5, ge=0, description="Alert again at so many failures in a row; 0: never.")
    timeout: float = Field(default=3.0, gt=0, le=60, description="Deadline (seconds) of one try to post.")
    error_text: bool = Field(default=True, description="False leaves error texts out of alerts.")

    @field_validator("url")
    @classmethod
    def _leads_somewhere(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            parts = urlsplit(value.get_secret_value())
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise ValueError("must begin with https:// or http://, and name a host")
        return value
