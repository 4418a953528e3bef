"""The context that hooks are given: the one place where it is made."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from fastapi_crons.clock import iso_utc
from fastapi_crons.hookspecs import HookContext
from fastapi_crons.run import MissedTicks, Run

if TYPE_CHECKING:
    from fastapi_crons.job import CronJob

_MANUAL = frozenset({"cli", "api", "code"})


def run_context(job: CronJob, run: Run) -> HookContext:
    """What hooks learn of a run: JSON-serialisable values; times as ISO 8601 text with offset, durations in seconds.

    Every key is always there. What has not happened yet, or does not apply, is None.
    """
    manual = run.trigger in _MANUAL
    ended = run.ended_ts is not None
    return {
        "job_name": job.name,
        "tags": list(job.tags),
        "expr": job.schedule.text,
        "timezone": getattr(job.schedule, "timezone", None),
        "instance_id": run.instance,
        "run_id": run.id,
        "attempt": run.attempt,
        "fencing_token": run.token,
        "manual_trigger": manual,
        "trigger_time": iso_utc(run.started_ts) if manual else None,
        "triggered_by": run.trigger if manual else "schedule",
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
        "result": None if run.result is None else json.loads(run.result),
        "error": _error_text(run),
        "error_type": None if run.error is None else run.error.type,
    }


def missed_context(job: CronJob, ticks: MissedTicks) -> HookContext:
    """What hooks learn of ticks that were let go."""
    return {
        "job_name": job.name,
        "tags": list(job.tags),
        "expr": job.schedule.text,
        "timezone": getattr(job.schedule, "timezone", None),
        "instance_id": ticks.instance,
        "first": iso_utc(ticks.first_ts),
        "last": iso_utc(ticks.last_ts),
        "count": ticks.count,
        "more": ticks.more,
        "reason": ticks.reason,
        "detail": ticks.detail,
    }


def _error_text(run: Run) -> str | None:
    if run.error is None:
        return None
    return run.error.message or run.error.type
