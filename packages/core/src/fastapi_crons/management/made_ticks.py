"""Ticks that the runs or the starts of a job make, and not the clock, as far as they are on record."""

from __future__ import annotations

from fastapi_crons.locking.base import KnownJob
from fastapi_crons.management.fates.tick_records import TickRecords
from fastapi_crons.schedule.base import Schedule, ZonedSchedule
from fastapi_crons.schedule.own import ListedTicks


def is_made(schedule: Schedule | None) -> bool:
    """Whether the ticks of a schedule are made by runs or starts, so that records are needed to know them."""
    return isinstance(schedule, ZonedSchedule) and not schedule.is_clocked


def next_made_tick(schedule: Schedule, known: KnownJob | None) -> int | None:
    """The only tick of such a schedule that is not handled yet, in Unix seconds; None where it is not known, or there is none.

    It may have passed. After the end of a run it is not known while there is a run.
    """
    if known is None or not isinstance(schedule, ZonedSchedule):
        return None
    if schedule.at_start:
        start = _start_of(known)
        return start if start > known.last_handled else None
    if any(lease.missed is None for lease in known.leases):
        return None
    return known.last_handled + schedule.period_from_end


def next_in_words(schedule: Schedule | None) -> str | None:
    """What makes the next tick of such a schedule; None where the clock does."""
    if not isinstance(schedule, ZonedSchedule) or schedule.is_clocked:
        return None
    if schedule.at_start:
        return f"it is due at the {'next start' if schedule.at_start == 'fleet' else 'first start of another version'}"
    return "its next tick is counted from the end of each run, and not known before"


def made_ticks(schedule: Schedule, records: TickRecords) -> ListedTicks:
    """The ticks that are on record, the last start, and the next tick where it is known."""
    known = records.known
    ticks = {run.tick_ts for run in records.runs}
    ticks.update(tick for missed in records.missed for tick in (missed.first_ts, missed.last_ts))
    ticks.update(lease.tick for lease in (known.leases if known is not None else ()))
    ticks.add(next_made_tick(schedule, known))
    if known is not None and isinstance(schedule, ZonedSchedule) and schedule.at_start:
        ticks.add(_start_of(known))
    return ListedTicks(tick for tick in ticks if tick is not None)


def _start_of(known: KnownJob) -> int:
    """The tick of the last start, as the rule of lock stores has it."""
    return int(known.since) + 1
