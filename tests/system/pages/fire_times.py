"""When an app's jobs are due, asked of the library that the app is written for. A program:

    python fire_times.py apscheduler app.py 2030-10-21T00:00:00Z 21

prints, as JSON, the ticks of each job in so many days from that instant, at which the app is started. The days pass in no time.
The app's library must be installed; for those of others, time-machine as well.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import ModuleType
from typing import Any

#: Names of jobs, each with its ticks.
Ticks = dict[str, list[datetime]]
Load = Callable[[], ModuleType]


@contextmanager
def standing_still(at: datetime) -> Iterator[Callable[[datetime], None]]:
    """Until the end, it is always the time that was last given to what this yields."""
    import time_machine

    with time_machine.travel(at, tick=False) as traveller:
        yield traveller.move_to


def _start_and_stop(module: ModuleType) -> None:
    """See that the app of a module runs, where it has one."""

    async def start_and_stop() -> None:
        async with module.app.router.lifespan_context(module.app):
            pass

    if hasattr(module, "app"):
        asyncio.run(start_and_stop())


def apscheduler(load: Load, start: datetime, until: datetime) -> Ticks:
    """By the triggers of `scheduler`, but for their jitter, which is no tick."""
    with standing_still(start):
        module = load()
    jobs = module.scheduler.get_jobs()
    _start_and_stop(module)
    found: Ticks = {job.id: [] for job in jobs}
    for job in jobs:
        if hasattr(job.trigger, "jitter"):
            job.trigger.jitter = None
        last, now = None, start
        while (tick := job.trigger.get_next_fire_time(last, now)) is not None and tick <= until:
            found[job.id].append(tick)
            last, now = tick, tick.astimezone(timezone.utc) + timedelta(microseconds=1)
    return found


def celery(load: Load, start: datetime, until: datetime) -> Ticks:
    """By the entries that beat makes of `app`, asked as beat asks them."""
    from celery.beat import Scheduler

    found: Ticks = defaultdict(list)
    with standing_still(start) as move_to:
        entries = dict(Scheduler(load().app).schedule)
        for name, entry in entries.items():
            now, each = start, entry
            while now <= until:
                move_to(now)
                due, wait = each.is_due()
                if due:
                    found[name].append(now)
                    each = next(each)
                now += timedelta(seconds=wait)
    return found


class _Timeless(asyncio.SelectorEventLoop):
    """A loop on which every sleep is over at once, and its time has passed."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0

    def time(self) -> float:
        return self._now

    def _run_once(self) -> None:
        inner: Any = super()
        if not self._ready and self._scheduled:  # type: ignore[attr-defined]
            self._now = max(self._now, self._scheduled[0].when())  # type: ignore[attr-defined]
        inner._run_once()


def repeat_every(load: Load, start: datetime, until: datetime) -> Ticks:
    """By running `app`."""
    from fastapi_utils import tasks

    found: Ticks = defaultdict(list)
    call = tasks._handle_func

    async def call_and_tell(function: Callable[[], object]) -> None:
        found[function.__name__].append(start + timedelta(seconds=asyncio.get_running_loop().time()))
        await call(function)

    tasks._handle_func = call_and_tell

    async def run() -> None:
        app = load().app
        async with app.router.lifespan_context(app):
            await asyncio.sleep((until - start).total_seconds() + 0.5)

    loop = _Timeless()
    loop.run_until_complete(run())
    return found


def fastapi_crons_2(load: Load, start: datetime, until: datetime) -> Ticks:
    """By the jobs of `crons`, moved on as their loops do."""
    with standing_still(start):
        module = load()
    _start_and_stop(module)
    found: Ticks = defaultdict(list)
    for job in module.crons.jobs:
        while job.next_run <= until:
            found[job.name].append(job.next_run)
            job.update_next_run(job.next_run)
    return found


def here(load: Load, start: datetime, until: datetime) -> Ticks:
    """By the schedules of the jobs of `crons`."""
    return {job.name: list(job.schedule.between(start, until)) for job in load().crons.get_jobs()}


def run_here(load: Load, start: datetime, until: datetime) -> Ticks:
    """By running the jobs of `crons`."""
    from fastapi_crons import CronConfig, Crons
    from fastapi_crons.state import MemoryStateBackend
    from fastapi_crons.testing import VirtualClock

    found: Ticks = defaultdict(list)

    def tell(job_name: str, context: dict[str, Any]) -> None:
        found[job_name].append(datetime.fromisoformat(context["scheduled_time"]))

    async def run() -> None:
        app_crons = load().crons
        clock = VirtualClock(start)
        config = CronConfig(enabled=True, timezone=app_crons.config.timezone)
        crons = Crons(state_backend=MemoryStateBackend(), clock=clock, config=config)
        crons.jobs.extend(app_crons.get_jobs())
        crons.add_before_run_hook(tell)
        async with crons:
            await clock.advance(crons, seconds=(until - start).total_seconds())

    asyncio.run(run())
    return found


KINDS = {each.__name__: each for each in (apscheduler, celery, repeat_every, fastapi_crons_2, here, run_here)}


def main(kind: str, path: str, start: str, days: str) -> None:
    """Print the ticks."""
    sys.path.insert(0, str(Path(path).parent.resolve()))
    begin = datetime.fromisoformat(start.replace("Z", "+00:00"))
    found = KINDS[kind](lambda: importlib.import_module(Path(path).stem), begin, begin + timedelta(days=float(days)))
    ticks = {job: [f"{at.astimezone(timezone.utc):%Y-%m-%d %H:%M:%S}" for at in each] for job, each in found.items()}
    print(json.dumps(ticks))


if __name__ == "__main__":
    main(*sys.argv[1:])
