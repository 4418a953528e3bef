"""Timeline: which schedules are due next.

Jobs that share a schedule share one place in a heap, so that idle jobs cost nothing.
"""

from __future__ import annotations

import heapq
import logging
from collections.abc import Iterable
from hashlib import blake2b
from time import thread_time
from typing import NamedTuple

from fastapi_crons._util.backoff import Meter
from fastapi_crons._util.text import one_line, span
from fastapi_crons.engine.dispatch.lateness import Delay
from fastapi_crons.engine.runs.run import ActiveRun
from fastapi_crons.job import CronJob
from fastapi_crons.locking.base import Lease
from fastapi_crons.run import MissedTicks
from fastapi_crons.schedule.cron import Schedule
from fastapi_crons.schedule.due import Policy, Row, Step, TickSource, count_row, next_step, old_row, tick_source

logger = logging.getLogger(__name__)

#: After how long (seconds) a schedule that failed is asked again.
_ASK_AGAIN = 60
#: How long (seconds) ticks are counted for a message.
_COUNTING = 0.008
#: After how many ticks the time is looked at meanwhile.
_LOOKS = 20


class Skipped(NamedTuple):
    """Ticks that one run is in the way of."""

    holder: str
    """The run."""
    record: MissedTicks
    untold: int
    """How many of them nothing has been logged about."""


class Entry:
    """What this instance knows of a job that it has registered with the store."""

    __slots__ = (
        "busy_until",
        "delay",
        "group",
        "in_force",
        "job",
        "late",
        "late_until",
        "mark",
        "policy",
        "queued",
        "retrying",
        "runs",
        "skipped",
        "waiting",
        "waits_for",
        "wakes_at",
    )

    def __init__(self, job: CronJob, group: Group, policy: Policy, mark: int) -> None:
        self.job = job
        self.group = group
        self.policy = policy
        #: The newest tick known to be handled, in Unix seconds.
        self.mark = mark
        #: Whether the job waits for its turn to claim a tick, and whether it was late when that was noticed.
        self.queued = False
        self.late = False
        #: Whether the schedule that this instance has is the one in force.
        self.in_force = True
        #: Runs of this job in this instance, and whether more ticks wait for one of them to end.
        self.runs: tuple[ActiveRun, ...] = ()
        self.waiting = False
        #: The one run that it waits for; None: until none of this job goes on here.
        self.waits_for: str | None = None
        #: Up to which tick it was late, and until when (Unix seconds) the run went on that the late ticks waited for.
        self.late_until = 0
        self.busy_until = 0
        #: Whether it is to be tried again in a moment.
        self.retrying = False
        #: What was last in the way of this job alone.
        self.delay: Delay | None = None
        #: The ticks that were skipped for a run that still goes on.
        self.skipped: Skipped | None = None
        #: When the tick that jitter holds back was last seen to become due.
        self.wakes_at: float | None = None

    def started(self, run: ActiveRun) -> None:
        """A run of this job was started in this instance."""
        self.runs = (*self.runs, run)

    def ended(self, run: ActiveRun) -> None:
        """A run of this job has ended, and its lease is released."""
        runs = list(self.runs)
        runs.remove(run)
        self.runs = tuple(runs)

    def row(self, lease: Lease, until: int) -> Row | None:
        """The ticks that a lease answers for, up to `until`, by the schedule that they are ticks of."""
        if (lease.schedule, lease.timezone) == (self.job.schedule.text, self.job.schedule_zone):
            return self.group.row(lease.after, until)
        return old_row(lease.schedule, lease.timezone, lease.after, until)

    def step(self, now: float) -> Step:
        """What to do next about this job's ticks in (mark, now], those aside that its jitter holds back."""
        if self.job.jitter:
            held_back = self._held_back(now)
            if held_back is not None:
                return next_step(self.group.source, self.mark, held_back - 1, self.policy)
        return self.group.step(self.mark, now, self.policy)

    def is_due(self, now: float) -> bool:
        """Whether there is a tick in (mark, now]."""
        tick = self.group.source.next_tick(self.mark)
        return tick is not None and tick <= now

    def late_step(self, now: float) -> Step:
        """What to do next about the ticks that were late when that was noticed."""
        held_back = self._held_back(now) if self.job.jitter else None
        until = self.late_until if held_back is None else min(self.late_until, held_back - 1)
        return next_step(self.group.source, self.mark, until, self.policy)

    def due_later(self, now: float) -> float | None:
        """When the oldest tick that jitter holds back becomes due, in Unix seconds; None when there is none."""
        held_back = self._held_back(now)
        return None if held_back is None else held_back + self._delay(held_back)

    def _held_back(self, now: float) -> int | None:
        """The oldest tick up to now that is not due yet. The younger ones wait for it: ticks keep their order."""
        since = max(self.mark, int(now - self.job.jitter) - 1)
        ticks = self.group.source.ticks_between(since, int(now))
        return next((tick for tick in ticks if tick + self._delay(tick) > now), None)

    def _delay(self, tick: int) -> float:
        """How long jitter holds a tick back, in seconds: the same for this job and tick wherever it is asked."""
        digest = blake2b(f"{self.job.name}\0{tick}".encode(), digest_size=8).digest()
        return self.job.jitter * int.from_bytes(digest, "big") / 2**64


class Group:
    """The jobs that share a schedule."""

    __slots__ = (
        "_asked",
        "_counted",
        "_made_for",
        "_row",
        "_step",
        "broken",
        "entries",
        "failures",
        "fault",
        "next_tick",
        "source",
    )

    def __init__(self, schedule: Schedule, made_for: str) -> None:
        self.source: TickSource = tick_source(schedule, self._stopped)
        self.entries: list[Entry] = []
        self._made_for = made_for
        #: How the schedule broke the protocol: it has no more ticks.
        self.fault: str | None = None
        self.next_tick: int | None = None
        #: Whether the schedule failed when it was asked last.
        self.broken = False
        #: When failures of the schedule are logged; None as long as it never failed.
        self.failures: Meter | None = None
        self._asked: tuple[int, int | None, Policy] | None = None
        self._step: Step | None = None
        self._counted: tuple[int, int] | None = None
        self._row: Row | None = None

    @property
    def names(self) -> list[str]:
        """The jobs."""
        return [entry.job.name for entry in self.entries] or [self._made_for]

    def _stopped(self, fault: str) -> None:
        self.fault = fault
        logger.error(
            "the schedule of %s can't be used, so it runs nothing any more: %s",
            _listed(self.names),
            fault,
        )

    def failed(self, now: float, error: Exception) -> None:
        """The schedule raised an error when it was asked for its next tick."""
        self.broken = True
        if self.failures is None:
            self.failures = Meter()
        lasting = self.failures.failed(now)
        if lasting is not None:
            logger.error(
                "the schedule of %s %s, and is asked again each %d s: %s",
                _listed(self.names),
                "failed" if lasting.first else f"has failed for {span(lasting.seconds)}",
                _ASK_AGAIN,
                one_line(error),
            )

    def works(self, now: float) -> None:
        """The schedule, which has failed before, gave its next tick."""
        self.broken = False
        lasting = None if self.failures is None else self.failures.works(now)
        if lasting is not None:
            logger.warning("the schedule of %s works again, after %s", _listed(self.names), span(lasting.seconds))

    def row(self, after: int, until: int) -> Row | None:
        """The ticks in (after, until] as one row; None when there are none."""
        # After a downtime many jobs of a group ask the same, and counting takes long.
        if self._counted != (after, until):
            self._counted, self._row = (after, until), count_row(self.source, after, until)
        return self._row

    def step(self, mark: int, now: float, policy: Policy) -> Step:
        """What to do next about a job's ticks in (mark, now]."""
        # Between two ticks the answer is the same for all jobs of the group that handled the same ticks before,
        # unless a grace time is running out.
        asked = (mark, self.next_tick, policy)
        if self._step is not None and self._asked == asked and policy.grace is None:
            return self._step
        step = next_step(self.source, mark, now, policy)
        if self.next_tick is None or self.next_tick > now:
            self._asked, self._step = asked, step
        return step


class Timeline:
    """The schedules of a scheduler, ordered by their next tick."""

    def __init__(self) -> None:
        self._groups: dict[Schedule, Group] = {}
        self._heap: list[tuple[int, int, Group]] = []
        self._sequence = 0

    def group_of(self, schedule: Schedule, now: float, job: str) -> Group:
        """The group of jobs with this schedule, made where there is none; `job` is one of them."""
        group = self._groups.get(schedule)
        if group is None:
            group = self._groups[schedule] = Group(schedule, job)
            self._place(group, now)
        return group

    @property
    def next_tick(self) -> int | None:
        """The earliest tick of all, in Unix seconds."""
        return self._heap[0][0] if self._heap else None

    def count(self, after: float, until: float) -> tuple[int, bool]:
        """How many ticks of all jobs lie in (after, until], and whether there are more than could be counted in time.

        Safe to call from any thread.
        """
        number, stop_at = 0, thread_time() + _COUNTING
        for group in list(self._groups.values()):
            jobs = sum(entry.in_force for entry in list(group.entries))
            try:
                for count, _ in enumerate(group.source.ticks_between(int(after), int(until)) if jobs else ()):
                    number += jobs
                    if count % _LOOKS == 0 and thread_time() > stop_at:
                        return number, True
            except Exception:
                continue  # a schedule of somebody else's, which is told of elsewhere
        return number, False

    def pop_due(self, now: float) -> Iterable[tuple[int, Group]]:
        """The groups that have become due with their earliest new tick; each is placed at its next one after now."""
        due = []
        while self._heap and self._heap[0][0] <= now:
            tick, _, group = heapq.heappop(self._heap)
            due.append((tick, group))
        asked_again = [group for _, group in due if group.broken]
        for _, group in due:
            self._place(group, now)
        return [(tick, group) for tick, group in due if group not in asked_again] if asked_again else due

    def unfit(self) -> list[str]:
        """The jobs whose schedule broke the protocol, or failed when it was asked last."""
        groups = [group for group in self._groups.values() if group.broken or group.fault is not None]
        return sorted(entry.job.name for group in groups for entry in group.entries)

    def clock_set_back(self, now: float) -> None:
        """Place every schedule anew at its next tick after now."""
        self._heap.clear()
        for group in self._groups.values():
            self._place(group, now)

    def _place(self, group: Group, now: float) -> None:
        try:
            group.next_tick = group.source.next_tick(int(now))
            if group.failures is not None:
                group.works(now)
        except Exception as error:  # a schedule of somebody else's
            group.failed(now, error)
            group.next_tick = int(now) + _ASK_AGAIN
        if group.next_tick is not None:
            self._sequence += 1
            heapq.heappush(self._heap, (group.next_tick, self._sequence, group))


def _listed(names: list[str]) -> str:
    return ", ".join(map(repr, names[:5])) + (", …" if len(names) > 5 else "")
