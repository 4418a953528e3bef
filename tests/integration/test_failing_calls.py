"""Whichever call to a store fails, hangs or loses its answer: every tick has one fate, and no function runs twice for it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from itertools import product
from typing import Any, Literal

import pytest

from fastapi_crons import CronConfig, Crons, MissedTicks, Run
from fastapi_crons.errors import StoreUnavailableError
from fastapi_crons.locking import DistributedLockManager, LocalLockBackend
from fastapi_crons.state import HistoryLimits, MemoryStateBackend
from fastapi_crons.testing import VirtualClock
from tests.fleet_lock import Fleet, FleetLock
from tests.seam import Unheard

Fault = Literal["raises", "hangs", "loses its answer", "raises oddly"]
MINUTES = 6


class FailingOnce:
    """Makes one of the calls to a store fail; knows how many there were."""

    def __init__(self, number: int, fault: Fault) -> None:
        self.number, self.fault, self.calls = number, fault, 0
        self.armed = False

    async def call(self, method: Callable[..., Awaitable[Any]], *arguments: Any, **named: Any) -> Any:
        self.calls += self.armed
        if not self.armed or self.calls != self.number:
            return await method(*arguments, **named)
        if self.fault == "raises":
            raise StoreUnavailableError("it is down")
        if self.fault == "hangs":
            await asyncio.Event().wait()
        await method(*arguments, **named)
        if self.fault == "raises oddly":
            raise Unheard("the answer was lost")
        raise StoreUnavailableError("the answer was lost")


def _failing(kind: type[Any], failing: FailingOnce, names: tuple[str, ...]) -> Any:
    """A store of this kind, some of whose calls go through `failing`."""

    def through(name: str) -> Callable[..., Awaitable[Any]]:
        def call(self: Any, *arguments: Any, **named: Any) -> Awaitable[Any]:
            return failing.call(getattr(super(store, self), name), *arguments, **named)

        return call

    store = type(f"Failing{kind.__name__}", (kind,), {name: through(name) for name in names})
    return store()


LOCK_CALLS = ("register", "claim", "release", "renew", "last_handled", "beat", "leave")
STATE_CALLS = ("write", "run", "missed", "unfinished", "prune")


async def _live(failing: FailingOnce, lock: Any, state: Any) -> Counter[tuple[str, int]]:
    """Some minutes in the life of a scheduler; returns how often a function ran for each tick."""
    clock = VirtualClock("2026-03-01T00:00:30Z")
    config = CronConfig(store_timeout=0.05, heartbeat_interval=20, lock_timeout=300)
    crons = Crons(state_backend=state, lock_manager=DistributedLockManager(lock, config), config=config, clock=clock)
    ran: Counter[tuple[str, int]] = Counter()

    def add(name: str, seconds: float, **options: Any) -> None:
        @crons.cron("* * * * *", name=name, **options)
        async def job(context: Any) -> None:
            ran[name, int(context.tick.timestamp())] += 1
            await clock.sleep(seconds)

    add("quick", 0)
    add("long", 90)
    add("each", 0, coalesce=False)
    add("queued", 70, overlap="queue")
    add("retried", 0, max_retries=2)
    await crons.start()
    failing.armed = True
    try:
        for _ in range(MINUTES * 2):
            await clock.advance(crons, seconds=30)
            await asyncio.sleep(0)
        await clock.advance(crons, seconds=100)
    finally:
        await crons.stop()
    return ran


def _fates(runs: list[Run], missed: list[MissedTicks]) -> Counter[int]:
    fates: Counter[int] = Counter()
    for run in runs:
        if run.tick_ts is not None and run.attempt == 1:
            fates[run.tick_ts] += 1
    stood_for = {run.id: run.missed_ticks for run in runs if run.missed_ticks and run.attempt == 1}
    assert {row.id: row.count for row in missed if row.reason == "coalesced"} == stood_for
    for row in missed:
        fates.update(row.first_ts + 60 * each for each in range(row.count))
    return fates


class NewFleetLock(FleetLock):
    """The lock store of a fleet of one."""

    def __init__(self) -> None:
        super().__init__(Fleet())


@pytest.mark.parametrize(
    ("which", "fault"),
    [
        *product(("lock", "state"), ("raises", "hangs", "loses its answer", "raises oddly")),
        ("fleet", "raises oddly"),  # the heartbeat, too
    ],
)
async def test_every_tick_has_one_fate_whichever_call_fails(which: str, fault: Fault) -> None:
    number, calls = 1, 1
    while number <= calls:
        failing = FailingOnce(number, fault)
        kind = NewFleetLock if which == "fleet" else LocalLockBackend
        lock = _failing(kind, failing, LOCK_CALLS if which != "state" else ())
        state = _failing(MemoryStateBackend, failing, STATE_CALLS if which == "state" else ())
        await state.open("default", HistoryLimits(1000, 30))
        ran = await _live(failing, lock, state)
        calls = min(failing.calls, 40)
        assert {tick: times for tick, times in ran.items() if times > 1} == {}, f"call {number} {fault}"
        for job in ("quick", "long", "each", "queued", "retried"):
            fates = _fates(await state.runs(job, limit=500), await state.missed(job, limit=500))
            first, last = min(fates), max(fates)
            expected = dict.fromkeys(range(first, last + 1, 60), 1)
            assert dict(fates) == expected, f"call {number} {fault}: {job}"
            assert (last - first) // 60 >= MINUTES - 2
        number += 1
    assert number > 10
