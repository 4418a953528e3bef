"""Timeline: which schedules are due next.

Jobs that share a schedule share one place in a heap, so that idle jobs cost nothing.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable

from fastapi_crons._callables import is_coroutine_function
from fastapi_crons.job import CronJob
from fastapi_crons.schedule import Schedule
from fastapi_crons.ticks import Policy, Step, TickSource, next_step, tick_source


class Entry:
    """What this instance knows of a job that it has registered with the store."""

    __slots__ = ("_is_async", "group", "in_force", "job", "late", "mark", "policy", "queued", "running", "waiting")

    def __init__(self, job: CronJob, group: Group, policy: Policy, mark: int) -> None:
        self.job = job
        self.group = group
        self.policy = policy
        self._is_async: bool | None = None
        #: The newest tick known to be handled, in Unix seconds. Only grows.
        self.mark = mark
        #: Whether the job waits for its turn to claim a tick, and whether it was late when that was noticed.
        self.queued = False
        self.late = False
        #: Whether the schedule that this instance has is the one in force.
        self.in_force = True
        #: Runs of this job in this instance, and whether more ticks wait for one of them to end.
        self.running = 0
        self.waiting = False

    @property
    def is_async(self) -> bool:
        """Whether the function runs on the event loop. Looked at when it is first wanted: most jobs are idle."""
        if self._is_async is None:
            self._is_async = is_coroutine_function(self.job.func)
        return self._is_async

    def step(self, now: float) -> Step:
        """What to do next about this job's ticks in (mark, now]."""
        return self.group.step(self.mark, now, self.policy)


class Group:
    """The jobs that share a schedule."""

    __slots__ = ("_asked", "_step", "entries", "next_tick", "source")

    def __init__(self, schedule: Schedule) -> None:
        self.source: TickSource = tick_source(schedule)
        self.entries: list[Entry] = []
        self.next_tick: int | None = None
        self._asked: tuple[int, int | None, Policy] | None = None
        self._step: Step | None = None

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

    def group_of(self, schedule: Schedule, now: float) -> Group:
        """The group of jobs with this schedule, made where there is none."""
        group = self._groups.get(schedule)
        if group is None:
            group = self._groups[schedule] = Group(schedule)
            self._place(group, now)
        return group

    @property
    def next_tick(self) -> int | None:
        """The earliest tick of all, in Unix seconds."""
        return self._heap[0][0] if self._heap else None

    def pop_due(self, now: float) -> Iterable[tuple[int, Group]]:
        """The groups that have become due with their earliest new tick; each is placed at its next one after now."""
        due = []
        while self._heap and self._heap[0][0] <= now:
            tick, _, group = heapq.heappop(self._heap)
            due.append((tick, group))
        for _, group in due:
            self._place(group, now)
        return due

    def _place(self, group: Group, now: float) -> None:
        group.next_tick = group.source.next_tick(int(now))
        if group.next_tick is not None:
            self._sequence += 1
            heapq.heappush(self._heap, (group.next_tick, self._sequence, group))
