"""The table of jobs: chosen, sorted, and cut into pages. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from operator import itemgetter
from typing import Literal, NamedTuple

from fastapi_crons.job import CronJob
from fastapi_crons.management import JobView
from fastapi_crons.run import Run
from fastapi_crons_dashboard.svg.strip import Strip

#: How many jobs are on a page.
PER_PAGE = 50
_SOON = timedelta(hours=1)

State = Literal["running", "failing", "late", "paused", "due", "disabled", "never", "ok"]
#: What is said of jobs in each state; `ok` is none of the others but `due`.
STATES: dict[State, str] = {
    "running": "running",
    "failing": "failing",
    "late": "late",
    "paused": "paused",
    "due": "due within the hour",
    "disabled": "disabled",
    "never": "never ran",
    "ok": "ran well",
}
Sort = Literal["name", "next", "last", "failures"]


@dataclass(frozen=True, slots=True)
class JobRow:
    """A job in the table."""

    view: JobView
    states: frozenset[State]
    last: Run | None = None
    """Its latest run, where that is on record."""
    strip: Strip | None = None

    @property
    def name(self) -> str:
        return self.view.job.name


class Wanted(NamedTuple):
    """Which jobs are wanted, in which order."""

    text: str = ""
    tag: str = ""
    state: State | None = None
    sort: Sort = "name"
    backwards: bool = False
    page: int = 1


class Found(NamedTuple):
    """A page of jobs."""

    rows: tuple[JobRow, ...]
    number: int
    """How many jobs there are on all pages."""
    page: int
    pages: int


def states_of(view: JobView, late: Collection[str], now: datetime) -> frozenset[State]:
    """All states that a job is in."""
    given: list[tuple[State, bool]] = [
        ("running", view.status == "running"),
        ("failing", view.failures > 0),
        ("late", view.job.name in late),
        ("paused", view.pause is not None),
        ("disabled", not view.job.enabled),
        ("never", view.status == "pending"),
    ]
    found = {state for state, holds in given if holds}
    if not found - {"running"}:
        found.add("ok")
    if view.next_run is not None and view.next_run - now <= _SOON:
        found.add("due")
    return frozenset(found)


def by_name(name: str) -> tuple[str, str]:
    """What jobs are sorted by where nothing else is asked for, on all pages."""
    return name.casefold(), name


def has_text(job: CronJob, text: str) -> bool:
    """Whether a job's name, or one of its tags, has a text in it; in any case where the text is empty."""
    wanted = text.strip().casefold()
    return any(wanted in each.casefold() for each in (job.name, *job.tags))


def find(rows: Sequence[JobRow], wanted: Wanted) -> Found:
    """The page of the jobs that are wanted; the last one where there is no such page."""
    chosen = [
        row
        for row in rows
        if has_text(row.view.job, wanted.text)
        and (not wanted.tag or wanted.tag in row.view.job.tags)
        and (wanted.state is None or wanted.state in row.states)
    ]
    value_of = _VALUES[wanted.sort]
    values = [(value_of(row), row) for row in chosen]
    known = [((value, *by_name(row.name)), row) for value, row in values if value is not None]
    known.sort(key=itemgetter(0), reverse=wanted.backwards)
    ordered = [*(row for _, row in known), *(row for value, row in values if value is None)]
    pages = max(1, -(-len(ordered) // PER_PAGE))
    page = min(max(1, wanted.page), pages)
    return Found(tuple(ordered[(page - 1) * PER_PAGE : page * PER_PAGE]), len(ordered), page, pages)


def _seconds(instant: datetime | None) -> float | None:
    return None if instant is None else instant.timestamp()


#: What jobs are sorted by, before their names; those without it come last.
_VALUES: dict[Sort, Callable[[JobRow], float | None]] = {
    "name": lambda row: 0,
    "next": lambda row: _seconds(row.view.next_run),
    "last": lambda row: _seconds(row.view.last_run),
    "failures": lambda row: row.view.failures,
}


def counts_of(rows: Sequence[JobRow]) -> dict[State, int]:
    """How many jobs are in each state."""
    counts = Counter(state for row in rows for state in row.states)
    return {state: counts[state] for state in STATES}
