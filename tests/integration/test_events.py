"""What is special to events in memory and in a SQLite file: who does not listen costs nothing, and is told so."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, closing, contextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from fastapi_crons import Run
from fastapi_crons.errors import StoreUnavailableError
from fastapi_crons.run import RunIds
from fastapi_crons.state import HistoryLimits, MemoryStateBackend, SQLiteStateBackend, StateBackend
from fastapi_crons.state.base import Event
from tests import seam
from tests.support import until_async

new_id = RunIds()


def a_run(job: str = "job") -> Run:
    return Run(new_id(), job, 60, "schedule", 1, "here", 7, "completed", 60.0, 61.0)


@pytest_asyncio.fixture
async def sqlite() -> AsyncIterator[SQLiteStateBackend]:
    state = SQLiteStateBackend("crons.db")
    await state.open("default", HistoryLimits(100, 30))
    yield state
    await state.close()


@contextmanager
def database() -> Iterator[sqlite3.Connection]:
    """A connection of somebody else's, closed at the end."""
    with closing(sqlite3.connect("crons.db")) as connection, connection:
        yield connection


def left_in_file() -> tuple[int, int]:
    """How many listeners, and how many events, the file has."""
    with database() as db:
        ((listeners, events),) = db.execute(
            "SELECT (SELECT count(*) FROM job_listener), (SELECT count(*) FROM job_event)"
        )
    return listeners, events


async def first(state: StateBackend) -> tuple[AsyncGenerator[Event, None], Event]:
    """A listener that has heard its first event."""
    events = state.events()
    assert events is not None
    in_file = isinstance(state, SQLiteStateBackend)
    before = left_in_file()[0] if in_file else 0
    listening = asyncio.ensure_future(anext(events))
    await asyncio.sleep(0)
    if in_file:
        await until_async(lambda: left_in_file()[0] > before)
    await state.write([a_run()])
    return events, await listening


async def test_a_listener_that_does_not_listen_is_let_go_by_the_memory() -> None:
    state = MemoryStateBackend()
    events, _ = await first(state)
    await state.write([a_run(f"job-{number}") for number in range(10_001)])
    with pytest.raises(StoreUnavailableError, match="too slow: 10000 events"):
        await anext(events)


async def test_only_signals_are_not_to_be_had_in_memory_and_in_a_file() -> None:
    assert MemoryStateBackend().events(records=False) is None
    assert SQLiteStateBackend().events(records=False) is None


async def test_a_file_keeps_no_events_where_nobody_listens(sqlite: SQLiteStateBackend) -> None:
    await sqlite.write([a_run()])
    assert left_in_file() == (0, 0)
    events, _ = await first(sqlite)
    assert left_in_file() == (1, 1)
    await events.aclose()
    assert left_in_file() == (0, 0)


async def test_a_listener_that_died_is_told_nothing_more_and_is_cleared_away(
    sqlite: SQLiteStateBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    with database() as db:
        db.execute("INSERT INTO job_listener VALUES ('dead', 'default', ?)", (time.time() - 40,))
        db.execute("INSERT INTO job_event VALUES (7, 'default', 'long ago', ?)", (time.time() - 70,))
    await sqlite.write([a_run()])
    assert left_in_file() == (1, 1)
    events, _ = await first(sqlite)
    async with aclosing(events):
        assert left_in_file() == (2, 2)
        later = time.time() + 15
        seam.SQLITE_EVENT_TIME.replace(monkeypatch, lambda: later)
        run = a_run()
        await sqlite.write([run])
        assert await anext(events) == run
        assert left_in_file() == (1, 2)


async def test_a_listener_that_does_not_ask_for_long_is_not_left_in_the_belief_that_it_heard_all(
    sqlite: SQLiteStateBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    events, _ = await first(sqlite)
    later = time.time() + 31
    seam.SQLITE_EVENT_TIME.replace(monkeypatch, lambda: later)
    with pytest.raises(StoreUnavailableError, match="too slow"):
        await anext(events)


async def test_a_listener_of_a_file_that_was_replaced_hears_that_it_has_to_begin_anew(
    sqlite: SQLiteStateBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    events, _ = await first(sqlite)
    for path in Path().glob("crons.db*"):
        path.unlink()
    later = time.time() + 15
    seam.SQLITE_EVENT_TIME.replace(monkeypatch, lambda: later)
    with pytest.raises(StoreUnavailableError, match="the file was replaced"):
        await anext(events)


async def test_a_listener_of_a_store_that_is_closed_ends_and_the_file_stays_closed() -> None:
    state = SQLiteStateBackend("crons.db")
    await state.open("default", HistoryLimits(100, 30))
    events, _ = await first(state)
    await state.close()
    with pytest.raises(StoreUnavailableError, match="not open"):
        await anext(events)
    assert not Path("crons.db-wal").exists()
