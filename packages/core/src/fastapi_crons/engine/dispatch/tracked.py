"""TrackedJob: what this instance knows of one job that it has registered.

idle     → queued     something is due
queued   → claiming   its turn has come; → idle where nothing is due after all
claiming → idle       all claims are answered; → queued where something else has become due meanwhile
         → retrying   a claim was refused; → queued in a moment
         → waiting    for a run, for all runs, or for the release of a lease; → queued when that has ended

Whenever a job leaves `queued`, it is found out again which of its ticks are due. So no tick is forgotten on the way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from fastapi_crons.engine.dispatch.jitter import due_time, oldest_held_back
from fastapi_crons.engine.dispatch.lateness import Delay
from fastapi_crons.engine.runs.run import ActiveRun
from fastapi_crons.job import CronJob
from fastapi_crons.locking.base import Lease
from fastapi_crons.run import MissedTicks
from fastapi_crons.schedule.due import NOTHING, Policy, SharedTicks, Step, TickRange, newest_tick, next_step
from fastapi_crons.schedule.own import OwnTicks
from fastapi_crons.schedules.texts import range_of_text


class Phase(Enum):
    """What happens to a job's ticks. The job may also be running in any of these phases."""

    IDLE = "idle"
    """Nothing is due."""
    QUEUED = "queued"
    """Something is due, and waits in the queue for room to run."""
    CLAIMING = "claiming"
    """The lock store has been asked for ticks."""
    WAITING_FOR_RUN = "waiting for a run"
    """Ticks are due that can be claimed when one certain run has ended."""
    WAITING_FOR_RUNS = "waiting for all runs"
    """Ticks are due that can be claimed when no run of the job is left in this instance."""
    WAITING_FOR_RELEASE = "waiting for the release of a lease"
    """For the lock store, the job is running until a lease is released."""
    RETRYING = "retrying"
    """A claim was refused. It is made again in a moment."""


IDLE, QUEUED, CLAIMING, WAITING_FOR_RUN, WAITING_FOR_RUNS, WAITING_FOR_RELEASE, RETRYING = Phase
_MAY_QUEUE = (IDLE, RETRYING)
_WAITING = (WAITING_FOR_RUN, WAITING_FOR_RUNS, WAITING_FOR_RELEASE)


class IllegalTransitionError(RuntimeError):
    """A job was asked to do what its phase does not allow: a fault of the dispatcher."""


class Skipped(NamedTuple):
    """The ticks that were skipped while one run held the job."""

    holder: str
    """The run's id."""
    record: MissedTicks
    not_logged: int
    """How many of them no log message has mentioned."""


@dataclass(slots=True, eq=False, repr=False)
class TrackedJob:
    """What this instance knows of one job that it has registered. Only its own methods change it."""

    job: CronJob
    ticks: SharedTicks
    policy: Policy
    #: The newest tick known to be handled, in Unix seconds.
    last_handled: int
    #: Its ticks, where its own runs or starts make them; None where the clock makes them.
    own_ticks: OwnTicks | None = field(init=False)
    phase: Phase = IDLE
    #: Whether the definition that this instance has registered is the one in force.
    in_force: bool = True
    #: Whether the job was removed or replaced, or is to be registered again as another one of these.
    dropped: bool = False
    #: The runs of this job in this instance whose leases are not released yet.
    runs: tuple[ActiveRun, ...] = ()
    #: Whether ticks were late when they were noticed, and when (Unix seconds) that was.
    late: bool = False
    late_until: int = 0
    #: When (Unix seconds) the last of the runs ended that ticks waited for.
    busy_until: int = 0
    #: What last delayed this job alone.
    delay: Delay | None = None
    #: The ticks that were skipped for the run that holds the job.
    skipped: Skipped | None = None
    #: How many claims have no answer yet, and whether something has become due meanwhile.
    _claims: int = 0
    _look_again: bool = False
    #: The run that more ticks wait for.
    _awaited: ActiveRun | None = None

    def __post_init__(self) -> None:
        self.own_ticks = self.ticks if isinstance(self.ticks, OwnTicks) else None

    @property
    def waiting(self) -> bool:
        """Whether its ticks wait for a run or a release."""
        return self.phase in _WAITING

    @property
    def pending(self) -> bool:
        """Whether it is queued or waits. Ticks that fall due meanwhile need not be noticed."""
        return self.phase is QUEUED or self.phase in _WAITING

    # Transitions.

    def queue(self) -> None:
        """Something is due, and the job is put in the queue."""
        if self.phase not in _MAY_QUEUE:
            raise self._illegal("be queued")
        self.phase = QUEUED

    def leave_queue(self) -> None:
        """Its turn has come, but its schedule failed, so that it is unknown what is due."""
        if self.phase is not QUEUED:
            raise self._illegal("leave the queue")
        self.phase = IDLE

    def claim(self, number: int) -> None:
        """Its turn has come, and this many claims are made: none where nothing is due."""
        if self.phase is not QUEUED:
            raise self._illegal("claim before its turn")
        if self._claims:
            raise self._illegal(f"claim while {self._claims} claims have no answer")
        self.phase = CLAIMING if number else IDLE
        self._claims, self._look_again, self.late = number, False, False

    def look_again(self) -> None:
        """Something has become due while claims have no answer."""
        if self.phase is not CLAIMING:
            raise self._illegal("look again after its claims")
        self._look_again = True

    def answered(self) -> bool:
        """A claim was answered, and what follows was done. Returns whether the job is to be queued again."""
        if not self._claims:
            raise self._illegal("be answered without a claim")
        self._claims -= 1
        if self._claims or self.phase is not CLAIMING:
            return False
        self.phase = IDLE
        return self._look_again

    def claims_failed(self) -> bool:
        """The claims get no answer. Returns whether the job is to be queued again."""
        asked, self._claims = self._claims, 0
        if not asked or self.phase is not CLAIMING:
            return False
        self.phase = IDLE
        return True

    def retry(self) -> None:
        """A claim was refused, and is to be made again in a moment. No effect where the job waits, or is queued already."""
        if self.phase is IDLE:
            raise self._illegal("be tried again without a claim")
        if self.phase is CLAIMING:
            self.phase = RETRYING

    def run_started(self, run: ActiveRun, *, more_due: bool = False) -> None:
        """A run of the job starts in this instance. Further ticks that are due wait for its end, or overlap with it."""
        if run in self.runs:
            raise self._illegal(f"start run {run.id} twice")
        self.runs = (*self.runs, run)
        if more_due and self.job.overlap == "allow":
            self._look_again, self.late = True, self.late or run.trigger == "catch_up"
        elif more_due:
            self.phase, self._awaited = WAITING_FOR_RUN, run

    def wait_for_runs(self, *, late: bool = False) -> None:
        """Ticks are due that can run when no run of the job is left here. No effect where the job waits already."""
        if not self.runs:
            raise self._illegal("wait for runs: there are none")
        if self.phase not in _WAITING:
            self.phase = WAITING_FOR_RUNS
        self.late = self.late or late

    def run_ended(self, run: ActiveRun, now: Callable[[], float]) -> bool:
        """A run has ended, and its lease is released. Returns whether the job waited for it, and is to be queued again."""
        if run not in self.runs:
            raise self._illegal(f"end run {run.id}, which is none of its")
        if len(self.runs) == 1:
            self.runs = ()
        else:
            others = list(self.runs)
            others.remove(run)
            self.runs = tuple(others)
        if self.phase is WAITING_FOR_RUNS and not self.runs:
            self.busy_until = int(now())
        elif self.phase is not WAITING_FOR_RUN or run is not self._awaited:
            return False
        # Late ticks stay late. `late_until` stays, too: what fell due since then is not late.
        self.phase, self._awaited, self.late = IDLE, None, self.late or run.trigger == "catch_up"
        return True

    def wait_for_release(self) -> None:
        """Nothing can be claimed until a lease is released. No effect where the job waits already."""
        if self.phase not in _WAITING:
            self.phase = WAITING_FOR_RELEASE

    def lease_released(self) -> bool:
        """A lease is released. Returns whether the job waited for it, and is to be queued again."""
        if self.phase is not WAITING_FOR_RELEASE:
            return False
        self.phase = IDLE
        return True

    def _illegal(self, what: str) -> IllegalTransitionError:
        return IllegalTransitionError(f"job {self.job.name!r} is {self.phase.value} and can't {what}")

    # What is known of its ticks and its definition.

    def handled(self, tick: int) -> None:
        """A tick is handled, and all before it."""
        self.last_handled = max(self.last_handled, tick)

    def reset_last_handled(self, tick: int) -> None:
        """The lock store has another last handled tick, or a clock was set back."""
        self.last_handled = tick

    def noticed_late(self, now: int) -> None:
        """The ticks up to now that are due are late."""
        if not self.late:
            self.late, self.late_until = True, now

    def delayed(self, delay: Delay) -> None:
        """Something delayed the ticks of this job alone."""
        self.delay = delay

    def skip(self, holder: str, record: MissedTicks, not_logged: int) -> None:
        """Ticks were skipped for a run that holds the job."""
        self.skipped = Skipped(holder, record, not_logged)

    def all_skips_logged(self) -> None:
        """The log mentions all skipped ticks."""
        if self.skipped is not None:
            self.skipped = self.skipped._replace(not_logged=0)

    def set_in_force(self, in_force: bool) -> None:
        """Whether the definition that this instance has registered is the one in force."""
        self.in_force = in_force

    def drop(self) -> None:
        """The job is no longer registered as this one. Its ticks are not claimed any more."""
        self.dropped = True

    # Which ticks are due.

    def own_due(self, now: float) -> int | None:
        """When (Unix seconds) to look again at ticks that the clock does not make; None for never, and while it runs here."""
        if self.own_ticks is None or self.runs:
            return None
        due = self.own_ticks.source.next_tick(self.last_handled)
        return due if due is None or due > now else int(now) + self.own_ticks.ask_again

    def steps(self, now: float) -> list[Step]:
        """What to claim next, in this order; empty where nothing is due.

        Where late ticks waited for runs to end, the ticks that fell due meanwhile overlapped with these runs.
        """
        if self.late and self.job.overlap == "skip" and self.busy_until > self.late_until:
            since, held_back = max(self.last_handled, self.late_until), self._held_back(now)
            until = int(now) if held_back is None else held_back - 1
            overlapped = newest_tick(self.ticks.source, since, min(until, self.busy_until))
            if overlapped is not None:
                late = next_step(self.ticks.source, self.last_handled, self.late_until, self.policy)
                if late.more:
                    return [late]
                skipped = Step(None, ((overlapped, "overlap"),))
                return [skipped] if late is NOTHING else [late, skipped]
        step = self.step(now)
        return [] if step is NOTHING else [step]

    def step(self, now: float) -> Step:
        """What to claim next of the ticks in (last handled, now], except those that jitter holds back."""
        if self.job.jitter and (held_back := self._held_back(now)) is not None:
            return next_step(self.ticks.source, self.last_handled, held_back - 1, self.policy)
        return self.ticks.step(self.last_handled, now, self.policy)

    def is_due(self, now: float) -> bool:
        """Whether there is a tick in (last handled, now]."""
        tick = self.ticks.source.next_tick(self.last_handled)
        return tick is not None and tick <= now

    def due_later(self, now: float) -> float | None:
        """When (Unix seconds) the oldest tick is due that jitter holds back; None when there is none."""
        held_back = self._held_back(now)
        return None if held_back is None else due_time(self.job, held_back)

    def _held_back(self, now: float) -> int | None:
        return oldest_held_back(self.job, self.ticks.source, self.last_handled, now)

    def covered_by(self, lease: Lease, until: int) -> TickRange | None:
        """The ticks up to `until` that a lease answers for, by the schedule under which it was claimed."""
        if (lease.schedule, lease.timezone) == (self.job.schedule.text, self.job.schedule_zone):
            return self.ticks.range(lease.after, until)
        return range_of_text(lease.schedule, lease.timezone, lease.after, until)
