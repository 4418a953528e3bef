"""Why: what became of an instant of a job, said in a sentence or two."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal
from zoneinfo import ZoneInfo

from fastapi_crons.clock import utc_datetime
from fastapi_crons.errors import ScheduleError, SkipRun
from fastapi_crons.instance import name_of
from fastapi_crons.job import CronJob
from fastapi_crons.locking.base import KnownJob, Lease
from fastapi_crons.run import INTERRUPTED, MissedReason, MissedTicks, Run, RunStatus
from fastapi_crons.schedule import cron_schedule
from fastapi_crons.ticks import TickSource, tick_source

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
class TickRecords:
    """All that is on record about an instant of one job, and now. Instants in Unix seconds (UTC)."""

    tick: int
    now: float
    job: CronJob
    """As this process has it."""
    known: KnownJob | None
    """What the lock store knows of the job; None where no instance has registered it."""
    runs: tuple[Run, ...]
    """The job's runs, oldest first, at least those since the tick."""
    missed: tuple[MissedTicks, ...]
    living: frozenset[str] = frozenset()
    """The owners of leases that live, whatever they do."""
    instances: int = 0
    """How many instances live that run jobs."""


@dataclass(frozen=True, slots=True)
class TickFate:
    """What became of an instant of a job."""

    fate: Fate
    text: str
    """A sentence or two for people; instants in the job's zone."""
    runs: tuple[Run, ...] = ()
    """The runs that answer for it, oldest first."""
    missed: MissedTicks | None = None
    """The record by which it was let go."""
    next_ts: int | None = None
    """The job's next tick after now."""

    @property
    def next(self) -> datetime | None:
        """The job's next tick after now (aware, UTC)."""
        return None if self.next_ts is None else utc_datetime(self.next_ts)


def made_at(record_id: str) -> float:
    """When an id was made, in Unix seconds (UUID version 7)."""
    return int(record_id[:8] + record_id[9:13], 16) / 1000


def explain(records: TickRecords, *, details: bool = True) -> TickFate:
    """What became of the instant. `details` says whether error texts and notes may be told.

    A pure function: whatever is on record explains, in the order of what is known for certain.
    """
    case = _Case(records, details)
    fate = case.run() or case.let_go() or case.covered() or case.not_due() or case.not_handled() or case.no_record()
    if case.older and not case.is_due and fate.fate != "older_schedule":
        fate = replace(fate, text=f"{fate.text} It was due under an older schedule. {case.schedule_since()}")
    return replace(fate, next_ts=case.next_tick())


_ENDINGS: dict[RunStatus, str] = {
    "running": "is still running",
    "completed": "completed",
    "failed": "failed",
    "timed_out": "exceeded its time limit",
    "cancelled": "was cancelled",
    "interrupted": "was cut off",
}
_FATES: dict[MissedReason, Fate] = {"overlap": "skipped", "vetoed": "vetoed", "paused": "paused"}
_REASONS: dict[MissedReason, str] = {
    "overlap": "the job was still running",
    "vetoed": "a before-run hook vetoed it",
    "paused": "the job was paused",
    "disabled": "the job was disabled",
    "schedule_changed": "it was due under an older schedule while no instance ran it, and the schedule was changed since",
    "misfire_grace_time": "it could only be run later than its misfire grace time allows",
    "max_catch_up": "more late ticks stood behind it than are caught up with (max_catch_up)",
}
_ORPHANED = "is on record as running, but its instance is gone: another one closes the record, and may run it again"
_NOT_KNOWN = "What was due before that is not known."
#: A tick that is not handled so long (seconds) after it was due, while instances live, is not just about to be.
_OVERDUE = 10.0


class _Case:
    """One instant, the records, and the sentences to say about them."""

    def __init__(self, records: TickRecords, details: bool) -> None:
        self._records = records
        self._details = details
        self._known = known = records.known
        self._tick = records.tick
        job = records.job
        self._text, self._zone = job.schedule.text, job.schedule_zone
        self._source: TickSource | None = tick_source(job.schedule)
        if known is not None and (known.schedule, known.timezone) != (self._text, self._zone):
            self._text, self._source, self._zone = known.schedule, _source_of(known), known.timezone
        #: Whether the schedule in force had not come into force yet.
        self.older = known is not None and self._tick < known.since
        #: Whether the schedule in force has a tick at this instant.
        self.is_due = self._source is not None and self._source.next_tick(self._tick - 1) == self._tick

    def next_tick(self) -> int | None:
        """The next tick after now."""
        if self._source is None or (self._known is not None and not self._known.enabled):
            return None
        return self._source.next_tick(int(self._records.now))

    def run(self) -> TickFate | None:
        """Runs of this very tick."""
        own = (run for run in self._records.runs if run.tick_ts == self._tick)
        runs = tuple(sorted(own, key=lambda run: (run.attempt, run.token)))
        if not runs:
            return None
        last = runs[-1]
        sentences = [self._cut_off(run) if run.status == "interrupted" else self._ran(run, "") for run in runs[:-1]]
        if last.status == "cancelled" and last.error is not None and last.error.type == SkipRun.__name__:
            why = self._detail(last.error.message)
            return self._fate("vetoed", *sentences, f"A before-run hook vetoed it{why}.", runs=runs)
        if last.status == "interrupted":
            sentences += [self._cut_off(last), self._rerun_of(last)]
            return self._fate("interrupted", *sentences, runs=runs)
        sentences.append(self._ran(last, " again" if len(runs) > 1 else ""))
        if last.delay and self._details:
            sentences.append(f"It started late: {last.delay}.")
        if last.missed_ticks and last.missed_since_ts is not None:
            sentences.append(
                f"The run stands for {_ticks(last.missed_ticks)} before it too, since {self._at(last.missed_since_ts)}."
            )
        return self._fate("running" if last.status == "running" else "ran", *sentences, runs=runs)

    def let_go(self) -> TickFate | None:
        """A record that the tick was let go."""
        if not self._may_be_due():
            return None
        # A row can span what records of their own tell of.
        for missed in sorted(self._records.missed, key=lambda missed: missed.last_ts - missed.first_ts):
            if missed.first_ts <= self._tick <= missed.last_ts:
                row = ""
                if missed.count > 1:
                    number = f"at least {missed.count}" if missed.more else str(missed.count)
                    row = (
                        f" It is one of {number} ticks from {self._at(missed.first_ts)} to {self._at(missed.last_ts)}."
                    )
                reason = _REASONS[missed.reason] + (self._detail(missed.detail) if missed.detail else "")
                text = f"It was not run: {reason}. {missed.instance} put that on record at {self._at(missed.recorded_ts)}.{row}"
                text += self._in_the_way(missed)
                if self._is_uncertain(missed.first_ts, missed.last_ts):
                    return self._fate(
                        "older_schedule", self._uncertain(), f"Ticks around it were not run: {reason}.{row}"
                    )
                return self._fate(_FATES.get(missed.reason, "missed"), text, missed=missed)
        return None

    def covered(self) -> TickFate | None:
        """A run of a later tick that stands for this one."""
        if not self._may_be_due():
            return None
        runs = tuple(
            run
            for run in self._records.runs
            if run.tick_ts is not None and (run.missed_since_ts or run.tick_ts) <= self._tick < run.tick_ts
        )
        if not runs:
            return None
        run = runs[-1]
        assert run.tick_ts is not None
        if self._is_uncertain(run.missed_since_ts or 0, run.tick_ts):
            return self._fate(
                "older_schedule", self._uncertain(), f"Run {run.id} stands for late ticks around it.", runs=runs
            )
        late = f": {run.delay}" if run.delay and self._details else ""
        text = (
            f"It was late{late}; the run of {self._at(run.tick_ts)} stands for it and for all late ticks, "
            f"{_ticks(run.missed_ticks + 1)} (coalesce)."
        )
        sentences = [text, *(self._cut_off(each) for each in runs[:-1])]
        sentences.append(f"That run, {run.id} by {run.instance}, {self._ending(run)}.")
        return self._fate("covered", *sentences, runs=runs)

    def not_due(self) -> TickFate | None:
        """An instant at which the schedule in force has nothing due."""
        if self.older or self.is_due:
            return None
        if self._source is None:
            kind = f"{self._schedule()} is a schedule of another kind than are installed"
            claimed = self._claim() is not None
            return None if claimed else self._fate("unknown", f"Whether it is due can't be told here: {kind}.")
        following = self._source.next_tick(self._tick)
        then = "it is never due after that" if following is None else f"the next tick after it is {self._at(following)}"
        return self._fate(
            "not_due", f"The job is not due then: {self._schedule()} has no tick at that instant; {then}."
        )

    def not_handled(self) -> TickFate | None:
        """A tick that nobody has claimed or let go so far."""
        known, now = self._known, self._records.now
        if known is None:
            if self._tick > now:
                return self._fate("not_yet", f"It is due in {_span(self._tick - now)}.", self._never_registered())
            return self._fate("unknown", self._never_registered())
        if self._tick <= known.mark or self.older:
            return None
        if known.pause is not None:
            when = "was due" if self._tick <= now else "will be due"
            what = f"it {when} in that time, and is not run"
            if self._tick <= known.pause.since:
                what = "it was late already when that began, and is run only if the job is resumed with catch_up"
            return self._fate("paused", f"The job is paused {self._paused(known)}; {what}.")
        if not known.enabled:
            return self._fate("missed", "The job is disabled: none of its ticks is run.")
        if self._tick > now:
            return self._fate("not_yet", f"It is due in {_span(self._tick - now)}; nothing has become of it yet.")
        return self._fate("waiting", self._why_waiting(known, now))

    def no_record(self) -> TickFate:
        """A tick that was handled, and that no record tells of."""
        known = self._known
        assert known is not None
        if self._tick > self._records.now:
            ahead = (
                f"the newest tick on record as handled is {self._at(known.mark)}, which lies ahead: a clock was wrong"
            )
            return self._fate(
                "unknown", f"It is not run: {ahead}. The job goes on when that has passed, or was put back."
            )
        lease = self._claim()
        if lease is not None:
            return self._fate("running" if lease.let_go is None else "missed", self._leased(lease))
        if self.older:
            return self._fate("older_schedule", f"Nothing is on record of it. {self.schedule_since()}", _NOT_KNOWN)
        runs, missed = self._records.runs, self._records.missed
        kept = [made_at(run.id) for run in runs] or [each.recorded_ts for each in missed]
        oldest = min(kept, default=None)
        if oldest is not None and oldest > self._tick:
            why = f"the history reaches back to {self._at(oldest)} only"
        else:
            why = "its record is not written yet, or was lost while the state store did not answer"
        return self._fate(
            "unknown",
            f"It was handled (all ticks up to {self._at(known.mark)} were), and nothing is on record of it: {why}.",
        )

    def schedule_since(self) -> str:
        """Since when the schedule is what it is."""
        assert self._known is not None
        return f"The schedule {self._schedule()} is in force since {self._at(self._known.since)}."

    def _claim(self) -> Lease | None:
        """The lease that answers for the tick."""
        leases = (each for each in self._leases() if each.tick is not None)
        return next((each for each in leases if each.after < self._tick <= (each.tick or 0)), None)

    def _ran(self, run: Run, again: str) -> str:
        attempt = f", attempt {run.attempt}" if run.attempt > 1 else ""
        where = f"by {run.instance}, from {self._at(run.started_ts)} on (run {run.id}{attempt})"
        return f"It was run{again} {where}, and {self._ending(run)}."

    def _fate(
        self, fate: Fate, *sentences: str, runs: tuple[Run, ...] = (), missed: MissedTicks | None = None
    ) -> TickFate:
        return TickFate(fate, " ".join(sentence for sentence in sentences if sentence), runs, missed)

    def _may_be_due(self) -> bool:
        """Whether the instant is a tick, or would have been one under an older schedule."""
        return self.older or self._source is None or self.is_due

    def _is_uncertain(self, first: int, last: int) -> bool:
        """Whether nothing says that an instant inside a row of ticks was one: their schedule is not known any more."""
        return self.older and self._tick not in (first, last)

    def _uncertain(self) -> str:
        return f"Whether it was due is not known. {self.schedule_since()}"

    def _in_the_way(self, missed: MissedTicks) -> str:
        """What is known by now of the run that a tick was skipped for: it may have ended without a chance to say so."""
        if missed.reason != "overlap" or not missed.detail:
            return ""
        holder = next((run for run in self._records.runs if run.id in missed.detail), None)
        if holder is None or holder.ended_ts is None:
            return ""
        if holder.status == "interrupted":
            return f" {self._cut_off(holder)}"
        if holder.ended_ts > self._tick:
            return f" That run {self._ending(holder)}, at {self._at(holder.ended_ts)}."
        why = "its after-run hooks went on, the lock store did not answer, or its instance was held up"
        if holder.error is not None and "its thread can't be ended" in holder.error.message:
            why = "its thread could not be ended, and went on"
        return f" That run had ended by then, at {self._at(holder.ended_ts)}, but still held the job: {why}."

    def _ending(self, run: Run) -> str:
        if run.status == "running" or run.ended_ts is None:
            lease = next((each for each in self._leases() if each.run_id == run.id), None)
            if lease is not None and not self._lives(lease):
                return _ORPHANED
            return _ENDINGS[run.status]
        took = f" after {run.duration:.3g} s" if run.duration is not None else ""
        error = f": {run.error.type}{self._detail(run.error.message)}" if run.error is not None else ""
        return f"{_ENDINGS[run.status]}{took}{error}"

    def _cut_off(self, run: Run) -> str:
        why = self._detail(run.error.message) if run.error is not None else ""
        return f"Run {run.id} by {run.instance}, attempt {run.attempt}, was cut off{why}."

    def _rerun_of(self, run: Run) -> str:
        if any(lease.run_id == run.id for lease in self._leases()):
            return "Its lease is still on record, so another instance may take it up and run it again."
        if run.error is not None and run.error.type != INTERRUPTED:
            return "It was not run again: that was its scheduler's stop, and no crash."
        return (
            "It was not run again: the job does not rerun what was interrupted, or did so as often as it may, or was paused, "
            "disabled or changed since, or it was too late for that."
        )

    def _leases(self) -> tuple[Lease, ...]:
        return self._known.leases if self._known is not None else ()

    def _lives(self, lease: Lease) -> bool:
        return lease.instance in self._records.living

    def _leased(self, lease: Lease) -> str:
        who = name_of(lease.instance)
        if lease.let_go is not None:
            return f"{who} has let it go ({_REASONS[lease.let_go]}), and not put that on record yet."
        return f"{who} has claimed it (run {lease.run_id}, attempt {lease.attempt}), and not put on record yet how that ended."

    def _why_waiting(self, known: KnownJob, now: float) -> str:
        since = f"It was due {_span(now - self._tick)} ago, and nobody has claimed it"
        if not self._records.instances:
            return f"{since}: no instance lives that runs jobs. The next one to start treats it as a late tick."
        job = self._records.job
        if job.jitter and now - self._tick <= job.jitter:
            return f"{since} yet: its jitter holds it back, for {_span(job.jitter)} at most."
        holder = next((lease for lease in known.leases if lease.let_go is None), None)
        if holder is not None and job.overlap != "allow":
            gone = "" if self._lives(holder) else ", but is gone: the others take over when they notice"
            return (
                f"{since}: it waits for run {holder.run_id} of {name_of(holder.instance)}, which holds the job{gone}."
            )
        if now - self._tick <= _OVERDUE:
            return f"{since} yet."
        return (
            f"{since}, although {self._records.instances} instance(s) live: they have no such job, can't reach the lock store, "
            "or are busy; their health says which."
        )

    def _paused(self, known: KnownJob) -> str:
        assert known.pause is not None
        by = f" by {known.pause.actor}" if known.pause.actor else ""
        return f"since {self._at(known.pause.since)}{by}{self._detail(known.pause.note or '')}"

    def _never_registered(self) -> str:
        return "No instance has registered the job in this store, so none has run it."

    def _schedule(self) -> str:
        return f"{self._text!r}" + (f" in {self._zone}" if self._zone else "")

    def _detail(self, text: str) -> str:
        return f": {text}" if text and self._details else ""

    def _at(self, instant: float) -> str:
        moment = utc_datetime(int(instant))
        try:
            local = moment.astimezone(ZoneInfo(self._zone or "UTC"))
        except (LookupError, ValueError, OSError):  # a zone that is not known on this host
            local = moment
        return f"{local:%Y-%m-%d %H:%M:%S %Z}"


def _source_of(known: KnownJob) -> TickSource | None:
    """The ticks of a schedule of which only text and zone are known; None for a kind that is not installed here."""
    try:
        return cron_schedule(known.schedule, known.timezone or "UTC")
    except ScheduleError:
        return None


def _ticks(number: int) -> str:
    return "one tick" if number == 1 else f"{number} ticks"


def _span(seconds: float) -> str:
    """A duration in the one or two units that matter."""
    left, parts = max(0, round(seconds)), []
    for unit, name in ((86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second")):
        number, left = divmod(left, unit)
        if number:
            parts.append(f"{number} {name}{'s' if number > 1 else ''}")
    return " and ".join(parts[:2]) or "0 seconds"
