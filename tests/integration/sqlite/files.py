"""The file of a SQLite store, and who may read it."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path

from fastapi_crons import CronConfig, Crons
from fastapi_crons.management.management import Management
from fastapi_crons.state import SQLiteStateBackend
from tests.support import nothing

PATH = Path("jobs.db")


@contextmanager
def database(path: Path = PATH) -> Iterator[sqlite3.Connection]:
    """A connection of another program, closed at the end."""
    with closing(sqlite3.connect(path)) as connection, connection:
        yield connection


@asynccontextmanager
async def scheduler(path: Path = PATH) -> AsyncIterator[Crons]:
    """A scheduler whose job is not due for long."""
    crons = Crons(state_backend=SQLiteStateBackend(path), config=CronConfig())
    crons.cron("0 0 1 1 *", name="job")(nothing)
    await crons.start()
    try:
        yield crons
    finally:
        await crons.stop()


@asynccontextmanager
async def observer(path: Path = PATH) -> AsyncIterator[Management]:
    """Whoever only reads."""
    crons = Crons(state_backend=SQLiteStateBackend(path), config=CronConfig())
    crons.cron("0 0 1 1 *", name="job")(nothing)
    await crons.start("observer")
    try:
        yield Management(crons)
    finally:
        await crons.stop()


def contents() -> dict[str, bytes]:
    """The files of the current folder and the bytes in each."""
    return {path.name: path.read_bytes() for path in sorted(Path().iterdir())}
