"""The settings of the PostgreSQL stores: from the environment, from `.env`, and in code."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr

from fastapi_crons.errors import ConfigurationError
from fastapi_crons_postgres.settings import PostgresSettings


def test_the_schema_is_set_by_its_variable_and_in_code(monkeypatch: pytest.MonkeyPatch) -> None:
    assert PostgresSettings().db_schema == "public"
    Path(".env").write_text("CRON_POSTGRES_SCHEMA=from_file\nCRON_POSTGRES_MIGRATE=false\n")
    assert (PostgresSettings().db_schema, PostgresSettings().migrate) == ("from_file", False)
    monkeypatch.setenv("CRON_POSTGRES_SCHEMA", "from_environment")
    assert PostgresSettings().db_schema == "from_environment"
    assert PostgresSettings(db_schema="from_code").db_schema == "from_code"


@pytest.mark.parametrize("name", ["two words", 'quo"ted', "1st", "x" * 64])
def test_a_schema_that_can_not_be_is_refused_by_the_name_of_its_variable(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigurationError, match="settings can't be used: CRON_POSTGRES_SCHEMA="):
        PostgresSettings(db_schema=name)
    monkeypatch.setenv("CRON_POSTGRES_SCHEMA", name)
    with pytest.raises(ConfigurationError, match="settings can't be used: CRON_POSTGRES_SCHEMA="):
        PostgresSettings()


def test_urls_of_sqlalchemy_are_understood() -> None:
    for scheme in ("postgresql", "postgres", "postgresql+asyncpg", "postgresql+psycopg"):
        url = PostgresSettings(url=SecretStr(f"{scheme}://app@db:5432/jobs?sslmode=require")).url
        assert url.get_secret_value() == "postgresql://app@db:5432/jobs?sslmode=require"
