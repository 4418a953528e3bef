"""The thread that a SQLite connection lives in."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from pathlib import Path

import pytest

from fastapi_crons_sqlite._connection import Connection


async def test_what_fails_in_the_thread_is_raised_to_who_asked_and_the_connection_goes_on(tmp_path: Path) -> None:
    connection = await Connection.open((tmp_path / "file.db").as_uri(), busy_timeout=1)
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        await connection.do(lambda raw: raw.execute("SELECT * FROM nowhere"))
    assert await connection.do(lambda raw: raw.execute("SELECT 7").fetchone()) == (7,)
    await connection.close()


async def test_a_caller_that_is_cancelled_does_not_cancel_the_work(tmp_path: Path) -> None:
    connection = await Connection.open((tmp_path / "file.db").as_uri(), busy_timeout=1)
    begun, go_on, done = threading.Event(), threading.Event(), threading.Event()

    def work(raw: sqlite3.Connection) -> None:
        begun.set()
        go_on.wait(5)
        done.set()

    caller = asyncio.create_task(connection.do(work))
    await asyncio.to_thread(begun.wait, 5)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    go_on.set()
    await connection.close()
    assert done.is_set()


async def test_a_closed_connection_says_so_and_its_thread_ends(tmp_path: Path) -> None:
    before = threading.enumerate()
    connection = await Connection.open((tmp_path / "file.db").as_uri(), busy_timeout=1)
    (thread,) = [thread for thread in threading.enumerate() if thread not in before]
    await connection.close()
    await connection.close()
    await asyncio.to_thread(thread.join, 5)
    assert not thread.is_alive()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        await connection.do(lambda raw: raw.execute("SELECT 1"))


async def test_a_file_that_cant_be_opened_leaves_no_thread_behind(tmp_path: Path) -> None:
    before = threading.enumerate()
    with pytest.raises(sqlite3.OperationalError):
        await Connection.open((tmp_path / "no folder" / "file.db").as_uri(), busy_timeout=1)
    for thread in threading.enumerate():
        if thread not in before:
            await asyncio.to_thread(thread.join, 5)
            assert not thread.is_alive()
