"""How pages show what became of a tick, or of a run: a word, a shape, and a colour by a class."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from fastapi_crons.run import Trigger


class Look(NamedTuple):
    """How a fate is shown. The shape says the same as the colour."""

    word: str
    shape: str
    """The id of a symbol in `symbols.html`."""
    tone: str
    """A class in `dashboard.css`: good, bad, busy, held, quiet or ahead."""


FATES: dict[str, Look] = {
    "ran": Look("ran", "disc", "good"),
    "completed": Look("completed", "disc", "good"),
    "failed": Look("failed", "cross", "bad"),
    "timed_out": Look("timed out", "cross", "bad"),
    "interrupted": Look("interrupted", "broken", "bad"),
    "cancelled": Look("cancelled", "stop", "held"),
    "running": Look("running", "half", "busy"),
    "waiting": Look("waiting", "ring", "busy"),
    "covered": Look("covered by a later run", "small", "good"),
    "skipped": Look("skipped: still running", "bar", "held"),
    "vetoed": Look("vetoed", "bar", "held"),
    "paused": Look("paused", "pause", "held"),
    "missed": Look("missed", "gap", "bad"),
    "pending": Look("never ran", "ring", "quiet"),
    "not_yet": Look("planned", "ring", "ahead"),
    "not_due": Look("not due", "dot", "quiet"),
    "older_schedule": Look("before this schedule", "dot", "quiet"),
    "unknown": Look("unknown", "dot", "quiet"),
}

#: What a strip of ticks, and a lane of a timeline, may show, as their legends name it.
STRIP_LEGEND = (
    *("completed", "failed", "interrupted", "cancelled", "running", "waiting", "covered"),
    *("skipped", "paused", "missed", "unknown"),
)
LANE_LEGEND = (
    *("completed", "running", "failed", "timed_out", "interrupted", "cancelled", "covered"),
    *("vetoed", "skipped", "paused", "missed"),
)


def legend(names: Iterable[str]) -> list[Look]:
    """How these fates are shown: those that look the same as one, with the words of all."""
    words: dict[tuple[str, str], list[str]] = {}
    for look in (FATES[name] for name in names):
        words.setdefault((look.shape, look.tone), []).append(look.word)
    return [Look(" or ".join(each), shape, tone) for (shape, tone), each in words.items()]


#: What started a run.
TRIGGERS: dict[Trigger, str] = {
    "schedule": "schedule",
    "catch_up": "late tick",
    "cli": "command line",
    "api": "by hand",
    "code": "code",
    "again": "tick run again",
}
