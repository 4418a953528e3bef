"""The page for users of Alembic does what it says, in a project that has models and migrations of its own."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.postgres_server import PostgresServer, needs_postgres
from tests.system.conftest import ROOT
from tests.system.pages.pages import PageRun
from tests.system.pages.test_docs import POSTGRES

PAGE = ROOT / "docs/how-to/postgres-alembic.md"
#: As `alembic init -t async` makes it, without logging; with what the page adds to it.
_ENV = """
import asyncio
import os

from alembic import context
from sqlalchemy import MetaData
from sqlalchemy.ext.asyncio import create_async_engine

target_metadata = MetaData()


{include_name}


def run(connection):
    context.configure(connection=connection, target_metadata=target_metadata, include_name=include_name)
    with context.begin_transaction():
        context.run_migrations()


async def main():
    engine = create_async_engine(os.environ["CRON_POSTGRES_URL"].replace("postgresql:", "postgresql+asyncpg:"))
    async with engine.begin() as connection:
        await connection.run_sync(run)
    await engine.dispose()


if context.is_offline_mode():
    context.configure(dialect_name="postgresql", literal_binds=True, dialect_opts={{"paramstyle": "named"}})
    with context.begin_transaction():
        context.run_migrations()
else:
    asyncio.run(main())
"""


@pytest.mark.slow
@needs_postgres
@pytest.mark.skipif(importlib.util.find_spec("alembic") is None, reason="Alembic is not installed")
def test_the_page_about_alembic_does_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    include_name = PAGE.read_text(encoding="utf-8").split("```python\n")[-1].split("```")[0]
    assert include_name.startswith("def include_name(")
    Path("migrations/versions").mkdir(parents=True)
    Path("alembic.ini").write_text("[alembic]\nscript_location = migrations\n")
    Path("migrations/env.py").write_text(_ENV.format(include_name=include_name.strip()))
    with PostgresServer() as server:
        server.psql("CREATE DATABASE shop")
        with PageRun(PAGE, {POSTGRES: server.url_of("").rstrip("/")}) as run:
            run.run()
        assert {"alembic_version", "crons_layout", "crons_run"} <= tables_in(server, "shop")
        monkeypatch.setenv("CRON_POSTGRES_URL", server.url_of("shop"))
        # Autogeneration leaves them alone.
        alembic("check")
        # They outlive a downgrade, with what is in them; the way up is open again.
        server.psql("INSERT INTO crons_state (namespace, job) VALUES ('default', 'kept')", "shop")
        alembic("downgrade", "base")
        alembic("upgrade", "head")
        assert server.psql("SELECT job FROM crons_state", "shop") == "kept"
        # So it is where a start has made them.
        server.psql("CREATE DATABASE started")
        monkeypatch.setenv("CRON_POSTGRES_URL", server.url_of("started"))
        run_module("fastapi_crons", "postgres", "migrate")
        alembic("upgrade", "head")
        assert {"alembic_version", "crons_run"} <= tables_in(server, "started")
        # A script for somebody else can't look.
        server.psql("CREATE DATABASE scripted")
        server.psql(alembic("upgrade", "head", "--sql"), "scripted")
        assert {"alembic_version", "crons_run"} <= tables_in(server, "scripted")


def tables_in(server: PostgresServer, database: str) -> set[str]:
    return set(server.psql("SELECT tablename FROM pg_tables WHERE schemaname = 'public'", database).split())


def alembic(*arguments: str) -> str:
    return run_module("alembic", *arguments)


def run_module(*arguments: str) -> str:
    """What a program prints, which has to end well."""
    done = subprocess.run([sys.executable, "-m", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
