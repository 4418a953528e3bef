"""Explains, in a sentence or two, what happened to a job at an instant."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from fastapi_crons._util.text import counted, span
from fastapi_crons.clock import utc_datetime
from fastapi_crons.errors import ScheduleError, SkipRun
from fastapi_crons.locking.base import KnownJob, Lease
from fastapi_crons.management.fates.explain_words import Words
from fastapi_crons.management.fates.tick_records import TickRecords
from fastapi_crons.management.made_ticks import is_made, made_ticks, next_in_words
from fastapi_crons.run import REASONS, SHORTEST_WAIT, MissedReason, MissedTicks, Run, made_at
from fastapi_crons.schedule.base import Schedule
from fastapi_crons.schedule.due import TickSource, tick_source
from fastapi_crons.schedules.texts import schedule_of_text

Fate = Literal[
    "ran",
    "running",
    "interrupted",
    "covered",
    "skipped",
    "vetoed",
    "paused",
    "missed",
    "waiting",
    "not_yet",
    "not_due",
    "older_schedule",
    "unknown",
]


@dataclass(frozen=True, slots=True)
class TickFate:
    """What happened to a job at an instant."""

    fate: Fate
    text: str
    """A sentence or two for people; instants in the job's zone."""
    runs: tuple[Run, ...] = ()
    """Its runs, oldest first."""
    missed: MissedTicks | None = None
    """The record of it as a missed tick."""
    next_ts: int | None = None
    """The job's next tick after now."""

    @property
    def next(self) -> datetime | None:
        """The job's next tick after now (aware, UTC)."""
        return None if self.next_ts is None else utc_datetime(self.next_ts)


def explain(records: TickRecords, *, details: bool = True) -> TickFate:
    """What happened at the instant. `details` says whether error texts and notes may be shown.

    A pure function of the records; those that are certain are asked first.
    """
    case = _Case(records, details)
    return replace(_fate(case), next_ts=case.next_tick())


def fate_of(records: TickRecords) -> TickFate:
    """As `explain`, without the next tick, and from as few records as belong to the instant. Its text is not for people."""
    return _fate(_Case(records, details=False, in_words=False))


def source_in_force(records: TickRecords) -> TickSource | None:
    """The ticks of the schedule in force; None for a kind that is not installed here."""
    return _Case(records, details=False).source


def _fate(case: _Case) -> TickFate:
    on_record = case.run() or case.missed() or case.covered() or case.missed(coalesced=True)
    fate = on_record or case.not_due() or case.not_handled() or case.no_record()
    if case.older and not case.is_due and fate.fate != "older_schedule":
        fate = replace(fate, text=f"{fate.text} It was due under an older schedule. {case.schedule_since()}")
    return case.run_again(fate)


_FATES: dict[MissedReason, Fate] = {
    "overlap": "skipped",
    "vetoed": "vetoed",
    "paused": "paused",
    "coalesced": "covered",
}
_NOT_KNOWN = "What was due before that is not known."
_NEVER_REGISTERED = "No instance has registered the job in this store, so none has run it."


class _Case:
    """One instant, the records of it, and the sentences about them."""

    def __init__(self, records: TickRecords, details: bool, *, in_words: bool = True) -> None:
        #: Whether what is on record of runs is put into words: of many ticks, that takes most of the time.
        self._in_words = in_words
        #: Runs of ticks that somebody asked to run again: they follow whatever happened before.
        self._again = [run for run in records.runs if run.trigger == "again"]
        self._runs = [run for run in records.runs if run.trigger != "again"]
        self._records = records
        self._details = details
        self._known = known = records.known
        self._tick = records.tick
        job = records.job
        self._text, self._zone = job.schedule.text, job.schedule_zone
        #: The schedule in force; None for a kind that is not installed here.
        self._schedule: Schedule | None = job.schedule
        if known is not None and (known.schedule, known.timezone) != (self._text, self._zone):
            self._text, self._schedule, self._zone = known.schedule, _schedule_of(known), known.timezone
        self.source = None if self._schedule is None else _source_of(self._schedule, records)
        self._say = Words(records, self._text, self._zone, details)
        #: Whether the instant is older than the schedule in force.
        self.older = known is not None and self._tick < known.since
        #: Whether the schedule in force has a tick at this instant.
        self.is_due = self.source is not None and self.source.next_tick(self._tick - 1) == self._tick

    def next_tick(self) -> int | None:
        if self.source is None or (self._known is not None and not self._known.enabled):
            return None
        return self.source.next_tick(int(self._records.now))

    def run(self) -> TickFate | None:
        """Runs of this very tick."""
        own = (run for run in self._runs if run.tick_ts == self._tick)
        runs = tuple(sorted(own, key=lambda run: (run.attempt, run.token)))
        if not runs:
            return None
        last = runs[-1]
        if last.status == "cancelled" and last.error is not None and last.error.type == SkipRun.__name__:
            fate: Fate = "vetoed"
        elif last.status == "interrupted":
            fate = "interrupted"
        else:
            fate = "running" if last.status == "running" else "ran"
        return self._fate(fate, *(self._about_runs(fate, runs) if self._in_words else ()), runs=runs)

    def _about_runs(self, fate: Fate, runs: Sequence[Run]) -> Iterator[str]:
        for run in runs[:-1]:
            yield self._say.cut_off(run) if run.status == "interrupted" else self._say.ran(run, "")
        last = runs[-1]
        if fate == "vetoed":
            why = "" if last.error is None else self._say.detail(last.error.message)
            yield f"A before-run hook vetoed it{why}."
            return
        if fate == "interrupted":
            yield from (self._say.cut_off(last), self._say.rerun_of(last))
            return
        yield self._say.ran(last, " again" if len(runs) > 1 else "")
        if last.delay and self._details:
            yield f"It started late: {self._say.local(last.delay)}."
        if last.waited >= SHORTEST_WAIT:
            yield f"It waited {last.waited:.3g} s for a free thread or process before its function began."
        if last.missed_ticks and last.missed_since_ts is not None:
            earlier = counted(last.missed_ticks, "earlier tick")
            yield f"The run stands for {earlier} too, since {self._say.at(last.missed_since_ts)}."

    def run_again(self, before: TickFate) -> TickFate:
        """What happened before, and the runs that somebody asked for since then."""
        own = [run for run in self._again if run.tick_ts == self._tick or self._stands_for_it(run)]
        if not own or not self._may_be_due():
            return before
        runs = tuple(sorted(own, key=lambda run: run.token))
        last = runs[-1]
        fate: Fate = "covered" if last.tick_ts != self._tick else "running" if last.status == "running" else "ran"
        text = " ".join((before.text, *map(self._say.run_again, runs)))
        return replace(before, fate=fate, text=text, runs=before.runs + runs)

    def _stands_for_it(self, run: Run) -> bool:
        return run.tick_ts is not None and (run.missed_since_ts or run.tick_ts) <= self._tick < run.tick_ts

    def missed(self, *, coalesced: bool = False) -> TickFate | None:
        """A record of the tick as missed; with `coalesced` one that a run stood for, whose own record may be gone."""
        if not self._may_be_due():
            return None
        # A record of many ticks can span ticks with records of their own: ask the shortest first.
        for missed in sorted(self._records.missed, key=lambda missed: missed.last_ts - missed.first_ts):
            if missed.first_ts <= self._tick <= missed.last_ts and (missed.reason == "coalesced") == coalesced:
                return self._missed_by(missed)
        return None

    def _missed_by(self, missed: MissedTicks) -> TickFate:
        at, others = self._say.at, ""
        if missed.count > 1:
            number = f"at least {missed.count}" if missed.more else str(missed.count)
            others = f" It is one of {number} ticks from {at(missed.first_ts)} to {at(missed.last_ts)}."
        reason = REASONS[missed.reason] + (self._say.detail(self._say.local(missed.detail)) if missed.detail else "")
        if self._is_uncertain(missed.first_ts, missed.last_ts):
            return self._fate("older_schedule", self._uncertain(), f"Ticks around it were not run: {reason}.{others}")
        on_record = f"{missed.instance} recorded that at {at(missed.recorded_ts)}."
        text = f"It was not run: {reason}. {on_record}{others}{self._say.in_the_way(missed)}"
        return self._fate(_FATES.get(missed.reason, "missed"), text, missed=missed)

    def covered(self) -> TickFate | None:
        """A run of a later tick that stands for this one."""
        if not self._may_be_due():
            return None
        runs = tuple(run for run in self._runs if self._stands_for_it(run))
        if not runs:
            return None
        run = runs[-1]
        assert run.tick_ts is not None
        if self._is_uncertain(run.missed_since_ts or 0, run.tick_ts):
            return self._fate(
                "older_schedule", self._uncertain(), f"Run {run.id} stands for late ticks around it.", runs=runs
            )
        late = f": {self._say.local(run.delay)}" if run.delay and self._details else ""
        text = (
            f"It was late{late}; the run of {self._say.at(run.tick_ts)} stands for it and for all late ticks, "
            f"{counted(run.missed_ticks + 1, 'tick')} (coalesce)."
        )
        sentences = [text, *(self._say.cut_off(each) for each in runs[:-1])]
        sentences.append(f"That run, {run.id} by {run.instance}, {self._say.ending(run)}.")
        return self._fate("covered", *sentences, runs=runs)

    def not_due(self) -> TickFate | None:
        """An instant that is no tick of the schedule in force."""
        if self.older or self.is_due:
            return None
        if self.source is None:
            kind = f"{self._say.schedule()} is a kind of schedule that is not installed here"
            claimed = self._claim() is not None
            return None if claimed else self._fate("unknown", f"It is unknown whether it is due: {kind}.")
        following = self.source.next_tick(self._tick)
        then = next_in_words(self._schedule) or "it is never due after that"
        if following is not None:
            then = f"the next tick after it is {self._say.at(following)}"
        return self._fate(
            "not_due", f"The job is not due then: {self._say.schedule()} has no tick at that instant; {then}."
        )

    def not_handled(self) -> TickFate | None:
        """A tick that no instance has claimed or recorded as missed so far."""
        known, now = self._known, self._records.now
        if known is None:
            if self._tick > now:
                return self._fate("not_yet", f"It is due in {span(self._tick - now)}.", _NEVER_REGISTERED)
            return self._fate("unknown", _NEVER_REGISTERED)
        if self._tick <= known.last_handled or self.older:
            return None
        if known.pause is not None:
            when = "was due" if self._tick <= now else "will be due"
            what = f"it {when} during the pause, and is not run"
            if self._tick <= known.pause.since:
                what = "it was already late when the pause began, and runs only if the job is resumed with catch_up"
            return self._fate("paused", f"The job is paused {self._say.paused(known)}; {what}.")
        if not known.enabled:
            return self._fate("missed", "The job is disabled: none of its ticks is run.")
        if self._tick > now:
            return self._fate("not_yet", f"It is due in {span(self._tick - now)}, and has not been handled yet.")
        return self._fate("waiting", self._say.why_waiting(known, now))

    def no_record(self) -> TickFate:
        """A handled tick without any record."""
        known = self._known
        assert known is not None
        if self._tick > self._records.now:
            newest = self._say.at(known.last_handled)
            ahead = f"the last handled tick is {newest}, which lies ahead, because a clock was wrong"
            return self._fate(
                "unknown",
                f"It is not run: {ahead}. The job continues when that time has passed, or when the last handled tick is reset.",
            )
        lease = self._claim()
        if lease is not None:
            return self._fate("running" if lease.missed is None else "missed", self._say.leased(lease))
        if self.older:
            return self._fate("older_schedule", f"There is no record of it. {self.schedule_since()}", _NOT_KNOWN)
        runs, missed = self._records.runs, self._records.missed
        kept = [made_at(run.id) for run in runs] or [each.recorded_ts for each in missed]
        oldest = min(kept, default=None)
        if oldest is not None and oldest > self._tick:
            why = f"the history reaches back to {self._say.at(oldest)} only"
        else:
            why = "its record is not written yet, or was lost while the state store did not answer"
        return self._fate(
            "unknown",
            f"It was handled (all ticks up to {self._say.at(known.last_handled)} were), but there is no record of it: {why}.",
        )

    def schedule_since(self) -> str:
        assert self._known is not None
        return f"The schedule {self._say.schedule()} is in force since {self._say.at(self._known.since)}."

    def _claim(self) -> Lease | None:
        leases = (each for each in self._say.leases() if each.tick is not None)
        return next((each for each in leases if each.after < self._tick <= (each.tick or 0)), None)

    def _fate(
        self, fate: Fate, *sentences: str, runs: tuple[Run, ...] = (), missed: MissedTicks | None = None
    ) -> TickFate:
        return TickFate(fate, " ".join(sentence for sentence in sentences if sentence), runs, missed)

    def _may_be_due(self) -> bool:
        """Whether the instant is a tick, or may have been one under an older schedule."""
        return self.older or self.source is None or self.is_due

    def _is_uncertain(self, first: int, last: int) -> bool:
        """Whether the instant, between two ticks on record, may have been none: their schedule is no longer known."""
        return self.older and self._tick not in (first, last)

    def _uncertain(self) -> str:
        return f"Whether it was due is not known. {self.schedule_since()}"


def _schedule_of(known: KnownJob) -> Schedule | None:
    """The schedule in force, by its text and zone; None for a kind that is not installed here."""
    try:
        return schedule_of_text(known.schedule, known.timezone or None)
    except ScheduleError:
        return None


def _source_of(schedule: Schedule, records: TickRecords) -> TickSource:
    return made_ticks(schedule, records) if is_made(schedule) else tick_source(schedule)
