"""What the fault tests share, and the table at their end: what became of the ticks under each fault."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import pytest
from _pytest.terminal import TerminalReporter

from fastapi_crons import MissedTicks, Run
from fastapi_crons.state import HistoryLimits, StateBackend
from fastapi_crons_redis_state import RedisStateBackend
from fastapi_crons_redis_state._connection import Connection
from fastapi_crons_redis_state.settings import RedisSettings
from tests.faults.fleet import HEAD, Fleet, Sums, history_of
from tests.faults.redis_server import RedisServer

History = dict[str, tuple[list[Run], list[MissedTicks]]]
Report = Callable[[str, Sums, float | None], None]


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """A private Redis server that the test may break, and that writes down what it answers."""
    with RedisServer(appendonly="always") as server:
        yield server


@pytest.fixture
def report(record_property: Callable[[str, object], None]) -> Report:
    """Adds a row to the table, and fails where ticks were lost, doubled or overlapped."""

    def add(fault: str, sums: Sums, recovery: float | None = None) -> None:
        record_property("fault", sums.row(fault, recovery))
        assert sums.doubled == []
        assert sums.missed == []
        assert sums.overlapped == []

    return add


def history(fleet: Fleet, state: StateBackend) -> History:
    """What a store has on record of a fleet's jobs."""

    async def read() -> History:
        await state.open("default", HistoryLimits(10_000, 30))
        try:
            return await history_of(state, fleet.jobs)
        finally:
            await state.close()

    return asyncio.run(read())


def redis_history(fleet: Fleet, url: str) -> History:
    """What a Redis server has on record of a fleet's jobs."""
    return history(fleet, RedisStateBackend.on(Connection.by_settings(RedisSettings(url=url), 5)))


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    rows = [
        value
        for reports in terminalreporter.stats.values()
        for each in reports
        if getattr(each, "when", None) == "call"
        for name, value in each.user_properties
        if name == "fault"
    ]
    if rows:
        terminalreporter.section("what became of the ticks")
        for line in (*HEAD.splitlines(), *map(str, rows)):
            terminalreporter.write_line(line)
