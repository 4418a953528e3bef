"""Words: the sentences of `explain` about runs, leases and instants of a job."""

from __future__ import annotations

from fastapi_crons._util.text import counted, span
from fastapi_crons.clock import in_local_time, local_time
from fastapi_crons.locking.base import KnownJob, Lease
from fastapi_crons.locking.instance import name_of
from fastapi_crons.management.fates.tick_records import TickRecords
from fastapi_crons.run import INTERRUPTED, REASONS, MissedTicks, Run, RunError, RunStatus

_ENDINGS: dict[RunStatus, str] = {
    "running": "is still running",
    "completed": "completed",
    "failed": "failed",
    "timed_out": "exceeded its time limit",
    "cancelled": "was cancelled",
    "interrupted": "was cut off",
}
_ORPHANED = "is on record as running, but its instance is gone: another one records it as interrupted, and may rerun it"
#: Seconds after which a due tick is overdue, and not just about to be handled.
OVERDUE = 10.0


class Words:
    """Sentences, and parts of them, about one instant of a job. `text` and `zone` are those of the schedule in force."""

    def __init__(self, records: TickRecords, text: str, zone: str, details: bool) -> None:
        self._records = records
        self._tick = records.tick
        self._text, self._zone = text, zone
        self._details = details

    def ran(self, run: Run, again: str) -> str:
        attempt = f", attempt {run.attempt}" if run.attempt > 1 else ""
        where = f"at {self.at(run.started_ts)} on {run.instance} (run {run.id}{attempt})"
        return f"It started{again} {where}, and {self.ending(run)}."

    def run_again(self, run: Run) -> str:
        """A run that somebody asked for of a tick that was due before, or of a later one, for which it stands, too."""
        asked = f", asked for by {run.actor}" if run.actor else ", on request"
        note = f" ({run.note})" if run.note and self._details else ""
        which, what = "", "It was run again"
        if run.tick_ts is not None and run.tick_ts != self._tick:
            what = "It was made up for"
            which = f" of {self.at(run.tick_ts)}, which stands for {counted(run.missed_ticks, 'earlier tick')}"
        where = f"by {run.instance} (run {run.id}{which})"
        return f"{what} at {self.at(run.started_ts)}{asked}{note}, {where}, and {self.ending(run)}."

    def in_the_way(self, missed: MissedTicks) -> str:
        """How the run ended that a tick was skipped for, as far as that is on record."""
        if missed.reason != "overlap" or not missed.detail:
            return ""
        holder = next((run for run in self._records.runs if run.id in missed.detail), None)
        if holder is None or holder.ended_ts is None:
            return ""
        if holder.status == "interrupted":
            return f" {self.cut_off(holder)}"
        if holder.ended_ts > self._tick:
            return f" That run {self.ending(holder)}, at {self.at(holder.ended_ts)}."
        return (
            f" That run had ended by then, at {self.at(holder.ended_ts)}, but still held the job: its thread or its hooks were "
            "still running, or its lease could not be released."
        )

    def ending(self, run: Run) -> str:
        """How a run ended, or that it is running."""
        if run.status == "running" or run.ended_ts is None:
            lease = next((each for each in self.leases() if each.run_id == run.id), None)
            if lease is not None and not self.lives(lease):
                return _ORPHANED
            return _ENDINGS[run.status]
        took = f" after {round(run.duration, 2):.10g} s" if run.duration is not None else ""
        error = f": {run.error.type}{self.detail(self._message(run.error))}" if run.error is not None else ""
        return f"{_ENDINGS[run.status]}{took}{error}"

    def cut_off(self, run: Run) -> str:
        why = self.detail(self._message(run.error)) if run.error is not None else ""
        return f"Run {run.id} by {run.instance}, attempt {run.attempt}, was cut off{why}."

    def rerun_of(self, run: Run) -> str:
        """Why a run that was cut off was not rerun, as far as that is known."""
        if any(lease.run_id == run.id for lease in self.leases()):
            return "Its lease is still on record, so another instance may recover and rerun it."
        if run.error is not None and run.error.type != INTERRUPTED:
            return "It was not rerun: its scheduler was stopped, and did not crash."
        return f"It was not rerun: {self._why_not_rerun(run)}."

    def _why_not_rerun(self, run: Run) -> str:
        job, known, most = self._records.job, self._records.known, self._records.max_reruns
        noticed = self._records.now if run.ended_ts is None else run.ended_ts
        grace = None if job.misfire_grace_time is None else job.misfire_grace_time + job.jitter
        if most == 0:
            return "CRON_RERUN_INTERRUPTED and CRON_MAX_RERUNS allow no reruns"
        if run.attempt > most:
            return f"CRON_MAX_RERUNS allows {counted(most, 'rerun')}"
        if known is not None and self._tick < known.since:
            return f"the job has another definition since {self.at(known.since)}"
        if not job.enabled or (known is not None and not known.enabled):
            return "the job is disabled in code"
        if grace is not None and noticed - self._tick > grace:
            late = span(noticed - self._tick)
            return (
                f"that it was cut off was noticed {late} after it was due, and its misfire_grace_time is {span(grace)}"
            )
        if known is not None and known.pause is not None and known.pause.since <= noticed:
            return f"the job is paused {self.paused(known)}"
        return "when that was noticed, the job was paused, or was run or changed already, or was not there any more"

    def leases(self) -> tuple[Lease, ...]:
        return self._records.known.leases if self._records.known is not None else ()

    def lives(self, lease: Lease) -> bool:
        return lease.instance in self._records.living

    def leased(self, lease: Lease) -> str:
        """What a lease says about a tick without a record."""
        who = name_of(lease.instance)
        if lease.missed is not None:
            return f"{who} has skipped it ({REASONS[lease.missed]}), and has not recorded that yet."
        return f"{who} has claimed it (run {lease.run_id}, attempt {lease.attempt}), and has not recorded yet how that ended."

    def why_waiting(self, known: KnownJob, now: float) -> str:
        """Why no instance has claimed a due tick."""
        since = f"It was due {span(now - self._tick)} ago, and no instance has claimed it"
        if not self._records.instances:
            return f"{since}: no instance that runs jobs is running. The next one to start treats it as a late tick."
        job = self._records.job
        if job.jitter and now - self._tick <= job.jitter:
            return f"{since} yet: its jitter delays it, by {span(job.jitter)} at most."
        holder = next((lease for lease in known.leases if lease.missed is None), None)
        if holder is not None and job.overlap != "allow":
            gone = "" if self.lives(holder) else ", but is gone: another instance recovers the job when it notices"
            return (
                f"{since}: it waits for run {holder.run_id} of {name_of(holder.instance)}, which holds the job{gone}."
            )
        if now - self._tick <= OVERDUE:
            return f"{since} yet."
        return (
            f"{since}, although {_live(self._records.instances)} no such job, can't reach the lock store, or "
            f"{'is' if self._records.instances == 1 else 'are'} busy: the health of each says which."
        )

    def paused(self, known: KnownJob) -> str:
        """Since when a job is paused, by whom, and why."""
        assert known.pause is not None
        by = f" by {known.pause.actor}" if known.pause.actor else ""
        return f"since {self.at(known.pause.since)}{by}{self.detail(known.pause.note or '')}"

    def schedule(self) -> str:
        return f"{self._text!r}" + (f" in {self._zone}" if self._zone else "")

    def local(self, text: str) -> str:
        """The text of a record with its instants in the job's time zone, as all others in the explanation."""
        return in_local_time(text, self._zone)

    def _message(self, error: RunError) -> str:
        return self.local(error.message) if error.type == INTERRUPTED else error.message

    def detail(self, text: str) -> str:
        """A text that only some clients may see."""
        return f": {text}" if text and self._details else ""

    def at(self, instant: float) -> str:
        """An instant in the job's time zone."""
        return local_time(instant, self._zone)


def _live(instances: int) -> str:
    return "one instance is running: it has" if instances == 1 else f"{instances} instances are running: they have"
