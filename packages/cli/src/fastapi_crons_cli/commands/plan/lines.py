"""A plan as lines for people, and as CSV: a line for each tick, or one for a job that is due often."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import NamedTuple

from fastapi_crons._util.text import counted
from fastapi_crons.clock import local_time, utc_datetime
from fastapi_crons.management.plan.collisions import Collisions, Limited, TooMany
from fastapi_crons.management.plan.plan import Plan
from fastapi_crons.management.plan.planned import PlannedJob, seconds
from fastapi_crons_cli.output import clock_time, say, shown

_COLUMNS = ("time", "last", "timezone", "local_time", "job", "often", "count", "standing", "p50", "p95", "notes")
_WANTED: dict[Limited, str] = {"runs": "run", "threads": "thread", "processes": "process"}
#: As wide as most names are.
_WIDEST = 40


class Line(NamedTuple):
    """One tick, or all ticks of a job in one."""

    planned: PlannedJob
    tick: int | None
    last: int | None = None
    """Of a job whose ticks are shown in one line: the last one."""
    with_notes: bool = True

    @property
    def often(self) -> str:
        return self.planned.often if self.last is not None or self.tick is None else "once"

    @property
    def number(self) -> int:
        return self.planned.ticks.number if self.last is not None else int(self.tick is not None)


def lines_of(plan: Plan) -> list[Line]:
    """The lines, in order of time."""
    return sorted((line for planned in plan.jobs for line in _lines(planned)), key=lambda line: line.tick or 0)


def _lines(planned: PlannedJob) -> Iterator[Line]:
    ticks = planned.ticks
    if ticks.number == len(ticks.single) and ticks.number:
        yield from (Line(planned, tick, None, number == 0) for number, tick in enumerate(ticks.single))
    else:
        yield Line(planned, ticks.first, ticks.last)


def print_csv(plan: Plan, zone: str) -> None:
    """Print the lines as CSV (RFC 4180). Times have an offset; durations are seconds."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(_COLUMNS)
    for line in lines_of(plan):
        planned = line.planned
        writer.writerow(
            (
                _iso(line.tick, zone),
                _iso(line.last, zone),
                planned.job.schedule_zone,
                _iso(line.tick, planned.zone),
                shown(planned.job.name),
                line.often,
                line.number,
                planned.standing,
                _number(planned.p50),
                _number(planned.p95),
                shown("; ".join(planned.notes(details=True))) if line.with_notes else "",
            )
        )
    say(out.getvalue().replace("\r\n", "\n").rstrip("\n"))


def print_lines(plan: Plan, zone: str) -> None:
    """Print the lines, with what stands against ticks beneath the first one of each job."""
    lines = lines_of(plan)
    width = min(_WIDEST, max((len(shown(line.planned.job.name)) for line in lines), default=0))
    for line in lines:
        say(_text(line, zone, width))
        for note in line.planned.notes(details=True) if line.with_notes else ():
            say(f"    ! {shown(note)}")
    for sentence in _sentences(plan, zone):
        say(f"! {shown(sentence)}")
    ticks = sum(planned.ticks.number for planned in plan.jobs)
    more = any(planned.ticks.more for planned in plan.jobs)
    idle = f"; {counted(plan.idle, 'other job')} not due" if plan.idle else ""
    end = clock_time(utc_datetime(plan.until), zone)
    say(f"{counted(len(plan.jobs), 'job')}, {counted(ticks, 'tick', more=more)} until {end}, times in {zone}{idle}")


def _text(line: Line, zone: str, width: int) -> str:
    planned = line.planned
    when = "-" if line.tick is None else clock_time(utc_datetime(line.tick), zone)
    often = line.often
    if line.last is not None:
        often += f", the last {clock_time(utc_datetime(line.last), zone)}"
    if planned.standing != "runs":
        often += f", not run ({planned.standing})"
    local = "" if line.tick is None else _local(line.tick, planned.zone, when)
    usual = ""
    if planned.p50 is not None and planned.p95 is not None:
        usual = f"  usually {seconds(planned.p50)}, up to {seconds(planned.p95)}"
    return f"{when:19}  {shown(planned.job.name):{width}}  {often}{local}{usual}"


def _local(tick: int, zone: str, when: str) -> str:
    """The job's own local time, where it differs."""
    local = local_time(tick, zone)
    day, time, name = local.split(" ", 2)
    if f"{day} {time}" == when:
        return ""
    return f"  ({time if when.startswith(day) else f'{day} {time}'} {name})"


def _sentences(plan: Plan, zone: str) -> Iterator[str]:
    """What concerns several jobs."""
    if not plan.instances:
        yield "no running instance runs jobs: what is due waits until one starts"
    yield from (too_many_in_words(found, zone) for found in plan.collisions.too_many)
    for crowd in plan.collisions.crowds:
        yield f"the hour from {clock_time(utc_datetime(crowd.hour), zone)} on is crowded: {crowd.ticks:,} ticks"
    yield from (change.text for change in plan.changes)
    if not plan.has_durations:
        yield "the state store did not answer, so it is not known how long jobs usually take, and which of their runs overlap"
    yield from _looked_at(plan.collisions, plan.until, zone)


def too_many_in_words(found: TooMany, zone: str) -> str:
    """At how many instants there is too little of what."""
    wanted = _WANTED[found.what]
    several = f" (and so at {found.instants - 1:,} other instants)" if found.instants > 1 else ""
    return (
        f"at {clock_time(utc_datetime(found.at), zone)} {found.due:,} jobs want a {wanted}, and there are {found.limit:,}: "
        f"the others wait{several}; among them {', '.join(found.jobs)}"
    )


def _looked_at(collisions: Collisions, until: int, zone: str) -> Iterator[str]:
    if collisions.until < until:
        yield (
            f"so many ticks are due that collisions were looked for up to {clock_time(utc_datetime(collisions.until), zone)} "
            "only; ask for fewer hours, or for some of the jobs"
        )


def _iso(tick: int | None, zone: str) -> str:
    from zoneinfo import ZoneInfo

    return "" if tick is None else utc_datetime(tick).astimezone(ZoneInfo(zone)).isoformat()


def _number(duration: float | None) -> str:
    return "" if duration is None else f"{duration:.3g}"
