"""Lanes: the jobs that are due and wait for room to run."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple

from fastapi_crons.claims import Wanted
from fastapi_crons.recorder import Recorder
from fastapi_crons.timeline import Entry


class Room(NamedTuple):
    """How many runs may be started: in all, of them in threads, of them late ones."""

    runs: int
    threads: int
    late: int


class Lanes:
    """Late ticks have lanes of their own. Ordinary ones go first, and none waits for a thread that it does not need."""

    def __init__(self, recorder: Recorder, now: Callable[[], float]) -> None:
        self._recorder = recorder
        self._now = now
        #: Jobs that are running here: they are refused their tick, and need no room.
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
        exclusive = entry.running and entry.job.overlap != "allow"
        if exclusive and entry.running == entry.releasing and not self._recorder.slow:
            # The store is behind: asked now, it would say that the job still runs.
            entry.waiting, entry.late = True, entry.late or late
        elif not entry.queued:
            entry.queued, entry.late = True, entry.late or late
            if exclusive:
                self._running.append(entry)
            else:
                self._lanes[late, entry.is_async].append(entry)

    def put_again(self, cut_off: str, wanted: Wanted) -> None:
        """A run that was cut off is to run again; without effect where that waits already."""
        self._again.setdefault(cut_off, wanted)

    def take_again(self, room: Room) -> tuple[list[Wanted], Room]:
        """What is to run again, as far as there is room; and the room that it leaves."""
        taken: list[Wanted] = []
        runs, threads, late = room
        for cut_off, wanted in list(self._again.items()):
            on_loop = wanted.entry.is_async
            if runs > 0 and late > 0 and (on_loop or threads > 0):
                runs, threads, late = runs - 1, threads - (not on_loop), late - 1
                taken.append(self._again.pop(cut_off))
        return taken, Room(runs, threads, late)

    def take(self, room: Room) -> Iterator[Entry]:
        """The jobs for which there is room, in their order; one that was taken waits no longer."""
        while self._running:
            yield self._running.popleft()
        runs, threads, late_runs = room
        for (late, on_loop), lane in self._lanes.items():
            while lane and runs > 0 and (late_runs > 0 or not late) and (threads > 0 or on_loop):
                runs, threads, late_runs = runs - 1, threads - (not on_loop), late_runs - late
                yield lane.popleft()
