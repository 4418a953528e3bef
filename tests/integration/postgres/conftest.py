"""A server of each major version that is here, and a clock for one of its databases."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

import fastapi_crons_postgres
from tests.faults.pgbouncer import PgBouncer
from tests.faults.postgres_server import PostgresServer, needs_postgres, postgres_programs

MAJORS = sorted(postgres_programs())
#: What the next version adds to the tables.
_NEXT = """
VERSION = 2
MIGRATIONS[2] = (
    "ALTER TABLE {schema}.crons_run ADD COLUMN later text DEFAULT 'x'",
    "CREATE INDEX crons_run_later ON {schema}.crons_run (namespace, later)",
)
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What is not marked `each_major` is tried on the older ones by `nox -s full` only."""
    for item in items:
        of_server = item.callspec.params.get("postgres") if hasattr(item, "callspec") else None
        if of_server in MAJORS[:-1] and item.get_closest_marker("each_major") is None:
            item.add_marker("full")


@pytest.fixture(scope="session", params=MAJORS or [0])
def postgres(request: pytest.FixtureRequest) -> Iterator[PostgresServer]:
    """A private server for the whole session; tests keep to namespaces or databases of their own."""
    if not MAJORS:
        pytest.skip(needs_postgres.kwargs["reason"])
    with PostgresServer(postgres_programs()[request.param]) as server:
        yield server


@pytest.fixture(scope="session")
def pooler(postgres: PostgresServer) -> Iterator[PgBouncer]:
    """A pooler before the server of the session."""
    with PgBouncer(postgres) as pooler:
        yield pooler


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine may take longer than the scheduler would wait."""
    monkeypatch.setenv("CRON_STORE_TIMEOUT", "20")


class ServerClock:
    """A database whose server takes its time from a table."""

    database = "clock"

    def __init__(self, server: PostgresServer) -> None:
        server.psql("CREATE DATABASE clock")
        server.psql(
            "CREATE SCHEMA fake; CREATE TABLE fake.now (at float8); INSERT INTO fake.now VALUES (0); "
            "CREATE FUNCTION fake.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS "
            "'SELECT to_timestamp(at) FROM fake.now'; "
            "ALTER DATABASE clock SET search_path = fake, pg_catalog",
            "clock",
        )
        self.url = server.url_of("clock")
        self._loop = asyncio.new_event_loop()
        self._connection = self._loop.run_until_complete(asyncpg.connect(self.url))

    def set(self, now: float) -> None:
        self._loop.run_until_complete(self._connection.execute(f"UPDATE fake.now SET at = {now!r}"))

    def close(self) -> None:
        self._loop.run_until_complete(self._connection.close())
        self._loop.close()


@pytest.fixture(scope="session")
def server_clock(postgres: PostgresServer) -> Iterator[ServerClock]:
    """A database whose clock tests set."""
    clock = ServerClock(postgres)
    yield clock
    clock.close()


@pytest.fixture
def next_version(tmp_path: Path) -> dict[str, str]:
    """The environment of processes in which a version of our stores with a newer layout is installed."""
    ours = Path(fastapi_crons_postgres.__file__).parent
    theirs = shutil.copytree(ours, tmp_path / "next" / ours.name)
    layout = theirs / "_layout.py"
    # Behind the migrations, and before what is made of them.
    before, found, after = layout.read_text().partition("\nasync def prepare(")
    assert found
    layout.write_text(f"{before}{_NEXT}\n{found}{after}")
    return {"PYTHONPATH": str(theirs.parent)}
