"""Plans: what is to be done about the ticks of a span."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

from fastapi_crons._util.text import counted, safe_text
from fastapi_crons.clock import local_time
from fastapi_crons.engine.again import TicksOnRecord
from fastapi_crons.errors import BackfillError
from fastapi_crons.job import CronJob
from fastapi_crons.schedule._zones import FIRST, LAST
from fastapi_crons.schedule.due import MAX_COUNT, TickRange
from fastapi_crons.state.backfills import BackfillRecord

#: Counting the ticks of a span that is too long stops after so many steps.
_MOST_STEPS = 2_000


@dataclass(frozen=True, slots=True)
class Span:
    """The ticks from `first` to `last` (Unix seconds, both included) that are to be made up for."""

    job: CronJob
    first: int
    last: int
    one_by_one: bool = False
    """Run each tick; otherwise as the job's late ticks are run."""
    force: bool = False
    """Run those, too, that ran already."""
    stop_on_failure: bool = False
    actor: str | None = None
    note: str | None = None


class BackfillPlan(NamedTuple):
    """What is to be done about the ticks of a span."""

    ticks: int
    """How many there are, up to now."""
    to_run: tuple[tuple[int, TickRange | None], ...] = ()
    """The ticks that are run, oldest first, each with others that its run stands for."""
    ran: int = 0
    """How many ran already."""
    waiting: int = 0
    """How many have yet to be handled by the scheduler."""
    in_doubt: int = 0
    """How many may have run, because their records were deleted."""
    beyond: int = 0
    """How many are older than the newest `max_catch_up`, for a job whose late ticks are run one by one."""
    running: int = 0
    """How many are on record as running."""
    stood_for: int = 0
    """How many the run of a later tick stands for; `one_by_one` runs them."""


def begun(span: Span, plan: BackfillPlan, backfill_id: str, owner: str, instance: str, now: float) -> BackfillRecord:
    """The record of a backfill that begins now."""
    actor, note = (None if text is None else safe_text(text, 1_000) for text in (span.actor, span.note))
    counts = plan._asdict()
    return BackfillRecord(
        backfill_id,
        span.job.name,
        owner,
        instance,
        span.first,
        span.last,
        now,
        span.one_by_one,
        span.force,
        span.stop_on_failure,
        actor,
        note,
        runs=len(counts.pop("to_run")),
        **counts,
    )


def planned(span: Span, on_record: TicksOnRecord, now: int, max_catch_up: int) -> BackfillPlan:
    job, source = span.job, on_record.source
    if source is None:
        raise BackfillError(
            f"can't make up for ticks of job {job.name!r}: its schedule is of a kind that is not installed"
        )
    if not FIRST <= span.first <= LAST or not FIRST <= span.last <= LAST:
        raise BackfillError(f"can't make up for ticks of job {job.name!r} that are so close to the year 1 or 9999")
    if span.first > span.last or span.first > now:
        why = "it ends before it begins" if span.first > span.last else "it lies in the future"
        raise BackfillError(f"can't make up for {_words(span)} of job {job.name!r}: {why}")
    until = min(span.last, now)
    ticks = list(islice(source.ticks_between(span.first - 1, until), MAX_COUNT + 1))
    if len(ticks) > MAX_COUNT:
        steps = iter(range(_MOST_STEPS))
        number, more = source.count_ticks(span.first - 1, until, 10**9, lambda: next(steps, None) is None)
        raise BackfillError(
            f"can't make up for {_words(span)} of job {job.name!r}: it has {counted(number, 'tick', more=more)}, and "
            f"{MAX_COUNT} is the most; give a shorter one"
        )
    fates: dict[str, list[int]] = {
        fate: [] for fate in ("ran", "stood_for", "running", "waiting", "in_doubt", "to_run")
    }
    for tick in ticks:
        fates[_fate(span, on_record, tick)].append(tick)
    to_run, beyond = _as_policy_says(span, fates.pop("to_run"), max_catch_up)
    numbers = {fate: len(found) for fate, found in fates.items()}
    return BackfillPlan(len(ticks), tuple(to_run), beyond=beyond, **numbers)


def _fate(span: Span, on_record: TicksOnRecord, tick: int) -> str:
    if on_record.is_to_be_run(tick):
        return "waiting"
    if span.force:
        return "to_run"
    run = on_record.ran(tick)
    if run is not None:
        return "running" if run.status == "running" else "ran" if run.tick_ts == tick else "stood_for"
    if on_record.stood_for(tick) is not None:
        return "stood_for"
    return "in_doubt" if on_record.in_doubt(tick) else "to_run"


def _as_policy_says(
    span: Span, ticks: list[int], max_catch_up: int
) -> tuple[Iterator[tuple[int, TickRange | None]], int]:
    """Which of these ticks are run, with those that each run stands for; and how many are older than that."""
    job = span.job
    if not span.one_by_one and job.coalesce and len(ticks) > 1:
        others = TickRange(ticks[0], ticks[-2], len(ticks) - 1)
        return iter([(ticks[-1], others)]), 0
    most = len(ticks) if span.one_by_one or job.coalesce else min(len(ticks), max_catch_up)
    return ((tick, None) for tick in ticks[len(ticks) - most :]), len(ticks) - most


def _words(span: Span) -> str:
    first, last = (local_time(end, span.job.schedule_zone) for end in (span.first, span.last))
    return f"the span from {first} to {last}"
