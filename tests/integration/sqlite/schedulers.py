"""Stores and schedulers on one SQLite file, in real time."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

from fastapi_crons import CronConfig, Crons
from fastapi_crons.state import SQLiteStateBackend
from tests.integration.sqlite.files import PATH
from tests.support import runs_of, until_async


@asynccontextmanager
async def scheduler(**settings: float) -> AsyncIterator[Crons]:
    """A scheduler on jobs.db whose job fires every second."""
    crons = Crons(state_backend=SQLiteStateBackend(PATH, busy_timeout=0.3), config=CronConfig(**settings))

    @crons.cron("* * * * * *", name="tick")
    async def tick() -> None: ...

    await crons.start()
    try:
        yield crons
    finally:
        await crons.stop()


async def runs_beyond(crons: Crons, count: int) -> None:
    async def more() -> bool:
        return len(await runs_of(crons, "tick")) > count

    await until_async(more)


async def locked(kind: Literal["IMMEDIATE", "EXCLUSIVE"]) -> sqlite3.Connection:
    """A connection of somebody else who has locked the file. It waits in a thread: what it waits for needs this loop."""
    other = sqlite3.connect(PATH, isolation_level=None, check_same_thread=False)
    await asyncio.to_thread(other.execute, f"BEGIN {kind}")
    return other
