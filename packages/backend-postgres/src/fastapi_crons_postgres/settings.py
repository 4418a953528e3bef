"""The settings of the PostgreSQL stores, from the environment (`CRON_POSTGRES_…`) or a `.env` file."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from fastapi_crons.config import describe_faults
from fastapi_crons.errors import ConfigurationError
from fastapi_crons_postgres.url import parse

PREFIX = "CRON_POSTGRES_"
_SCHEMA = f"{PREFIX}SCHEMA"


class PostgresSettings(BaseSettings):
    """Where the database is, and how to log in. Raises `ConfigurationError`, which lists every fault."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_file=".env", env_ignore_empty=True, extra="ignore", frozen=True
    )

    url: SecretStr = Field(
        SecretStr("postgresql://localhost/postgres"),
        description="postgresql://user:password@host:5432/database; ?sslmode=verify-full and the other names of libpq hold for "
        "TLS, and SQLAlchemy's postgresql+asyncpg:// is understood.",
    )
    db_schema: str = Field(
        "public",
        validation_alias=_SCHEMA,
        pattern=r"^[A-Za-z_][A-Za-z0-9_$]{0,62}$",
        description="The schema that the tables crons_… are in. It has to be there.",
    )
    migrate: bool = Field(
        True,
        description="Whether a scheduler makes and changes the tables at its start; false where that is done by `fastapi-crons "
        "postgres migrate`, because the app's role must not.",
    )
    connect_timeout: Annotated[float, Field(gt=0, le=60)] = Field(
        2.0, description="Time limit (seconds) for making a connection."
    )

    @field_validator("url")
    @classmethod
    def _leads_to_postgres(cls, value: SecretStr) -> SecretStr:
        return SecretStr(parse(value.get_secret_value()))

    def __init__(self, **values: Any) -> None:
        if "db_schema" in values:
            values[_SCHEMA] = values.pop("db_schema")
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise ConfigurationError(describe_faults(error, PREFIX)) from None
