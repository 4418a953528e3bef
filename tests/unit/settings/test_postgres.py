"""The settings of the PostgreSQL stores: from the environment, from `.env`, and in code."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr

from fastapi_crons.errors import ConfigurationError
from fastapi_crons_postgres.settings import PostgresSettings
from fastapi_crons_postgres.url import place_of


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
    for scheme in ("postgresql", "postgres", "postgresql+asyncpg", "postgresql+psycopg", "postgresql+psycopg2"):
        url = PostgresSettings(url=SecretStr(f"{scheme}://app@db:5432/jobs?sslmode=require")).url
        assert url.get_secret_value() == "postgresql://app@db:5432/jobs?sslmode=require"


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("ssl=require", "sslmode=require"),
        ("ssl=verify-full&sslrootcert=%2Fetc%2Fca.pem", "sslmode=verify-full&sslrootcert=%2Fetc%2Fca.pem"),
        ("prepared_statement_cache_size=0&application_name=shop", "application_name=shop"),
        ("sslmode=require&channel_binding=prefer", "sslmode=require"),
        ("channel_binding=require&sslmode=verify-full", "sslmode=verify-full"),
        ("connect_timeout=10&keepalives=1&keepalives_idle=30&gssencmode=disable", ""),
        ("options=-c%20work_mem%3D8MB&colour=blue", "options=-c%20work_mem%3D8MB&colour=blue"),
    ],
)
def test_what_sqlalchemy_and_libpq_take_is_translated_or_left_out(given: str, meant: str) -> None:
    url = PostgresSettings(url=SecretStr(f"postgresql://app@db:5432/jobs?{given}")).url.get_secret_value()
    assert url == f"postgresql://app@db:5432/jobs{'?' if meant else ''}{meant}"


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ("ssl=perhaps", "ssl is none of disable, allow, prefer, require, verify-ca, verify-full"),
        ("sslmode=require&channel_binding=require", "channel_binding=require in the URL can't be done by the driver"),
        ("gssencmode=require", "gssencmode=require in the URL can't be done by the driver"),
    ],
)
def test_what_can_not_be_done_is_named(given: str, named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        PostgresSettings(url=SecretStr(f"postgresql://app@db:5432/jobs?{given}"))


def test_a_place_names_the_port_wherever_it_stands() -> None:
    for url in ("postgresql://app@db:6432/jobs", "postgresql:///jobs?user=app&host=db&port=6432"):
        assert str(place_of(url)) == "PostgreSQL at db:6432, database 'jobs', user 'app'"
