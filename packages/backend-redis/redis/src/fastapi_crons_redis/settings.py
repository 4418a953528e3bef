"""The settings of the Redis stores, from the environment (`CRON_REDIS_…`) or a `.env` file."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from fastapi_crons.config import describe_faults, without_quotes
from fastapi_crons.errors import ConfigurationError

from .url import authorities, parse

PREFIX = "CRON_REDIS_"


class RedisSettings(BaseSettings):
    """Where Redis is, and how to log in. Raises `ConfigurationError`, which lists every fault."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_file=".env", env_ignore_empty=True, extra="ignore", frozen=True
    )

    url: SecretStr = Field(
        SecretStr("redis://localhost:6379/0"),
        description="redis://, rediss:// (TLS), unix://, redis+sentinel://host:port,host:port/service[/db] (rediss+sentinel:// "
        "with TLS) or redis+cluster://host:port; user and password go before the host, as user:password@.",
    )
    username: str | None = Field(None, min_length=1, description="User, if the URL has none.")
    password: SecretStr | None = Field(None, min_length=1, description="Password, if the URL has none.")
    sentinel_password: SecretStr | None = Field(None, min_length=1, description="Password of the sentinels themselves.")
    ca_file: str | None = Field(
        None,
        min_length=1,
        description="File with certificates of authorities that may have signed a TLS server's.",
    )
    connect_timeout: Annotated[float, Field(gt=0, le=60)] = Field(
        2.0, description="Time limit (seconds) for making a connection."
    )

    @field_validator("url")
    @classmethod
    def _leads_to_redis(cls, value: SecretStr) -> SecretStr:
        parse(value.get_secret_value())
        return value

    @field_validator("ca_file")
    @classmethod
    def _has_certificates(cls, value: str | None) -> str | None:
        return None if value is None else authorities(value)

    @field_validator("username")
    @classmethod
    def _has_no_quotes(cls, value: str | None) -> str | None:
        return None if value is None else without_quotes(value)

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise ConfigurationError(describe_faults(error, PREFIX)) from None
