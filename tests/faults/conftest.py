"""What the fault tests share, and the table at their end: what became of the ticks under each fault."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import pytest
from _pytest.terminal import TerminalReporter

from fastapi_crons import MissedTicks, Run
from fastapi_crons.engine.dispatch.lateness import NOT_CLAIMED
from fastapi_crons.state import HistoryLimits, SQLiteStateBackend, StateBackend
from fastapi_crons_redis import RedisStateBackend
from tests.faults.fleet import HEAD, Fleet, Sums, history_of
from tests.faults.redis_server import RedisServer, connection_to

#: For what measures how late ticks start, to a second of real time.
on_time = pytest.mark.second_try("another program can hold the machine for a second")

T = TypeVar("T")
History = dict[str, tuple[list[Run], list[MissedTicks]]]


class Report(Protocol):
    def __call__(self, fault: str, sums: Sums, recovery: float | None = None, because: str | None = None) -> None: ...


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """A private Redis server that the test may break, and that writes down what it answers."""
    with RedisServer(appendonly="always") as server:
        yield server


@pytest.fixture
def report(record_property: Callable[[str, object], None]) -> Report:
    """Adds a row to the table, and fails where ticks were lost, doubled, overlapped or misexplained.

    `because` is what has to be told of each tick that did not run by itself.
    """

    def add(fault: str, sums: Sums, recovery: float | None = None, because: str | None = None) -> None:
        record_property("fault", sums.row(fault, recovery))
        assert sums.doubled == []
        assert sums.missed == []
        assert sums.overlapped == []
        assert sums.misexplained == []
        if because is not None:
            let_go = [fate.text for fate in sums.fates.values() if fate.fate in ("covered", "missed")]
            # An instance that takes what another left need not know what kept that.
            assert [text for text in let_go if because not in text and NOT_CLAIMED not in text] == []
            assert because in sums.explained() or NOT_CLAIMED in sums.explained()

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
    return history(fleet, redis_state(url))


def redis_state(url: str) -> RedisStateBackend:
    """The state store on a Redis server, not open yet."""
    return RedisStateBackend.on(connection_to(url))


@dataclass(frozen=True)
class Place:
    """Which store a fleet shares, and whether its processes can judge each other by their pids."""

    name: str
    redis: RedisServer | None = None
    elsewhere: bool = False

    @property
    def takeover(self) -> float:
        """Within how many seconds a dead process's work is taken over, with the settings of a fleet."""
        return 6 + 1 + 1 if self.elsewhere else 1 + 1

    def fleet(self, **options: Any) -> Fleet:
        """A fleet that shares this store."""
        settings = {"CRON_REDIS_URL": self.redis.url} if self.redis is not None else {}
        return Fleet({**settings, **options.pop("settings", {})}, elsewhere=self.elsewhere, **options)

    def history(self, fleet: Fleet) -> History:
        """What the store has on record of a fleet's numbered jobs."""
        return history(fleet, self._state())

    def runs(self, job: str) -> list[Run]:
        """What the store has on record of the runs of one job, oldest first."""
        return self._read(lambda state: state.runs(job, limit=10_000))[::-1]

    def run(self, run_id: str) -> Run:
        """What the store has on record of one run, with its log."""
        found = self._read(lambda state: state.run(run_id))
        assert found is not None
        return found

    def missed(self, job: str) -> list[MissedTicks]:
        """What the store has on record of the missed ticks of one job, newest first."""
        return self._read(lambda state: state.missed(job, limit=10_000))

    def _read(self, query: Callable[[StateBackend], Awaitable[T]]) -> T:
        async def read() -> T:
            state = self._state()
            await state.open("default", HistoryLimits(10_000, 30))
            try:
                return await query(state)
            finally:
                await state.close()

        return asyncio.run(read())

    def _state(self) -> StateBackend:
        if self.redis is not None:
            return redis_state(self.redis.url)
        state: StateBackend = SQLiteStateBackend("crons.db")
        return state


@pytest.fixture(params=["SQLite", "Redis", "Redis across hosts"])
def place(request: pytest.FixtureRequest) -> Place:
    """Each store that a fleet can share."""
    return place_of(request.param, request)


def place_of(name: str, request: pytest.FixtureRequest) -> Place:
    """The place of this name, with a server of its own where it wants one."""
    redis = request.getfixturevalue("own_redis") if name.startswith("Redis") else None
    return Place(name, redis, elsewhere=name.endswith("across hosts"))


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
