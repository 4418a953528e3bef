"""Journal: records ticks that are not run, and runs whose process died before recording them, with logs and hooks."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from fastapi_crons._util.backoff import Meter
from fastapi_crons._util.tasks import Background
from fastapi_crons._util.text import counted, printable
from fastapi_crons.clock import Clock, iso_utc
from fastapi_crons.engine.runs.context import log_fields, missed_context, run_context
from fastapi_crons.job import CronJob
from fastapi_crons.run import REASONS, MissedReason, MissedTicks, Run, short_id
from fastapi_crons.schedule.due import TickRange

if TYPE_CHECKING:
    from fastapi_crons.engine.runs.recorder import Recorder
    from fastapi_crons.plugins.calls import HookCaller

# A name for log configurations, wherever this module is.
logger = logging.getLogger("fastapi_crons.runner")

#: The reasons that may hold for every single tick of a job: these are logged now and then.
_EACH_TICK: frozenset[MissedReason] = frozenset({"vetoed", "misfire_grace_time", "max_catch_up"})


@dataclass(slots=True)
class _Unlogged:
    """Ticks of one job that were missed for one reason, and have not been logged yet."""

    meter: Meter = field(default_factory=Meter)
    number: int = 0
    more: bool = False


@dataclass(eq=False, repr=False)
class Journal:
    """The journal of one scheduler."""

    _clock: Clock
    _hooks: HookCaller
    _recorder: Recorder
    _background: Background
    _instance_id: str

    def __post_init__(self) -> None:
        self._unlogged: dict[tuple[str, MissedReason], _Unlogged] = {}

    def record_missed(
        self,
        job: CronJob,
        ticks: TickRange,
        reason: MissedReason,
        detail: str | None = None,
        *,
        record_id: str,
        before: MissedTicks | None = None,
        log: bool = True,
    ) -> MissedTicks:
        """Record ticks that are not run, log them, and call the hooks; returns the record.

        `before` is the record that these ticks are added to. Without `log` the caller logs them.
        """
        missed = MissedTicks(
            record_id,
            job.name,
            ticks.first,
            ticks.last,
            ticks.number,
            reason,
            self._clock.now(),
            self._instance_id,
            ticks.more,
            detail,
        )
        if log:
            self._log_missed(missed)
        hook = "run_skipped" if reason in ("overlap", "vetoed") else "tick_missed"
        if self._hooks.implemented(hook, job.name):
            self._background.start(self._hooks.for_job(hook, job.name, missed_context(job, missed)))
        if before is not None:
            missed = replace(
                missed,
                id=before.id,
                first_ts=min(before.first_ts, ticks.first),
                last_ts=max(before.last_ts, ticks.last),
                count=before.count + ticks.number,
                more=before.more or ticks.more,
            )
        self._recorder.missed(missed)
        return missed

    def record_coalesced(self, job: str, ticks: TickRange, run_id: str, tick: int) -> None:
        """Record earlier ticks that the run of a later one stands for: in one record, which has the id of that run.

        They are made up for: that is neither a warning nor a call of hooks. Both learn of them with the run.
        """
        detail = f"run {short_id(run_id)} of {iso_utc(tick)}"
        now, by = self._clock.now(), self._instance_id
        self._recorder.missed(
            MissedTicks(run_id, job, ticks.first, ticks.last, ticks.number, "coalesced", now, by, ticks.more, detail)
        )

    def log_skipped(self, ticks: MissedTicks, number: int) -> None:
        """Log how many more ticks were skipped for a run, after the first ones were logged."""
        last = iso_utc(ticks.last_ts)
        _warn(ticks, f"{counted(number, 'more tick')} up to {last} {'was' if number == 1 else 'were'}")

    def close_run(self, job: CronJob, run: Run, why: str) -> None:
        """Record that a run was interrupted whose own process did not record its end; log the reason, and call the hooks."""
        self._recorder.ended(run)
        logger.error(
            "job %r: run %s of instance %s was cut off: %s",
            job.name,
            printable(short_id(run.id)),
            printable(run.instance),
            why,
            extra=log_fields(run),
        )
        if self._hooks.implemented("on_error", job.name):
            self._background.start(self._hooks.for_job("on_error", job.name, run_context(job, run)))

    def _log_missed(self, ticks: MissedTicks) -> None:
        """Log ticks that were not run. A reason that may hold for every tick is logged now and then, with their number."""
        number, more = ticks.count, ticks.more
        if ticks.reason in _EACH_TICK:
            unlogged = self._unlogged.setdefault((ticks.job, ticks.reason), _Unlogged())
            unlogged.number += number
            unlogged.more = unlogged.more or more
            if unlogged.meter.failed(self._clock.monotonic()) is None:
                return
            number, more = unlogged.number, unlogged.more
            unlogged.number, unlogged.more = 0, False
        last = iso_utc(ticks.last_ts)
        shown = f"the tick of {last} was" if number == 1 else f"{counted(number, 'tick', more=more)} up to {last} were"
        _warn(ticks, shown)


def _warn(ticks: MissedTicks, shown: str) -> None:
    logger.warning(
        "job %r: %s not run: %s",
        ticks.job,
        shown,
        REASONS[ticks.reason] + (f": {printable(ticks.detail)}" if ticks.detail else ""),
        extra={"job": ticks.job, "tick": iso_utc(ticks.last_ts), "reason": ticks.reason},
    )
