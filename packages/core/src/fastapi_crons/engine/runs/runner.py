"""Runner: the path of a run, whether a tick or a person asked for it.

before hooks → function (retried, within its time limit) → record → after or error hooks → lease released
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from fastapi_crons._util.exceptions import is_a
from fastapi_crons._util.os_signals import InterruptWatch
from fastapi_crons._util.part import Finding, Part, listed
from fastapi_crons._util.tasks import Background
from fastapi_crons._util.text import cut, printable, traceback_text, type_name
from fastapi_crons.clock import Clock, root_task
from fastapi_crons.engine.runs.attempt import Attempts
from fastapi_crons.engine.runs.log import capture_records
from fastapi_crons.engine.runs.outcome import OutcomeFilter
from fastapi_crons.engine.runs.run import ActiveRun, Ending
from fastapi_crons.errors import SkipRun
from fastapi_crons.functions.dependencies import Served
from fastapi_crons.job import PLACES, CronJob, Place
from fastapi_crons.logs import log_error, shortened
from fastapi_crons.run import Run, RunError, RunStatus, current_run, short_id
from fastapi_crons.schedule.due import TickRange, tick_source

if TYPE_CHECKING:
    from fastapi_crons.config import CronConfig
    from fastapi_crons.engine.runs.journal import Journal
    from fastapi_crons.engine.runs.recorder import Recorder
    from fastapi_crons.locking.leases import LeaseBook
    from fastapi_crons.plugins.calls import HookCaller
    from fastapi_crons.plugins.registry import Plugins

# A name for log configurations, wherever this module is.
logger = logging.getLogger("fastapi_crons.runner")

#: How often (seconds) a run looks whether the store has said whose its lease is.
_LOOK_AGAIN_AFTER = 0.1
#: How long (seconds) cancelled runs get to end at a stop before they are abandoned.
CANCEL_GRACE = 1.0
#: A run that takes longer than so many periods of its schedule is reported by health.
_PERIODS = 3
#: How many characters of an error message are logged; all of it is stored with the run.
_LOGGED = 500


@dataclass(eq=False, repr=False)
class Runner(Part):
    """Executes runs, has their outcomes recorded, and calls their hooks."""

    _config: CronConfig
    _clock: Clock
    _plugins: Plugins
    _hooks: HookCaller
    _recorder: Recorder
    _journal: Journal
    _leases: LeaseBook
    _background: Background
    _instance_id: str
    _interrupts: InterruptWatch
    _served: Callable[[], Served]
    #: Makes the heartbeat ask the store now.
    _ask_about_leases: Callable[[], None]
    #: Called after a run that lost its lease.
    _on_lost: Callable[[ActiveRun], None]
    #: Called from any thread when a run has logged something.
    _on_log_growth: Callable[[], None]

    def __post_init__(self) -> None:
        self._keeps_logs = self._config.enabled and self._config.max_log_chars > 0
        self._filter = OutcomeFilter(self._config, self._hooks, self._clock, self._on_log_growth)
        self._new_log = self._filter.new_log if self._keeps_logs else None
        self._attempts = Attempts(
            self._config, self._clock, self._plugins, self._hooks, self._served, self._settle_lease
        )
        self._create_task = asyncio.get_running_loop().create_task
        self.active: dict[str, ActiveRun] = {}
        #: How many of the active runs are where, and how many are runs of late ticks.
        self.in_place: dict[Place, int] = dict.fromkeys(PLACES, 0)
        self.catching_up = 0

    async def startup(self) -> None:
        if self._keeps_logs:
            capture_records()

    async def shutdown(self, timeout: float) -> None:
        """Let runs finish within `shutdown_timeout`, cancel the rest, and give their hooks as long as hooks may take."""
        self._leases.stop()
        await self._wait_for_runs(self._config.shutdown_timeout)
        for run in list(self.active.values()):
            run.cut_off("interrupted" if run.job.run_in == "thread" else "cancelled", "the stop of its scheduler")
        await self._wait_for_runs(CANCEL_GRACE)
        for run in list(self.active.values()):
            if run.outcome is None:
                self._abandon(run)
        # The runs that are left have ended, and their hooks are running.
        await self._wait_for_runs(self._config.hook_timeout)
        for run in list(self.active.values()):
            self._abandon(run)

    def findings(self) -> Iterator[Finding]:
        names = [run.job.name for run in self.active.values() if run.outcome is not None and run.thread_lives]
        if names:
            yield Finding(f"a thread is still running after its run was abandoned, and holds {listed(names)}")
        names = list(self._long_runs())
        if names:
            yield Finding(f"a run has taken more than {_PERIODS} periods of its schedule: {listed(names)}")

    def _long_runs(self) -> Iterator[str]:
        now = self._clock.now()
        for run in self.active.values():
            if run.outcome is None:
                with suppress(Exception):  # a schedule of the app's own, whose failures are reported elsewhere
                    ticks = tick_source(run.job.schedule).ticks_between(int(run.started_ts), int(now))
                    if sum(1 for _, _ in zip(range(_PERIODS), ticks, strict=False)) == _PERIODS:
                        yield run.job.name

    async def _wait_for_runs(self, timeout: float) -> None:
        await self._clock.wait({run.task for run in self.active.values() if run.task is not None}, timeout)

    def start(self, run: ActiveRun, on_end: Callable[[ActiveRun], None]) -> None:
        """Start a run whose lease is held. `on_end` is called when it has ended and its lease is released."""
        run.on_end, run.new_log = on_end, self._new_log
        run.instance = self._instance_id
        run.started_ts = self._clock.now()
        self._leases.hold(run.ref)
        self.in_place[run.job.run_in] += 1
        self.catching_up += run.trigger == "catch_up"
        self.active[run.id] = run
        self._recorder.started(run.id, run)
        run.task = self._create_task(self._execute(run))

    def note(self, job: CronJob, text: str | None) -> str | None:
        """The note of a manual run or a pause, cut and redacted."""
        return self._filter.note(job.name, text)

    def _abandon(self, run: ActiveRun) -> None:
        """Give up a run that does not end at a stop: close its record and release its lease."""
        if run.outcome is None:
            if run.ending is None:
                logger.error(
                    "job %r: run %s did not end in time, and is abandoned",
                    run.job.name,
                    short_id(run.id),
                    extra=run.log_fields,
                )
            self._end(run, *(run.ending or Ending("interrupted", run.cut_error("interrupted"))))
            if self._hooks.implemented("on_error", run.job.name):
                self._background.start(self._hooks.for_job("on_error", run.job.name, run.context()))
        self._release(run)
        if run.task is not None:
            # At its end `asyncio.run` waits for every registered task, and this one swallows its cancellation. It stays
            # pending, and does nothing more for the run if it resumes.
            asyncio._unregister_task(run.task)  # documented under "Extending asyncio"

    async def _execute(self, run: ActiveRun) -> None:
        """The run's task. Whatever is raised in it, the run gets an outcome, and its lease is released."""
        run.begun = True
        root_task.set(run.task)
        current_run.set(run)
        try:
            await self._carry_out(run)
        except BaseException as error:
            if run.outcome is None:
                run.log = None  # the log may be what can't be stored
                self._end(run, "failed", RunError(type_name(error), "its outcome can't be stored"), None)
            # Other exceptions don't leave the task, or the event loop would report them. An abandoned task is closed some day.
            if is_a(error, (asyncio.CancelledError, GeneratorExit)) or self._is_interrupt(error):
                raise
            logger.error(
                "job %r: an error occurred after its run\n%s", run.job.name, traceback_text(error), extra=run.log_fields
            )
        finally:
            if run.id in self.active:
                self._release_after_thread(run)
            # No cycle of task, context and run is left to the garbage collector.
            run.task = None
            root_task.set(None)

    async def _carry_out(self, run: ActiveRun) -> None:
        ending = await self._call(run)
        if run.cut == "lease_lost" and ending.error is None and not self._leases.is_lost(run.id):
            run.take_back_cuts()  # the function ended by itself before it was cancelled
        if run.cut is None and not self._leases.trusts(run.id):
            ending = await self._settled(run, ending)
        if run.outcome is not None:
            return  # it was abandoned at a stop, and has its record
        if run.cut is not None and ending.error is None and not run.function_ended:
            ending = Ending(*self._after_cancellation(run, None))
        self._end(run, *ending)
        hook = "after_run" if ending.status == "completed" else "on_error"
        if not run.vetoed and self._hooks.implemented(hook, run.job.name):
            await self._hooks.for_job(hook, run.job.name, run.context())

    async def _settle_lease(self, run: ActiveRun) -> None:
        """Where the lease of a run is in doubt, wait until the store has said whose it is, or until a stop."""
        if self._leases.is_open(run.id):
            self._ask_about_leases()
            while self._leases.is_open(run.id):
                await self._clock.sleep(_LOOK_AGAIN_AFTER)

    async def _settled(self, run: ActiveRun, ending: Ending) -> Ending:
        """The outcome of a run that ended while its lease was in doubt: it counts unless another instance has the lease."""
        run.ending, run.function_ended = ending, True
        with suppress(asyncio.CancelledError):  # the function has ended: nothing is left to cancel
            await self._settle_lease(run)
        if not self._leases.is_lost(run.id):
            return ending
        logger.error("job %r: its lease was lost, and its outcome does not count", run.job.name, extra=run.log_fields)
        run.cut = "lease_lost"
        return Ending("interrupted", run.cut_error("lease_lost"))

    async def _call(self, run: ActiveRun) -> Ending:
        """Call the before-run hooks, and the function unless they veto it."""
        status: RunStatus
        error: RunError | None
        try:
            if run.cut is not None:  # it was cut off before its task began
                raise asyncio.CancelledError
            if self._hooks.implemented("before_run", run.job.name):
                veto = await self._hooks.for_job("before_run", run.job.name, run.context())
                if veto is not None:
                    run.vetoed = True
                    raise veto
                await self._settle_lease(run)
            value = await self._attempts.call(run)
            return Ending("completed", None, None if value is None else await self._filter.result(run, value))
        except asyncio.CancelledError as cancelled:
            status, error = self._after_cancellation(run, cancelled)
        except BaseException as raised:
            if run.cut is not None:
                status, error = self._after_cancellation(run, raised)
            elif run.vetoed and is_a(raised, SkipRun):
                status, error = "cancelled", self._filter.veto(run, raised)
            else:
                status, error = "failed", self._filter.error(run, raised)
            if self._is_interrupt(raised):
                self._end(run, status, error, None)
                raise
        return Ending(status, error)

    def _is_interrupt(self, raised: BaseException) -> bool:
        """Whether this is a real Ctrl-C, as opposed to one that a job raised."""
        return self._interrupts.seen and is_a(raised, KeyboardInterrupt)

    def _end(self, run: ActiveRun, status: RunStatus, error: RunError | None, result: str | None) -> None:
        """Record the outcome. From here on the function is not called again."""
        run.function_ended = True
        if run.cut != "lease_lost":
            self._leases.ended(run.id)
        outcome = self._filter.outcome(run, run.record(status, self._clock.now(), error, result))
        run.result_json = outcome.result_json
        if not run.job.store_result and outcome.result_json is not None:
            outcome = replace(outcome, result_json=None)
        run.outcome = outcome
        self._recorder.ended(outcome)
        if run.vetoed:
            self._log_veto(run, "" if outcome.error is None else outcome.error.message)
        else:
            self._log_end(run, outcome)

    def _log_end(self, run: ActiveRun, outcome: Run) -> None:
        if outcome.error is None:
            if logger.isEnabledFor(logging.INFO):
                logger.info(
                    "job %r completed in %.3f s (run %s)",
                    run.job.name,
                    outcome.duration,
                    short_id(run.id),
                    extra=run.log_fields,
                )
            return
        log_error(
            logger,
            shortened(outcome.error.traceback, self._config.log_tracebacks),
            "job %r %s (run %s): %s: %s",
            run.job.name,
            outcome.status.replace("_", " "),
            short_id(run.id),
            outcome.error.type,
            printable(cut(outcome.error.message, _LOGGED)),
            extra={**run.log_fields, "status": outcome.status},
        )

    def _log_veto(self, run: ActiveRun, reason: str) -> None:
        if run.tick_ts is None or run.trigger == "again":
            logger.warning(
                "job %r was vetoed (run %s): %s",
                run.job.name,
                short_id(run.id),
                printable(reason),
                extra=run.log_fields,
            )
            return
        ticks = TickRange(run.tick_ts, run.tick_ts, 1)
        # Those that a rerun stands for have a record of the first attempt.
        if run.missed is not None and run.attempt == 1:
            ticks = run.missed._replace(last=run.tick_ts, number=run.missed.number + 1)
        self._journal.record_missed(run.job, ticks, "vetoed", reason, record_id=run.id)

    def _release_after_thread(self, run: ActiveRun) -> None:
        """Release the lease, once the thread that the function may have left behind has ended."""
        if run.thread is None or not run.thread_lives:
            self._release(run)
            return
        logger.error(
            "job %r: run %s is %s, but its thread is still running, and holds the job until it ends",
            run.job.name,
            short_id(run.id),
            run.snapshot().status.replace("_", " "),
            extra=run.log_fields,
        )
        run.in_function = True
        if run.ended is not None:
            run.ended.set()

        def thread_ended(_: object) -> None:
            self._leases.ended(run.id)
            self._release(run)

        run.thread.add_done_callback(thread_ended)

    def _release(self, run: ActiveRun) -> None:
        if self.active.pop(run.id, None) is None:
            return  # it was abandoned at a stop
        self.in_place[run.job.run_in] -= 1
        self.catching_up -= run.trigger == "catch_up"
        run.releasing = True
        if run.cut == "lease_lost" and run.ending is None and not self._leases.has_ended(run.id):
            self._leases.drop(run.id)
            self._released(run)
            self._on_lost(run)
        else:
            self._recorder.release(run.ref, lambda: self._released(run))

    def _released(self, run: ActiveRun) -> None:
        if run.ended is not None:
            run.ended.set()
        run.on_end(run)

    def _after_cancellation(self, run: ActiveRun, raised: BaseException | None) -> tuple[RunStatus, RunError]:
        if run.cut is not None:
            return "interrupted" if run.cut == "lease_lost" else run.cut, run.cut_error(run.cut)
        if raised is not None and not run.is_cancelled:
            return "failed", self._filter.error(run, raised)
        return "interrupted", RunError("CancelledError", "was cancelled from outside the scheduler")


class Runs(NamedTuple):
    """The parts that run, and that record what becomes of ticks."""

    recorder: Recorder
    journal: Journal
    runner: Runner
