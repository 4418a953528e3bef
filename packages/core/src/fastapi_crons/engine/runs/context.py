"""Context: makes what hooks and jobs are given as their context."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from fastapi_crons.clock import iso_utc
from fastapi_crons.engine.runs.log import RunLogger, job_logger
from fastapi_crons.functions.parameters import GivenAsContext
from fastapi_crons.plugins.markers import HookContext
from fastapi_crons.run import MissedTicks, Run

if TYPE_CHECKING:
    from datetime import datetime

    from fastapi_crons.job import CronJob

_MANUAL = frozenset({"cli", "api", "code", "again"})


class JobContext(GivenAsContext, Mapping[str, Any]):
    """What a job's function is given for a parameter named `context`, or annotated `JobContext`.

    Reads like the mapping that a before-run hook gets, and says the essentials by name.
    """

    __slots__ = ("_asked_ts", "_job", "_logger", "_mapping", "_run")

    def __init__(
        self, job: CronJob | None, run: Run, asked_ts: float | None, values: HookContext | None = None
    ) -> None:
        self._job = job
        self._run = run
        self._asked_ts = asked_ts
        # Made when they are first needed: most jobs read one value or two.
        self._mapping = values
        self._logger: RunLogger | None = None

    @property
    def job(self) -> str:
        """The job's name."""
        return self._run.job

    @property
    def tick(self) -> datetime | None:
        """The scheduled time (aware, UTC); None for a manual run."""
        return self._run.tick

    @property
    def attempt(self) -> int:
        """How many times the function has been started for this tick, this one included."""
        return self._run.attempt

    @property
    def fencing_token(self) -> int:
        """Greater than that of any earlier run of the job.

        Give it along with writes that must not come from a run whose lease was lost.
        """
        return self._run.token

    @property
    def run_id(self) -> str:
        """The run's id, as the history has it."""
        return self._run.id

    @property
    def logger(self) -> RunLogger:
        """Its records name job, run and tick, and from INFO up are kept with the run."""
        if self._logger is None:
            self._logger = RunLogger(job_logger(), log_fields(self._run))
        return self._logger

    @property
    def _values(self) -> HookContext:
        if self._mapping is None:
            assert self._job is not None
            self._mapping = run_context(self._job, self._run, self._asked_ts)
        return self._mapping

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __reduce__(self) -> tuple[object, ...]:
        """For a run in another process."""
        return JobContext, (None, self._run, self._asked_ts, dict(self._values))

    def __repr__(self) -> str:
        return f"JobContext(job={self.job!r}, tick={self.tick!r}, attempt={self.attempt}, run_id={self.run_id!r})"


def log_fields(run: Run) -> dict[str, object]:
    """The fields of log records about a run. `tick` is ISO 8601 text with offset."""
    tick = None if run.tick_ts is None else iso_utc(run.tick_ts)
    return {"job": run.job, "run_id": run.id, "tick": tick, "attempt": run.attempt}


def run_context(job: CronJob, run: Run, asked_ts: float | None = None) -> HookContext:
    """What hooks learn of a run: JSON-serialisable values; times as ISO 8601 text with offset, durations in seconds.

    Every key is always there. What has not happened yet, or does not apply, is None. `asked_ts` is when somebody asked for
    a manual run, in Unix seconds; left open, when it began.
    """
    manual = run.trigger in _MANUAL
    ended = run.ended_ts is not None
    return {
        **_job_context(job, run.instance),
        "run_id": run.id,
        "attempt": run.attempt,
        "fencing_token": run.token,
        "manual_trigger": manual,
        "trigger_time": iso_utc(run.started_ts if asked_ts is None else asked_ts) if manual else None,
        "triggered_by": run.trigger if manual else "schedule",
        "arguments": {} if run.arguments_json is None else json.loads(run.arguments_json),
        "actor": run.actor,
        "note": run.note,
        "scheduled_time": None if run.tick_ts is None else iso_utc(run.tick_ts),
        "catch_up": run.trigger == "catch_up",
        "missed_ticks": run.missed_ticks,
        "start_time": iso_utc(run.started_ts),
        "end_time": None if run.ended_ts is None else iso_utc(run.ended_ts),
        "duration": run.duration,
        "status": run.status,
        "success": run.status == "completed" if ended else None,
        "result": run.result,
        "error": None if run.error is None else run.error.message or run.error.type,
        "error_type": None if run.error is None else run.error.type,
    }


def missed_context(job: CronJob, ticks: MissedTicks) -> HookContext:
    """The context of hooks about missed ticks."""
    return {
        **_job_context(job, ticks.instance),
        "first": iso_utc(ticks.first_ts),
        "last": iso_utc(ticks.last_ts),
        "count": ticks.count,
        "more": ticks.more,
        "reason": ticks.reason,
        "detail": ticks.detail,
    }


def _job_context(job: CronJob, instance: str) -> HookContext:
    return {
        "job_name": job.name,
        "tags": list(job.tags),
        "expr": job.schedule.text,
        "timezone": job.schedule_zone or None,
        "instance_id": instance,
    }
