"""Lanes: the jobs that are due and wait for room to run."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from fastapi_crons.engine.dispatch.claims import Wanted
from fastapi_crons.engine.dispatch.timeline import Entry
from fastapi_crons.engine.runs.recorder import Recorder


@dataclass(slots=True)
class Room:
    """How many runs may be started: in all, of them in threads, of them late ones."""

    runs: int
    threads: int
    late: int

    def has(self, *, late: bool, on_loop: bool) -> bool:
        """Whether one more may be started."""
        return self.runs > 0 and (self.late > 0 or not late) and (self.threads > 0 or on_loop)

    def take(self, *, late: bool, on_loop: bool) -> None:
        """One more is about to be started."""
        self.runs, self.threads, self.late = self.runs - 1, self.threads - (not on_loop), self.late - late


class Lanes:
    """Late ticks have lanes of their own. Ordinary ones go first, and none waits for a thread that it does not need."""

    def __init__(self, recorder: Recorder, now: Callable[[], float]) -> None:
        self._recorder = recorder
        self._now = now
        #: Jobs that are running here: they are refused their tick as a rule, and need no room.
        self._running: deque[Entry] = deque()
        #: The others, by whether they are late and whether they run on the loop.
        self._lanes: dict[tuple[bool, bool], deque[Entry]] = {
            (late, on_loop): deque() for late in (False, True) for on_loop in (True, False)
        }
        #: Runs that were cut off and are to run again, by the run that was cut off.
        self._again: dict[str, Wanted] = {}

    def __bool__(self) -> bool:
        """Whether somebody waits."""
        return bool(self._again or self._running) or any(self._lanes.values())

    @property
    def waiting_for_threads(self) -> int:
        """How many jobs wait for a thread."""
        return sum(len(lane) for (_, on_loop), lane in self._lanes.items() if not on_loop)

    def put(self, entry: Entry, *, late: bool) -> None:
        """A job has something due."""
        if late and not entry.late:
            entry.late_until = int(self._now())
        exclusive = bool(entry.runs) and entry.job.overlap != "allow"
        if exclusive and not self._recorder.slow and all(run.releasing for run in entry.runs):
            # The store is behind: asked now, it would say that the job still runs.
            entry.waiting, entry.late = True, entry.late or late
        elif not entry.queued:
            entry.queued, entry.late = True, entry.late or late
            if exclusive:
                self._running.append(entry)
            else:
                self._lanes[late, entry.job.is_async].append(entry)

    def put_again(self, cut_off: str, wanted: Wanted) -> None:
        """A run that was cut off is to run again; without effect where that waits already."""
        self._again.setdefault(cut_off, wanted)

    def take_again(self, room: Room) -> list[Wanted]:
        """What is to run again, as far as there is room, which it takes."""
        taken: list[Wanted] = []
        for cut_off, wanted in list(self._again.items()):
            if room.has(late=True, on_loop=wanted.entry.job.is_async):
                room.take(late=True, on_loop=wanted.entry.job.is_async)
                taken.append(self._again.pop(cut_off))
        return taken

    def take(self, room: Room) -> Iterator[tuple[Entry, bool | None]]:
        """The jobs for which there is room, in their order; one that was taken waits no longer.

        Each with whether it takes the room of a late one, if it has anything to run; None where it needs none.
        """
        while self._running:
            yield self._running.popleft(), None
        for (late, on_loop), lane in self._lanes.items():
            while lane and room.has(late=late, on_loop=on_loop):
                yield lane.popleft(), late
