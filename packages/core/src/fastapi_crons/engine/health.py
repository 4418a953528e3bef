"""Health: whether a scheduler does its work, and what an operator should look at."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from fastapi_crons.schedule.due import tick_source

if TYPE_CHECKING:
    from fastapi_crons.engine.engine import Engine

Status = Literal["ok", "degraded", "unhealthy"]

#: The dispatcher sleeps so long at most; when it has been silent for so much longer (seconds), it is stuck.
_STUCK_AFTER = 15.0
#: A run that goes on over so many ticks of its job is worth a look.
_PERIODS = 3
#: How many names a finding lists.
_NAMES = 5


@dataclass(frozen=True, slots=True)
class Health:
    """How a scheduler is. `unhealthy`: it does not do its work; `degraded`: it does, and something is to be looked at."""

    status: Status
    findings: tuple[str, ...] = ()
    """One sentence each; without secrets."""
    summaries: tuple[str, ...] = ()
    """The same without the texts of errors, for those who are not shown them."""


def health_of(engine: Engine) -> Health:
    """The health of a running scheduler; asks no store."""
    failures, concerns = list(_failures(engine)), list(_concerns(engine))
    status: Status = "unhealthy" if failures else "degraded" if concerns else "ok"
    findings = [f"{summary}: {cause}" for summary, cause in failures]
    return Health(status, (*findings, *concerns), (*(summary for summary, _ in failures), *concerns))


def _failures(engine: Engine) -> Iterator[tuple[str, str]]:
    """What keeps the scheduler from its work, each with its cause."""
    if engine.waits_for_stores is not None:
        yield "the scheduler waits for its stores, and runs nothing until it has them", engine.waits_for_stores
        return
    if engine.locks.fault is not None:
        yield "the lock store does not answer, nothing is started", engine.locks.fault
    if engine.recorder.fault is not None:
        yield f"the state store does not answer, {engine.recorder.waiting} records wait", engine.recorder.fault
    for task, fault in engine.supervisor.recent_faults().items():
        yield f"the {task} task failed and was started again", fault
    silent = engine.dispatcher.silent_for()
    if engine.runs_ticks and silent > engine.clock.max_sleep + _STUCK_AFTER and engine.locks.fault is None:
        yield (
            f"no due tick was looked for in {silent:.0f} s",
            "something holds the event loop, or the lock store is slow",
        )


def _concerns(engine: Engine) -> Iterator[str]:
    if engine.role != "scheduler":
        yield f"this was started as an {engine.role}: no tick is run here"
    yield from engine.surroundings
    silent = engine.membership.silent_for_too_long()
    if silent is not None:
        yield f"the lock store has answered no heartbeat for {silent:.0f} s"
    names = engine.dispatcher.jobs.not_in_force()
    if names:
        yield f"another definition was registered since, so this instance does not run {_some(names)}"
    names = engine.dispatcher.jobs.other_functions()
    if names:
        yield f"another function is registered under the same name for {_some(names)}"
    names = engine.dispatcher.jobs.marks_ahead()
    if names:
        yield f"the newest handled tick lies ahead of the clock, so nothing runs until then for {_some(names)}"
    names = engine.dispatcher.unfit_schedules()
    if names:
        yield f"the schedule fails or breaks its protocol, so nothing is run by it, of {_some(names)}"
    names = [run.job.name for run in engine.runner.active.values() if run.outcome is not None and run.thread_lives]
    if names:
        yield f"a thread goes on after its run was given up, and holds {_some(names)}"
    yield from _full_pools(engine)
    names = list(_long_runs(engine))
    if names:
        yield f"a run goes on for more than {_PERIODS} periods of {_some(names)}"
    damaged = sorted({*engine.locks.backend.damaged(), *engine.state.damaged()})
    if damaged:
        yield f"what is on record is damaged, and is passed over: {_some(damaged)}"
    if engine.recorder.dropped:
        yield f"{engine.recorder.dropped} records were dropped while the state store was down"


def _full_pools(engine: Engine) -> Iterator[str]:
    """Pools of threads that are full, while something waits for a thread. No time limit begins before there is one."""
    runs = [run for run in engine.runner.active.values() if not run.job.is_async]
    held_by = [run.job.name for run in runs if not run.waits]
    waiting = 0
    if len(held_by) >= engine.max_threads:
        waiting = len(runs) - len(held_by) + engine.dispatcher.waiting_for_threads
    if waiting:
        held = _some(list(dict.fromkeys(held_by)))
        wait = "1 job waits" if waiting == 1 else f"{waiting} jobs wait"
        yield f"the pool of threads for jobs is full, and {wait}: all {engine.max_threads} are taken, by {held}"
    waiting = engine.hooks.waiting
    if waiting:
        wait = "1 call waits" if waiting == 1 else f"{waiting} calls wait"
        yield f"the pool of threads for hooks is full, and {wait}: all {engine.hooks.threads} are taken"


def _long_runs(engine: Engine) -> Iterator[str]:
    now = engine.clock.now()
    for run in engine.runner.active.values():
        if run.outcome is None:
            ticks = tick_source(run.job.schedule).ticks_between(int(run.started_ts), int(now))
            with suppress(Exception):  # a schedule of somebody else's, which is told of elsewhere
                if sum(1 for _, _ in zip(range(_PERIODS), ticks, strict=False)) == _PERIODS:
                    yield run.job.name


def _some(names: list[str]) -> str:
    shown = ", ".join(map(repr, names[:_NAMES]))
    return shown if len(names) <= _NAMES else f"{shown} and {len(names) - _NAMES} more"
