"""ActiveRun: a run of this instance, from its claim to the release of its lease, and how far it is."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

from fastapi_crons._util.tasks import uncancel
from fastapi_crons._util.threads import Ended
from fastapi_crons.engine.runs.context import log_fields, run_context
from fastapi_crons.engine.runs.log import RunLog
from fastapi_crons.functions.arguments import arguments_text
from fastapi_crons.job import CronJob
from fastapi_crons.locking.base import ClaimResult, Lease, LeaseRef
from fastapi_crons.plugins.markers import HookContext
from fastapi_crons.run import INTERRUPTED, Run, RunError, RunStatus, Trigger
from fastapi_crons.schedule.due import TickRange

#: Why a run is cut off from outside.
Cut = Literal["timed_out", "cancelled", "interrupted", "lease_lost"]

_CUT_MESSAGES: dict[Cut, str] = {
    "timed_out": "did not end within its time limit",
    "cancelled": "was cancelled",
    "interrupted": "was cut off when the scheduler stopped",
    "lease_lost": "lost its lease: another instance may run the job by now",
}
_CUT_ERRORS: dict[Cut, str] = {"timed_out": "TimeoutError", "lease_lost": INTERRUPTED}


class Ending(NamedTuple):
    """How a run ended."""

    status: RunStatus
    error: RunError | None = None
    result: str | None = None


class Asked(NamedTuple):
    """The request for a manual run: when (Unix seconds), by whom, and with which note."""

    ts: float
    actor: str | None
    note: str | None


@dataclass(slots=True, eq=False, repr=False)
class ActiveRun:
    """A run and its state. The runner, the attempts and whoever starts it write down here how far it is."""

    job: CronJob
    id: str
    tick_ts: int | None
    trigger: Trigger
    attempt: int = 1
    #: Of a manual run; None for the run of a tick.
    asked: Asked | None = None
    timeout: float | None = field(init=False)
    #: What the function is called with, and the same as it is stored; None for a job without arguments.
    arguments: Mapping[str, object] = field(init=False)
    arguments_json: str | None = field(init=False)
    #: From the answer to its claim: the fencing token, the last handled tick before this one, and the run that was running
    #: already when this one was forced. `ref` names its lease.
    token: int = field(init=False)
    after: int = field(init=False)
    beside: str | None = field(init=False)
    ref: LeaseRef = field(init=False)
    #: From its start: where and when (Unix seconds) that was.
    instance: str = field(init=False)
    started_ts: float = field(init=False)
    #: Called when the run has ended and its lease is released: see `Runner.start`.
    on_end: Callable[[ActiveRun], None] = field(init=False)
    #: Makes its log; None where it keeps none.
    new_log: Callable[[ActiveRun], RunLog] | None = field(init=False)
    #: Earlier ticks that this run stands for.
    missed: TickRange | None = None
    #: Why the tick was claimed late.
    delay: str | None = None
    #: How the function ended, while the store has yet to say whose the lease is.
    ending: Ending | None = None
    log: RunLog | None = None
    task: asyncio.Task[None] | None = None
    #: Whether its task has begun: a task that is cancelled before that never begins.
    begun: bool = False
    #: Whether it waits for a thread or a process, and how long (seconds) it has waited.
    waits: bool = False
    waited: float = 0.0
    #: The thread's future, while a sync function runs.
    thread: asyncio.Future[Ended] | None = None
    #: Why the run was cut off, by whom, and how often its task was cancelled by us.
    cut: Cut | None = None
    cut_by: str | None = None
    cuts: int = 0
    #: Whether the function has ended: from then on the run is not cut off.
    function_ended: bool = False
    #: Whether the run waits for the function, or for the thread that it left behind.
    in_function: bool = False
    #: Whether a before-run hook vetoed it.
    vetoed: bool = False
    #: Its final record, once it has ended.
    outcome: Run | None = None
    #: What the function returned, as JSON text, for hooks: also where the result is not stored.
    result_json: str | None = None
    #: Whether the run has ended, and only waits for its lease to be released.
    releasing: bool = False
    #: Set when the run has ended and its lease is released, for callers that wait for it.
    ended: asyncio.Event | None = None

    def __post_init__(self) -> None:
        self.timeout = self.job.timeout
        self.arguments, self.arguments_json = self.job.kwargs, self.job.arguments_json

    def override(self, arguments: Mapping[str, object]) -> None:
        """Call the function with these arguments instead of the job's own ones of the same names."""
        if arguments:
            self.arguments = {**self.arguments, **arguments}
            self.arguments_json = arguments_text(self.arguments)

    def granted(self, result: ClaimResult) -> None:
        """Take over the answer to its claim, which was granted."""
        self.token, self.after, self.beside = result.token, result.last_handled, result.holder or None
        until_now = self.job.counts_from_end and self.trigger != "again"
        self.ref = LeaseRef(self.job.name, self.id, result.token, until_now)

    def keep_record(self, record: logging.LogRecord) -> None:
        """Keep a log record, unless the settings say that runs keep none. Most runs log nothing, and have no log."""
        if self.new_log is None:
            return
        if self.log is None:
            self.log = self.new_log(self)
            if self.outcome is not None:
                self.log.close()
        self.log.add(record)

    def lease(self, owner: str, expires: float) -> Lease:
        """The lease of this run, as a store keeps it."""
        schedule, zone = self.job.schedule.text, self.job.schedule_zone
        return Lease(
            self.job.name,
            self.id,
            self.tick_ts,
            owner,
            self.token,
            self.attempt,
            expires,
            self.after,
            schedule=schedule,
            timezone=zone,
        )

    def cut_off(self, reason: Cut, by: str | None = None) -> None:
        """Cancel the function; without effect once it has ended."""
        if not self.function_ended and self.task is not None:
            if self.cut is None or self.cut == "timed_out":
                self.cut, self.cut_by = reason, by
            if self.begun:
                self.cuts += 1
                self.task.cancel()

    def take_back_cuts(self) -> None:
        """Take back our own cancellations of its task, because it is to go on or has come to its end all the same."""
        for _ in range(self.cuts):
            uncancel()
        self.cut, self.cuts = None, 0

    @property
    def is_cancelled(self) -> bool:
        """Whether its task was cancelled from outside, as opposed to its code raising CancelledError by itself."""
        if self.cut is not None:
            return True
        if sys.version_info >= (3, 11):
            return self.task is not None and self.task.cancelling() > 0
        return False

    def cut_error(self, cut: Cut) -> RunError:
        """The error that is stored with a run that was cut off."""
        message = _CUT_MESSAGES[cut]
        if cut == "timed_out" and self.timeout is not None:
            message += f" of {self.timeout:g} s"
        if cut == "cancelled" and self.cut_by:
            message += f" by {self.cut_by}"
        if self.thread_lives:
            message += "; its thread can't be ended, and holds the job until it ends by itself"
        return RunError(_CUT_ERRORS.get(cut, "CancelledError"), message)

    @property
    def thread_lives(self) -> bool:
        """Whether a sync function still runs in its thread."""
        return self.thread is not None and not self.thread.done()

    @property
    def log_fields(self) -> dict[str, object]:
        return log_fields(self.snapshot())

    def context(self) -> HookContext:
        """What hooks learn of the run as it is now."""
        run = self.snapshot()
        if run.result_json != self.result_json:
            run = replace(run, result_json=self.result_json)
        return run_context(self.job, run, self.asked_ts)

    @property
    def asked_ts(self) -> float | None:
        return None if self.asked is None else self.asked.ts

    def snapshot(self) -> Run:
        return self.outcome or self.record("running", None)

    def so_far(self) -> Run:
        """The same with what it has logged so far."""
        if self.log is None or self.outcome is not None:
            return self.snapshot()
        log, dropped = self.log.read()
        return replace(self.record("running", None), log=log, log_dropped=dropped)

    def record(
        self, status: RunStatus, ended_ts: float | None, error: RunError | None = None, result: str | None = None
    ) -> Run:
        missed, asked = self.missed, self.asked
        return Run(
            self.id,
            self.job.name,
            self.tick_ts,
            self.trigger,
            self.attempt,
            self.instance,
            self.token,
            status,
            self.started_ts,
            ended_ts,
            error,
            result,
            0 if missed is None else missed.number,
            None if missed is None else missed.first,
            None if asked is None else asked.actor,
            None if asked is None else asked.note,
            self.beside,
            (),
            0,
            self.delay,
            self.waited,
            self.arguments_json,
        )
