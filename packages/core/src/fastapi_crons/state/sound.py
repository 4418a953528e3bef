"""What a state store may hand out: records that are what they should be, whatever is on record. See `damage`."""

from __future__ import annotations

from typing import get_args

from fastapi_crons._util.damage import LATEST, DamagedError, instant, is_number, name, one_of, text, tick, whole
from fastapi_crons.run import LogLine, MissedReason, MissedTicks, Run, RunStatus, Trigger
from fastapi_crons.state.base import JobState

_STATUSES, _TRIGGERS, _REASONS = (frozenset(get_args(kind)) for kind in (RunStatus, Trigger, MissedReason))


def sound_run(run: Run) -> Run:
    """The run. Raises `DamagedError` where it is none."""
    name(run.id, "id")
    name(run.job, "job")
    one_of(run.trigger, _TRIGGERS, "trigger")
    one_of(run.status, _STATUSES, "status")
    text(run.instance, "instance")
    whole(run.attempt, "attempt")
    whole(run.token, "token")
    instant(run.started_ts, "started_ts")
    whole(run.missed_ticks, "missed_ticks")
    whole(run.log_dropped, "log_dropped")
    if run.tick_ts is not None:
        tick(run.tick_ts, "tick_ts")
    if run.ended_ts is not None:
        instant(run.ended_ts, "ended_ts")
    if run.missed_since_ts is not None:
        tick(run.missed_since_ts, "missed_since_ts")
    if run.error is not None:
        for part in ("type", "message", "traceback"):
            text(getattr(run.error, part), f"error {part}")
    for field in ("result_json", "actor", "note", "beside", "delay"):
        value = getattr(run, field)
        if value is not None:
            text(value, field)
    if not is_number(run.waited) or not 0 <= run.waited <= LATEST:
        raise DamagedError("waited is no duration")
    if run.status != "running" and run.ended_ts is None:
        raise DamagedError("ended_ts is missing")
    sound_log(run.log)
    return run


def sound_log(log: tuple[LogLine, ...]) -> tuple[LogLine, ...]:
    """The log of a run. Raises `DamagedError` where it is none."""
    for line in log:
        instant(line.ts, "time of a log line")
        text(line.level, "level of a log line")
        text(line.logger, "logger of a log line")
        text(line.message, "message of a log line")
    return log


def sound_missed(ticks: MissedTicks) -> MissedTicks:
    """The record of ticks that were let go. Raises `DamagedError` where it is none."""
    name(ticks.id, "id")
    name(ticks.job, "job")
    one_of(ticks.reason, _REASONS, "reason")
    tick(ticks.first_ts, "first_ts")
    tick(ticks.last_ts, "last_ts")
    whole(ticks.count, "count")
    instant(ticks.recorded_ts, "recorded_ts")
    text(ticks.instance, "instance")
    if not isinstance(ticks.more, bool):
        raise DamagedError("more is neither true nor false")
    if ticks.detail is not None:
        text(ticks.detail, "detail")
    return ticks


def sound_state(state: JobState) -> JobState:
    """The state of a job. Raises `DamagedError` where it is none."""
    name(state.job, "job")
    one_of(state.status, _STATUSES, "status")
    text(state.instance, "instance")
    instant(state.last_run_ts, "last_run_ts")
    return state
