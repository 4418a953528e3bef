"""What fails again and again, or is skipped tick by tick, is logged now and then: how often, in virtual time."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastapi_crons import SkipRun
from fastapi_crons._util.backoff import Meter
from fastapi_crons._util.tasks import Supervisor
from fastapi_crons._util.text import counted, span
from fastapi_crons.errors import StoreUnavailableError
from fastapi_crons.locking import DistributedLockManager, LocalLockBackend
from fastapi_crons.locking.base import Reach
from fastapi_crons.state import MemoryStateBackend
from fastapi_crons.testing import VirtualClock
from tests.conftest import MakeCrons
from tests.support import missed_of, nothing, runs_of

_LOCK_CALLS = (
    "register",
    "claim",
    "release",
    "renew",
    "last_handled",
    "beat",
    "instances",
    "known",
    "leased",
    "forget",
)
_STATE_CALLS = ("write", "run", "runs", "missed", "unfinished", "prune", "forget")


def _through(kind: type[Any], name: str) -> Callable[..., Any]:
    inner = getattr(kind, name)

    async def call(self: Any, *arguments: Any, **named: Any) -> Any:
        if self.down:
            raise StoreUnavailableError("connection refused")
        return await inner(self, *arguments, **named)

    return call


class Locks(LocalLockBackend):
    """A lock store that can be switched off; kept alive by heartbeats, as those of a fleet are."""

    reach: ClassVar[Reach] = "fleet"
    down = False


class State(MemoryStateBackend):
    """A state store that can be switched off."""

    down = False


for _name in _LOCK_CALLS:
    setattr(Locks, _name, _through(LocalLockBackend, _name))
for _name in _STATE_CALLS:
    setattr(State, _name, _through(MemoryStateBackend, _name))


def said(caplog: pytest.LogCaptureFixture, level: int = logging.WARNING) -> list[str]:
    """The messages of the scheduler from this level on, since this was asked last."""
    found = [
        record.getMessage()
        for record in caplog.records
        if record.name.startswith("fastapi_crons") and record.levelno >= level
    ]
    caplog.clear()
    return found


async def test_an_outage_of_the_lock_store_is_logged_now_and_then(
    make_crons: MakeCrons, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    store = Locks()
    crons = make_crons(lock_manager=DistributedLockManager(store))
    crons.cron("* * * * *", name="each minute")(nothing)
    crons.cron("* * * * * *", name="each second")(nothing)
    await crons.start()
    await clock.advance(crons, minutes=2, seconds=0.5)
    said(caplog)
    store.down = True
    await clock.advance(crons, minutes=16)
    outage = said(caplog)
    assert len(outage) == 4, outage
    assert outage[0] == (
        "the lock store does not answer, nothing is started until it does: StoreUnavailableError: connection refused"
    )
    for line, minutes in zip(outage[1:], (1, 5, 15), strict=True):
        seconds = minutes * 60
        assert f"has not answered for {minutes} minute" in line, line
        waiting = int(line.partition("tick")[0].split()[-1])
        assert seconds + minutes - 5 <= waiting <= seconds + minutes + 10, line
    store.down = False
    await clock.advance(crons, seconds=30)
    # A run ends in real time: the next tick may meet the one of the late ticks.
    (over,) = (line for line in said(caplog) if "the job was still running" not in line)
    assert over.startswith("the lock store answers again, after 16 minutes")


async def test_an_outage_of_both_stores_says_each_cause_once(
    make_crons: MakeCrons, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    locks, state = Locks(), State()
    crons = make_crons(lock_manager=DistributedLockManager(locks), state_backend=state)

    @crons.cron("* * * * * *", name="long", overlap="allow")
    async def long() -> None:
        await clock.sleep(20)

    await crons.start()
    await clock.advance(crons, seconds=30)
    said(caplog)
    locks.down = state.down = True
    await clock.advance(crons, minutes=4)
    outage = said(caplog)
    assert len([line for line in outage if "connection refused" in line]) == 4, outage
    assert len(outage) == 4, outage
    locks.down = state.down = False
    await clock.advance(crons, seconds=30)
    assert len([line for line in said(caplog) if "answers again" in line]) == 2


async def test_an_outage_of_the_state_store_says_how_many_records_wait(
    make_crons: MakeCrons, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    state = State()
    crons = make_crons(state_backend=state)
    crons.cron("*/10 * * * *", name="tens")(nothing)
    await crons.start()
    await clock.advance(crons, minutes=9, seconds=59)
    said(caplog)
    state.down = True
    await clock.advance(crons, minutes=25)
    outage = said(caplog)
    # What prunes the store each minute finds the outage first.
    assert [line for line in outage if "does not answer" in line] == [
        "the state store does not answer; jobs run, and 1 record to be written: StoreUnavailableError: connection refused"
    ]
    assert "the state store has not answered for 15 minutes" in outage[-1]
    assert "2 records to be written" in outage[-1]
    assert len(outage) <= 5, outage
    state.down = False
    await clock.advance(crons, minutes=2)
    over = said(caplog)
    # It was found a moment after it began, or after a prune, which comes each minute.
    assert [line for line in over if re.search("the state store answers again, after 2[45] minutes", line)], over


async def test_a_store_that_comes_and_goes_is_logged_now_and_then(
    make_crons: MakeCrons, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    store = Locks()
    crons = make_crons(lock_manager=DistributedLockManager(store))
    crons.cron("* * * * * *", name="each second")(nothing)
    await crons.start()
    await clock.advance(crons, seconds=10)
    said(caplog)
    for _ in range(60):
        store.down = True
        await clock.advance(crons, seconds=10)
        store.down = False
        await clock.advance(crons, seconds=10)
    assert len(said(caplog)) <= 8


@pytest.mark.parametrize("minutes", [1, 16])
async def test_a_hook_that_fails_each_time_is_logged_now_and_then(
    make_crons: MakeCrons, clock: VirtualClock, caplog: pytest.LogCaptureFixture, minutes: int
) -> None:
    crons = make_crons()
    crons.cron("* * * * * *", name="each second")(nothing)
    broken = True

    def alert(job_name: str, context: dict[str, Any]) -> None:
        if broken:
            raise ConnectionError("no route to the pager")

    crons.add_after_run_hook(alert)
    await crons.start()
    await clock.advance(crons, minutes=minutes, seconds=-0.5)
    lines = said(caplog)
    assert len(lines) == (1 if minutes == 1 else 4), lines
    assert lines[0].startswith(f"hook after_run {__name__}:test_a_hook_that_fails")
    assert "failed: ConnectionError: no route to the pager" in lines[0]
    if minutes > 1:
        assert lines[1].endswith("; 61 times in 1 minute")
    broken = False
    await clock.advance(crons, seconds=5)
    (over,) = said(caplog)
    assert over.endswith(f"works again, after {minutes * 60 - 1} failures")


async def test_a_job_that_skips_each_second_says_so_once_for_each_run_in_its_way(
    make_crons: MakeCrons, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    crons = make_crons()

    @crons.cron("* * * * * *", name="slow")
    async def slow() -> None:
        await clock.sleep(299.5)

    await crons.start()
    await clock.advance(crons, seconds=600.5)
    first, second = await runs_of(crons, "slow")
    rows = await missed_of(crons, "slow")
    assert [row.count for row in rows] == [299, 299]
    lines = said(caplog)
    assert len(lines) == 4, lines
    for run, number in ((first, 0), (second, 2)):
        line, end = lines[number : number + 2]
        assert line.startswith("job 'slow': the tick of 2026-03-01T00:0")
        assert f"was not run: the job was still running: run {run.id} held the job" in line
        assert end.startswith("job 'slow': 298 more ticks up to ")


async def test_a_job_that_skips_one_tick_says_so_in_one_line(
    make_crons: MakeCrons, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    crons = make_crons()

    @crons.cron("* * * * *", name="slow")
    async def slow() -> None:
        await clock.sleep(90)

    await crons.start()
    await clock.advance(crons, minutes=3)
    (line,) = said(caplog)
    assert "the tick of 2026-03-01T00:02:00+00:00 was not run: the job was still running" in line


async def test_ticks_that_are_vetoed_one_by_one_are_counted(
    make_crons: MakeCrons, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    crons = make_crons()
    crons.cron("* * * * * *", name="switched off")(nothing)

    def veto(job_name: str, context: dict[str, Any]) -> None:
        raise SkipRun("the feature is off")

    crons.add_before_run_hook(veto)
    await crons.start()
    await clock.advance(crons, minutes=20, seconds=0.5)
    lines = said(caplog)
    assert len(lines) == 4, lines
    assert (
        "the tick of 2026-03-01T00:00:01+00:00 was not run: a before-run hook vetoed it: the feature is off" in lines[0]
    )
    assert "60 ticks up to 2026-03-01T00:01:01+00:00 were not run" in lines[1]


async def test_history_that_cannot_be_deleted_is_not_logged_each_minute(
    make_crons: MakeCrons, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    class Stubborn(State):
        async def prune(self, now: float) -> None:
            raise StoreUnavailableError("permission denied")

    crons = make_crons(state_backend=Stubborn())
    await crons.start()
    said(caplog)
    await clock.advance(crons, minutes=59)
    lines = said(caplog)
    assert len(lines) <= 7, lines
    assert all("permission denied" in line for line in lines)


async def test_a_task_of_the_scheduler_that_fails_at_once_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    supervisor, failures, often = Supervisor(), 0, asyncio.Event()

    async def fail() -> None:
        nonlocal failures
        failures += 1
        if failures == 4:
            often.set()
        raise RuntimeError("broken")

    supervisor.start("dispatch", fail)
    await often.wait()
    await supervisor.cancel("dispatch", 1)
    (line,) = said(caplog)
    assert line.startswith("the scheduler's dispatch task failed")


@given(st.lists(st.floats(0.01, 5), min_size=1, max_size=400), st.integers(1, 3))
def test_however_often_something_fails_it_is_logged_at_once_and_then_at_growing_intervals(
    steps: list[float], callers: int
) -> None:
    meter, now, logged = Meter(), 100.0, []
    for number, step in enumerate(steps):
        if meter.failed(now, f"caller {number % callers}") is not None:
            logged.append(now - 100.0)
        now += step
    allowed = [0.0, *(reminder for reminder in (60.0, 300.0, 900.0, 1800.0) if reminder <= now - 100)]
    assert len(logged) <= len(allowed)
    assert logged[0] == 0.0
    assert all(at >= reminder for at, reminder in zip(logged, allowed, strict=False))


@given(st.lists(st.tuples(st.booleans(), st.floats(0.1, 30)), min_size=1, max_size=300))
def test_what_is_said_to_be_over_was_said_to_have_begun(events: list[tuple[bool, float]]) -> None:
    meter, now, known = Meter(), 0.0, False
    for fails, step in events:
        now += step
        if fails:
            known = meter.failed(now) is not None or known
        elif meter.works(now) is not None:
            assert known
            known = False
        else:
            assert not known


@pytest.mark.parametrize(("number", "words"), [(0, "0 ticks"), (1, "1 tick"), (2, "2 ticks"), (10_000, "10000 ticks")])
def test_numbers_have_their_plural(number: int, words: str) -> None:
    assert counted(number, "tick") == words
    assert counted(number, "tick", more=True) == f"at least {words}"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 seconds"), (1, "1 second"), (61, "1 minute and 1 second"), (3600, "1 hour"), (90_061, "1 day and 1 hour")],
)
def test_durations_are_told_in_the_units_that_matter(seconds: float, words: str) -> None:
    assert span(seconds) == words
