"""What a state store may hand out: records that are what they should be, whatever is on record.

Each function `checked_…` returns the record that it is given, and raises `DamagedError` where a field is not what it should be.
A store makes its records inside `Damage.noted`, which leaves out what raises, and notes it for `StateBackend.damaged`.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import get_args

from fastapi_crons._util.damage import (
    EARLIEST,
    LATEST,
    LONGEST_NAME,
    MOST,
    Check,
    Damage,
    DamagedError,
    check,
    instant,
    is_between,
    name,
    one_of,
    optional,
    text,
    tick,
    whole,
)
from fastapi_crons.run import REASONS, LogLine, MissedTicks, Run, RunStatus, Trigger
from fastapi_crons.state.base import JobState
from fastapi_crons.state.figures import Figures

__all__ = ["Damage", "DamagedError", "checked_figures", "checked_log", "checked_missed", "checked_run", "checked_state"]

_WORD = re.compile(r"[a-z][a-z_]{0,39}")
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def _run_id(value: object, field: str) -> str:
    """An id as `RunIds` makes them, by which a run can be asked for."""
    found = name(value, field)
    if _ID.fullmatch(found) is None:
        raise DamagedError(f"{field} is not the id of a run")
    return found


def _reason(value: object, field: str) -> str:
    """A reason, of this version or a newer one."""
    found = text(value, field)
    if _WORD.fullmatch(found) is None:
        raise DamagedError(f"{field} has an unknown value")
    return found


_STATUSES = frozenset(get_args(RunStatus))
_RUN: dict[str, Check] = {
    "id": _run_id,
    "job": name,
    "trigger": one_of(get_args(Trigger)),
    "status": one_of(_STATUSES),
    "instance": text,
    "attempt": whole,
    "token": whole,
    "started_ts": instant,
    "ended_ts": optional(instant),
    "tick_ts": optional(tick),
    "missed_ticks": whole,
    "missed_since_ts": optional(tick),
    "log_dropped": whole,
    "result_json": optional(text),
    "actor": optional(text),
    "note": optional(text),
    "beside": optional(text),
    "delay": optional(text),
    "arguments_json": optional(text),
}
_ERROR: dict[str, Check] = {"type": text, "message": text, "traceback": text}
_LOG_LINE: dict[str, Check] = {"ts": instant, "level": text, "logger": text, "message": text}
_MISSED: dict[str, Check] = {
    "id": name,
    "job": name,
    "reason": _reason,
    "first_ts": tick,
    "last_ts": tick,
    "count": whole,
    "recorded_ts": instant,
    "instance": text,
    "detail": optional(text),
}
_STATE: dict[str, Check] = {
    "job": name,
    "status": _RUN["status"],
    "instance": text,
    "last_run_ts": instant,
    "last_success_ts": optional(instant),
    "last_success_run": optional(_run_id),
    "failures": whole,
}
#: The types of the fields of most states: those of jobs that have completed.
_USUAL_STATE = [str, str, str, float, float, str, float, int]
_FIGURES: dict[str, Check] = {"job": name, "day": whole, "runs": whole, "failed": whole, "missed": whole}


def checked_run(run: Run) -> Run:
    """A run with its log."""
    check(run, _RUN)
    if run.error is not None:
        check(run.error, _ERROR)
    if not is_between(run.waited, 0, LATEST):
        raise DamagedError("waited is no duration")
    if run.status != "running" and run.ended_ts is None:
        raise DamagedError("ended_ts is missing")
    checked_log(run.log)
    return run


def checked_log(log: tuple[LogLine, ...]) -> tuple[LogLine, ...]:
    """The log of a run."""
    for line in log:
        check(line, _LOG_LINE)
    return log


def checked_missed(ticks: MissedTicks) -> MissedTicks:
    """A record of missed ticks."""
    check(ticks, _MISSED)
    if not isinstance(ticks.more, bool):
        raise DamagedError("more is neither true nor false")
    if ticks.reason not in REASONS:
        return replace(
            ticks, reason="unknown", detail=f"{ticks.reason}: {ticks.detail}" if ticks.detail else ticks.reason
        )
    return ticks


def checked_state(state: JobState) -> JobState:
    """The state of a job."""
    # There are many: the fields are looked at one by one only where something is unusual.
    if _is_usual(state):
        return state
    check(state, _STATE)
    if state.last_success_took is not None and not is_between(state.last_success_took, 0, LATEST):
        raise DamagedError("last_success_took is no duration")
    return state


def _is_usual(state: JobState) -> bool:
    job, status, instance, began, succeeded, run, took, failures = state
    return (
        [*map(type, state)] == _USUAL_STATE
        and 1 <= len(job) <= LONGEST_NAME
        and job.isascii()
        and instance.isascii()
        and status in _STATUSES
        and _ID.fullmatch(run or "") is not None
        and EARLIEST <= began <= LATEST
        and EARLIEST <= (succeeded or 0) <= LATEST
        and 0 <= (took or 0) <= LATEST
        and 0 <= failures <= MOST
    )


def checked_figures(figures: Figures) -> Figures:
    """The figures of a job and a day."""
    numbers = figures[1:5]
    # There are many: the fields are looked at one by one only where something is wrong.
    if {*map(type, numbers)} != {int} or min(numbers) < 0 or max(numbers) > MOST:
        check(figures, _FIGURES)
    name(figures.job, "job")
    if figures.day > LATEST // 86_400:
        raise DamagedError("day is no day")
    if not is_between(figures.longest, 0, LATEST):
        raise DamagedError("longest is no duration")
    return figures
