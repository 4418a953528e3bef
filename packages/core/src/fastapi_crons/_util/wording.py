"""Wording: numbers and durations as people read them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastapi_crons.run import MissedReason

#: Why ticks were not run.
REASONS: dict[MissedReason, str] = {
    "overlap": "the job was still running",
    "vetoed": "a before-run hook vetoed it",
    "paused": "the job was paused",
    "disabled": "the job was disabled",
    "schedule_changed": "it was due under an older schedule while no instance ran it, and the schedule was changed since",
    "misfire_grace_time": "it could only be run later than its misfire grace time allows",
    "max_catch_up": "more late ticks stood behind it than are caught up with (max_catch_up)",
}


def counted(number: int, noun: str, *, more: bool = False) -> str:
    """`1 tick`, `3 ticks`; with `more`, `at least 3 ticks`."""
    return f"{'at least ' if more else ''}{number} {noun}{'' if number == 1 else 's'}"


def span(seconds: float) -> str:
    """A duration in the one or two units that matter."""
    left, parts = max(0, round(seconds)), []
    for unit, name in ((86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second")):
        number, left = divmod(left, unit)
        if number:
            parts.append(counted(number, name))
    return " and ".join(parts[:2]) or "0 seconds"


def brief(value: object, limit: int = 60) -> str:
    """A value for an error message: escaped, and at most `limit` characters long."""
    try:
        text = ascii(value)
    except Exception:
        text = f"<{type(value).__name__}>"
    return text if len(text) <= limit else f"{text[: limit - 3]}..."
