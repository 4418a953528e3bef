"""A job's definition in words: its options, and its next ticks with what clock changes do to them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta, tzinfo
from typing import NamedTuple

from fastapi_crons.job import CronJob, Overlap, Place
from fastapi_crons_dashboard.words.times import duration, zone

#: How many of its next ticks are shown.
TICKS = 10
#: How far a plan of a job reaches: so many times as far as those ticks, within these bounds.
_AHEAD, _SHORTEST, _LONGEST = 10, timedelta(minutes=10), timedelta(days=31)
_OVERLAPS: dict[Overlap, str] = {
    "skip": "a tick is skipped while the job is running",
    "queue": "one tick waits for the end of the run before",
    "allow": "ticks run at the same time",
}
_PLACES: dict[Place, str] = {
    "loop": "on the event loop",
    "thread": "in a thread",
    "process": "in a process of its own",
}

_WITHHELD = "shown to those who may change things"


class Option(NamedTuple):
    """An option of a job: its name in code, and its value in words."""

    name: str
    value: str


class NextTick(NamedTuple):
    """A tick to come, and what is remarkable about it."""

    instant: datetime
    remark: str


def options_of(job: CronJob, *, details: bool) -> list[Option]:
    """All options of a job. `details`: whether what tells about the code, and its arguments, may be shown."""
    retries = "none"
    if job.max_retries:
        retries = f"up to {job.max_retries}, the first after {duration(job.retry_delay)}"
        if details:
            retries += f", on {', '.join(each.__name__ for each in job.retry_on)}"
    late = "one run stands for all late ticks" if job.coalesce else "each late tick has its own run"
    found = [
        ("function", job.function_name if details else _WITHHELD),
        ("expr", job.schedule.text),
        ("timezone", job.schedule_zone or "none"),
        ("enabled", "yes" if job.enabled else "no: its ticks are not run"),
        ("timeout", "no limit" if job.timeout is None else duration(job.timeout)),
        ("max_retries", retries),
        ("overlap", _OVERLAPS[job.overlap]),
        ("coalesce", late),
        ("misfire_grace_time", _grace(job.misfire_grace_time)),
        ("jitter", f"starts up to {duration(job.jitter)} late" if job.jitter else "none"),
        ("run_in", _PLACES[job.run_in]),
        ("store_result", "yes" if job.store_result else "no"),
    ]
    if job.kwargs:
        found.append(("kwargs", (job.arguments_json or "") if details else _WITHHELD))
    return [Option(name, value) for name, value in found]


def _grace(seconds: float | None) -> str:
    return "no limit: late ticks are run however late" if seconds is None else f"missed when {duration(seconds)} late"


def end_of_plan(ticks: Sequence[datetime], now: datetime) -> datetime:
    """Until when a plan tells what is worth knowing of a job with these next ticks, and is made quickly."""
    if len(ticks) < TICKS:
        return now + _LONGEST
    return now + min(_LONGEST, max(_SHORTEST, _AHEAD * (ticks[-1] - now)))


def with_remarks(job: CronJob, instants: Iterable[datetime], now: datetime) -> list[NextTick]:
    """The next ticks of a job with what is remarkable about each."""
    found, before, local = list[NextTick](), now, zone(job.schedule_zone)
    for instant in instants:
        found.append(NextTick(instant, _remark(before, instant, local)))
        before = instant
    return found


def _remark(before: datetime, instant: datetime, local: tzinfo) -> str:
    """What is remarkable about a tick that follows another instant."""
    earlier, later = before.astimezone(local), instant.astimezone(local)
    moved = (later.utcoffset() or timedelta()) - (earlier.utcoffset() or timedelta())
    if not moved:
        return ""
    way = "forward" if moved > timedelta() else "back"
    return f"after the clocks go {way} {duration(abs(moved.total_seconds()))}: {earlier:%Z} → {later:%Z}"
