"""JobQueue: the jobs that are due and wait for room to run."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import inf

from fastapi_crons.config import CronConfig
from fastapi_crons.engine.dispatch.claims import Wanted
from fastapi_crons.engine.dispatch.tracked import CLAIMING, TrackedJob
from fastapi_crons.engine.runs.runner import Runner
from fastapi_crons.job import PLACES, Place


@dataclass(slots=True)
class Room:
    """How many runs may be started: in all, of late ticks, and where."""

    runs: int
    late: int
    places: dict[Place, float]

    @classmethod
    def of(cls, config: CronConfig, runner: Runner, most: int, lent: int) -> Room:
        """What the limits leave beside the active runs: `most` at a time, and without the places that are lent."""
        return cls(
            runs=min(most, config.max_concurrent_runs - len(runner.active)),
            late=config.catch_up_concurrency - runner.catching_up - lent,
            places={
                "loop": inf,
                "thread": config.max_threads - runner.in_place["thread"],
                "process": config.max_processes - runner.in_place["process"],
            },
        )

    def has(self, place: Place, *, late: bool) -> bool:
        """Whether one more run may be started."""
        return self.runs > 0 and (self.late > 0 or not late) and self.places[place] > 0

    def take(self, place: Place, *, late: bool) -> None:
        """One more run is about to be started."""
        self.runs -= 1
        if late:
            self.late -= 1
        self.places[place] -= 1


class JobQueue:
    """Late ticks have lanes of their own, and ordinary ones go first. No job on the event loop waits for a thread."""

    def __init__(self, slow_releases: Callable[[], bool], now: Callable[[], float]) -> None:
        """`slow_releases` says whether the release of a lease takes long, because the stores are far away."""
        self._slow_releases = slow_releases
        self._now = now
        #: Jobs that run here already. As a rule they are refused their tick, so they need no room.
        self._running: deque[TrackedJob] = deque()
        #: The others, by whether they are late and where they run.
        self._lanes: dict[tuple[bool, Place], deque[TrackedJob]] = {
            (late, place): deque() for late in (False, True) for place in PLACES
        }
        #: The claims of reruns, by the id of the interrupted run.
        self._reruns: dict[str, Wanted] = {}

    def __bool__(self) -> bool:
        """Whether anything waits."""
        return bool(self._reruns or self._running) or any(self._lanes.values())

    def waiting_for(self, place: Place) -> int:
        """How many jobs wait for a thread, or for a process."""
        return sum(len(lane) for (_, at), lane in self._lanes.items() if at == place)

    def put(self, tracked: TrackedJob, *, late: bool) -> None:
        """A job has something due, which may be late. No effect where the job is queued or waits already."""
        if tracked.pending:
            return
        if late:
            tracked.noticed_late(int(self._now()))
        if tracked.phase is CLAIMING:
            tracked.look_again()
            return
        exclusive = bool(tracked.runs) and tracked.job.overlap != "allow"
        if exclusive and all(run.releasing for run in tracked.runs) and not self._slow_releases():
            # The release is on its way. Asked now, the store would say that the job still runs.
            tracked.wait_for_runs()
            return
        tracked.queue()
        lane = self._running if exclusive else self._lanes[late, tracked.job.run_in]
        lane.append(tracked)

    def put_rerun(self, interrupted: str, wanted: Wanted) -> None:
        """The tick of an interrupted run is to be rerun. No effect where its rerun is queued already."""
        self._reruns.setdefault(interrupted, wanted)

    def take_reruns(self, room: Room) -> list[Wanted]:
        """Remove the reruns for which there is room, and take that room."""
        taken: list[Wanted] = []
        for interrupted, wanted in list(self._reruns.items()):
            place = wanted.tracked.job.run_in
            if room.has(place, late=True):
                room.take(place, late=True)
                taken.append(self._reruns.pop(interrupted))
        return taken

    def take(self, room: Room) -> Iterator[tuple[TrackedJob, bool | None]]:
        """Remove the jobs for which there is room, in their order.

        Each with whether it takes the room of a late run, if it has anything to run; None where it needs no room.
        """
        while self._running:
            yield self._running.popleft(), None
        for (late, place), lane in self._lanes.items():
            while lane and room.has(place, late=late):
                yield lane.popleft(), late
