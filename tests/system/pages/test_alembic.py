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
        tables = server.psql("SELECT tablename FROM pg_tables WHERE schemaname = 'public'", "shop").split()
        assert {"alembic_version", "crons_layout", "crons_run"} <= set(tables)
        monkeypatch.setenv("CRON_POSTGRES_URL", server.url_of("shop"))
        alembic = [sys.executable, "-m", "alembic"]
        # Autogeneration leaves them alone.
        subprocess.run([*alembic, "check"], check=True, capture_output=True, text=True)
