"""Timeline: which schedules are due next.

Jobs that share a schedule share one place in a heap, so that idle jobs cost nothing.
"""

from __future__ import annotations

import heapq
import logging
from collections.abc import Iterable
from time import thread_time

from fastapi_crons._util.backoff import Meter
from fastapi_crons._util.part import listed
from fastapi_crons._util.text import one_line, span
from fastapi_crons.clock import utc_datetime
from fastapi_crons.engine.dispatch.tracked import TrackedJob
from fastapi_crons.job import CronJob
from fastapi_crons.schedule.base import Schedule
from fastapi_crons.schedule.due import SharedTicks, last_tick, tick_source

logger = logging.getLogger(__name__)

#: How long (seconds) until a schedule that failed is asked again.
_ASK_AGAIN = 60
#: How long (seconds) ticks are counted for a log message.
_COUNTING = 0.008
#: After how many ticks the clock is read while counting.
_LOOKS = 20
#: How long (seconds) before now a job may have been registered for the first time.
_REGISTERED_JUST_NOW = 1.5


class Group:
    """The jobs that share a schedule."""

    __slots__ = ("_made_for", "broken", "failures", "fault", "jobs", "ticks")

    def __init__(self, schedule: Schedule, made_for: str) -> None:
        self.ticks = SharedTicks(tick_source(schedule, self._stopped))
        self.jobs: list[TrackedJob] = []
        self._made_for = made_for
        #: How the schedule broke the protocol. Such a schedule has no more ticks.
        self.fault: str | None = None
        #: Whether the schedule failed when it was asked last.
        self.broken = False
        #: When failures of the schedule are logged; None as long as it never failed.
        self.failures: Meter | None = None

    @property
    def names(self) -> list[str]:
        """The names of the jobs."""
        return [tracked.job.name for tracked in self.jobs] or [self._made_for]

    def _stopped(self, fault: str) -> None:
        self.fault = fault
        logger.error("the schedule of %s can't be used, and runs nothing any more: %s", listed(self.names), fault)

    def failed(self, now: float, error: Exception) -> None:
        """The schedule raised an error when it was asked for its next tick."""
        self.broken = True
        if self.failures is None:
            self.failures = Meter()
        lasting = self.failures.failed(now)
        if lasting is not None:
            logger.error(
                "the schedule of %s %s, and is asked again every %d s: %s",
                listed(self.names),
                "failed" if lasting.first else f"has failed for {span(lasting.seconds)}",
                _ASK_AGAIN,
                one_line(error),
            )

    def works(self, now: float) -> None:
        """The schedule, which failed before, returned its next tick."""
        self.broken = False
        lasting = None if self.failures is None else self.failures.works(now)
        if lasting is not None:
            logger.warning("the schedule of %s works again, after %s", listed(self.names), span(lasting.seconds))


class Timeline:
    """The schedules of a scheduler, ordered by their next tick."""

    def __init__(self) -> None:
        self._groups: dict[Schedule, Group] = {}
        self._heap: list[tuple[int, int, Group]] = []
        self._sequence = 0

    def ticks_of(self, job: CronJob, now: float) -> SharedTicks:
        """The ticks of a job's schedule, which other jobs may share."""
        return self._group_of(job, now).ticks

    def add(self, tracked: TrackedJob, now: float) -> None:
        """Have `pop_due` return this job from now on."""
        self._group_of(tracked.job, now).jobs.append(tracked)

    def remove(self, tracked: TrackedJob) -> None:
        """Have `pop_due` return this job no more."""
        self._groups[tracked.job.schedule].jobs.remove(tracked)

    @property
    def next_tick(self) -> int | None:
        """The earliest tick of all, in Unix seconds."""
        return self._heap[0][0] if self._heap else None

    def _group_of(self, job: CronJob, now: float) -> Group:
        group = self._groups.get(job.schedule)
        if group is None:
            group = self._groups[job.schedule] = Group(job.schedule, job.name)
            self._place(group, now)
        return group

    def count(self, after: float, until: float) -> tuple[int, bool]:
        """How many ticks of all jobs lie in (after, until], and whether counting stopped early.

        Safe to call from any thread.
        """
        number, stop_at = 0, thread_time() + _COUNTING
        for group in list(self._groups.values()):
            jobs = sum(tracked.in_force for tracked in list(group.jobs))
            try:
                for count, _ in enumerate(group.ticks.source.ticks_between(int(after), int(until)) if jobs else ()):
                    number += jobs
                    if count % _LOOKS == 0 and thread_time() > stop_at:
                        return number, True
            except Exception:
                continue  # raised by a schedule that is not ours, and logged elsewhere
        return number, False

    def pop_due(self, now: float) -> Iterable[tuple[int, Group]]:
        """The groups that have become due, each with its earliest tick since. They are placed at their next tick after now."""
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
        return sorted(tracked.job.name for group in groups for tracked in group.jobs)

    def clock_set_back(self, now: float) -> None:
        """Place every schedule again, at its next tick after now."""
        self._heap.clear()
        for group in self._groups.values():
            self._place(group, now)

    def _place(self, group: Group, now: float) -> None:
        try:
            group.ticks.next_tick = group.ticks.source.next_tick(int(now))
            if group.failures is not None:
                group.works(now)
        except Exception as error:  # raised by a schedule that is not ours
            group.failed(now, error)
            group.ticks.next_tick = int(now) + _ASK_AGAIN
        if group.ticks.next_tick is not None:
            self._sequence += 1
            heapq.heappush(self._heap, (group.ticks.next_tick, self._sequence, group))


def warn_where_over(job: CronJob, last_handled: int, now: float) -> None:
    """Say that a job is never due again, and that its last tick was not run under this definition.

    A last handled tick is one that was run, or the second in which the job was registered; which one can be told by the time.
    """
    last = last_tick(job.schedule)
    if last is not None and (last < last_handled or last == last_handled > now - _REGISTERED_JUST_NOW):
        logger.warning(
            "job %r does not run any more: the last tick of its schedule %r was %s, which had passed when the job was "
            "registered, or fell into a pause",
            job.name,
            job.schedule.text,
            utc_datetime(last).isoformat(),
            extra={"job": job.name},
        )
