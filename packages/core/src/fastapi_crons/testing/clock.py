"""VirtualClock: time that passes when a test says so."""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from datetime import datetime, timedelta
from math import inf
from typing import TYPE_CHECKING, Any

from fastapi_crons.clock import UTC, root_task, utc_datetime
from fastapi_crons.errors import CronsError
from fastapi_crons.run import short_id

if TYPE_CHECKING:
    from fastapi_crons.engine.runs.run import ActiveRun
    from fastapi_crons.scheduler.crons import Crons

logger = logging.getLogger(__name__)

#: After how many turns of the event loop with nothing to do the schedulers count as at rest.
_QUIET_TURNS = 5
#: After how many busy turns of the event loop to wait for threads.
_BUSY_TURNS = 10
#: The resolution (seconds) of a wall clock that is a float of Unix seconds.
_RESOLUTION = 1e-6
#: After which part of its patience a clock says what it waits for.
_WARNED_AT = 1 / 6
_ADVICE = (
    "let what it calls sleep on the clock (clock.sleep), replace it in the test, or pass finish_runs=False to advance()"
)
#: How long (seconds, real) to wait for threads before looking again.
_THREAD_WAIT = 0.0005


class VirtualTimer:
    """A pending call on a virtual clock."""

    __slots__ = ("callback", "cancelled")

    def __init__(self, callback: Callable[[], object]) -> None:
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class VirtualClock:
    """A `Clock` for tests: `advance` moves from timer to timer, and lets everything that is due happen in between.

    `start` is an aware datetime or ISO 8601 text with offset. `max_sleep` (seconds) bounds the scheduler's sleeps, which
    matters only to tests that `step` the wall clock. `patience` (seconds, real) is how long it waits for runs that do not
    sleep on this clock while none begins or ends: after a sixth of it the log names them, then `CronsError` is raised.
    """

    def __init__(
        self, start: datetime | str = "2026-01-01T00:00:00+00:00", *, max_sleep: float = inf, patience: float = 30
    ) -> None:
        if isinstance(start, str):
            start = datetime.fromisoformat(start.replace("Z", "+00:00"))
        if start.tzinfo is None:
            raise ValueError(f"start must be aware, not {start.isoformat()}; add an offset, e.g. +00:00")
        self.max_sleep = max_sleep
        self._patience = patience
        self._wall = start.timestamp()
        self._elapsed = 0.0
        self._timers: list[tuple[float, int, VirtualTimer]] = []
        self._sequence = 0
        #: How many tasks sleep on this clock, by the root task that they belong to.
        self._asleep: Counter[asyncio.Task[Any]] = Counter()

    def now(self) -> float:
        return self._wall + self._elapsed

    @property
    def datetime(self) -> datetime:
        """The wall clock (aware, UTC)."""
        return utc_datetime(self.now()).astimezone(UTC)

    def monotonic(self) -> float:
        return self._elapsed

    def call_later(self, delay: float, callback: Callable[[], object]) -> VirtualTimer:
        timer = VirtualTimer(callback)
        if delay != inf:
            self._sequence += 1
            heapq.heappush(self._timers, (self._elapsed + max(0.0, delay), self._sequence, timer))
        return timer

    async def sleep(self, delay: float) -> None:
        """Wait for virtual time to pass; for jobs under test, too."""
        woken = asyncio.get_running_loop().create_future()
        timer = self.call_later(delay, lambda: None if woken.done() else woken.set_result(None))
        task = root_task.get() or asyncio.current_task()
        assert task is not None
        self._asleep[task] += 1
        try:
            await woken
        finally:
            self._asleep[task] -= 1
            if not self._asleep[task]:
                del self._asleep[task]
            timer.cancel()

    async def wait(self, tasks: Collection[asyncio.Task[Any]], timeout: float) -> None:
        """Wait for tasks. Virtual time passes for those that sleep on this clock; others get `timeout` real seconds."""
        until, loop = self._elapsed + timeout, asyncio.get_running_loop()
        deadline = loop.time() + timeout
        while pending := [task for task in tasks if not task.done()]:
            for _ in range(_QUIET_TURNS):
                await asyncio.sleep(0)
            if all(task in self._asleep for task in pending):
                if not self._fire_next(until):
                    return
            elif loop.time() >= deadline:
                return
            else:
                await asyncio.sleep(_THREAD_WAIT)

    def step(self, seconds: float) -> None:
        """Step the wall clock, as an operator or NTP would; the monotonic clock does not change."""
        self._wall += seconds

    async def advance(
        self,
        *schedulers: Crons,
        days: float = 0,
        hours: float = 0,
        minutes: float = 0,
        seconds: float = 0,
        finish_runs: bool = True,
    ) -> None:
        """Let time pass for these schedulers.

        Before time moves on, everything that is due is done and recorded. `finish_runs` waits for the end of runs, too, unless
        they sleep on this clock; switch it off for jobs that wait for something the test does later. Raises `CronsError` where
        a run, or the schedulers themselves, take longer than the clock's patience.
        """
        until = self._elapsed + timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds).total_seconds()
        await self.settle(*schedulers, finish_runs=finish_runs)
        while self._fire_next(until):
            await self.settle(*schedulers, finish_runs=finish_runs)
        self._elapsed = max(until, self._elapsed)
        await self.settle(*schedulers, finish_runs=finish_runs)

    async def settle(self, *schedulers: Crons, finish_runs: bool = True) -> None:
        """Wait until the schedulers have nothing left to do at this instant. Raises as `advance`."""
        quiet = busy = 0
        wait = _Wait(self._patience)
        while quiet < _QUIET_TURNS:
            await asyncio.sleep(0)
            if all(crons.is_at_rest(self._asleep, finish_runs=finish_runs) for crons in schedulers):
                quiet += 1
                continue
            quiet, busy = 0, busy + 1
            if busy > _BUSY_TURNS:
                wait.goes_on(list(self._awake(schedulers, finish_runs)))
                await asyncio.sleep(_THREAD_WAIT)

    def _awake(self, schedulers: Collection[Crons], finish_runs: bool) -> Iterator[ActiveRun]:
        """The runs that have to end, or to sleep on this clock, before time moves on."""
        for crons in schedulers:
            if crons.engine is not None:
                yield from crons.engine.runs_awake(self._asleep, finish_runs=finish_runs)

    def _fire_next(self, until: float) -> bool:
        """Move on to the next timer that is due by `until`; False where there is none."""
        while self._timers and self._timers[0][0] <= until + _RESOLUTION:
            due, _, timer = heapq.heappop(self._timers)
            if not timer.cancelled:
                self._elapsed = max(self._elapsed, due)
                timer.callback()
                return True
        return False


class _Wait:
    """A wait, in real time, for schedulers that are busy."""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._runs: set[str] | None = None
        self._since, self._warned = 0.0, False

    def goes_on(self, runs: Collection[ActiveRun]) -> None:
        """Say which runs are waited for where that takes long. Raises `CronsError` where nothing happens for too long."""
        now = asyncio.get_running_loop().time()
        names = {run.id for run in runs}
        if names != self._runs:
            self._runs, self._since, self._warned = names, now, False
        waited = now - self._since
        over = waited >= self._patience
        if not over and (self._warned or waited < self._patience * _WARNED_AT):
            return
        what = ", ".join(map(_described, runs)) or "the schedulers, which wait for a store, a plugin or a thread"
        if not self._warned:
            logger.warning("time does not pass: %.3g real seconds were waited for %s; %s", waited, what, _ADVICE)
            self._warned = True
        if over:
            raise CronsError(f"time can't pass: {self._patience:g} real seconds were waited for {what}; {_ADVICE}")


def _described(run: ActiveRun) -> str:
    if run.waits:
        where = f"waits for a {run.job.run_in}"
    elif not run.in_function:
        where = "is in a hook, or waits for its lease"
    elif run.job.run_in == "loop":
        where = "is awaiting something in real time"
    else:
        where = f"is busy in a {run.job.run_in}, or in a dependency"
    return f"job {run.job.name!r}, which {where} (run {short_id(run.id)})"
