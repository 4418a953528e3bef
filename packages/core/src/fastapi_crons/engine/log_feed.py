"""LogFeed: passes on what runs log, as they log it, to all listeners in this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

from fastapi_crons._util.part import Part
from fastapi_crons.clock import Clock
from fastapi_crons.engine.events import Feed
from fastapi_crons.engine.runs.run import ActiveRun
from fastapi_crons.errors import StoreError
from fastapi_crons.run import LogLine, Run

#: How often (seconds) it is seen what a run has logged: one of this instance, and one that is read from the state store.
_LOOK_HERE, _LOOK_ELSEWHERE = 0.1, 1.0


class Logged(NamedTuple):
    """A record that a run has logged; the first one of the run has the number 1."""

    number: int
    line: LogLine


class Lost(NamedTuple):
    """Records that a listener does not get: there were more than a run's log keeps."""

    number: int
    """How many."""
    until: int
    """The number that the last one of them had."""


#: What is said of a run: at last the run itself, when it has ended.
LogEvent = Logged | Lost | Run


class _Followed:
    """A run that is followed, as it was seen last."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self._listeners = 0
        #: Whether no more will be seen of it.
        self.over = run.status != "running"
        self._seen = asyncio.Event()

    def join(self) -> None:
        """One more listens."""
        self._listeners += 1

    def leave(self) -> bool:
        """One listens no more; returns whether that was the last."""
        self._listeners -= 1
        return self._listeners == 0

    def see(self, run: Run) -> None:
        """The run as it is now."""
        if not self.over and run != self.run:
            self.run, self.over = run, run.status != "running"
            self._wake()

    def end(self) -> None:
        """No more will be seen of it."""
        self.over = True
        self._wake()

    def _wake(self) -> None:
        seen, self._seen = self._seen, asyncio.Event()
        seen.set()

    async def events(self, after: int) -> AsyncIterator[LogEvent]:
        """What it logs behind the record with this number."""
        while True:
            run, over, seen = self.run, self.over, self._seen
            if after < run.log_dropped:
                yield Lost(run.log_dropped - after, run.log_dropped)
                after = run.log_dropped
            for line in run.log[after - run.log_dropped :]:
                after += 1
                yield Logged(after, line)
            if over:
                if run.status != "running":
                    yield run
                return
            await seen.wait()


class LogFeed(Part):
    """Looks at each followed run in one task for all who listen to it. Runs of other instances are read once a second.

    A listener that is slow gets what is there when it asks for more. Listeners are counted as those of `feed`.
    """

    def __init__(
        self,
        clock: Clock,
        feed: Feed,
        active: Callable[[], Mapping[str, ActiveRun]],
        read: Callable[[str], Awaitable[Run | None]],
    ) -> None:
        """`active` gives the runs of this instance; `read` one of another instance, with its log."""
        self._clock = clock
        self._feed = feed
        self._active = active
        self._read = read
        self._followed: dict[str, _Followed] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        #: Tasks that were cancelled, owned until they have ended.
        self._ending: set[asyncio.Task[None]] = set()

    def quiesce(self) -> None:
        for followed in self._followed.values():
            followed.end()

    async def shutdown(self, timeout: float) -> None:
        self.quiesce()
        if self._ending:
            await asyncio.wait(self._ending, timeout=timeout)

    @contextmanager
    def listen(self, run: Run, after: int = 0) -> Iterator[AsyncIterator[LogEvent]]:
        """What a run, given with its log, has logged behind the record with the number `after`, and logs from now on.

        At last comes the run itself, when it has ended. Without it the events end where the scheduler stops, and where the run
        is deleted. Raises `CronsError` where the scheduler stops, and `TooManyListenersError`; see `Feed.admitted`.
        """
        with self._feed.admitted():
            followed = self._followed.get(run.id) or self._begin(run)
            followed.see(run)
            followed.join()
            try:
                yield followed.events(after)
            finally:
                if followed.leave():
                    self._end(run.id)

    def _begin(self, run: Run) -> _Followed:
        followed = _Followed(run)
        if not followed.over:
            self._followed[run.id] = followed
            self._tasks[run.id] = asyncio.create_task(self._follow(followed), name="fastapi-crons log feed")
        return followed

    def _end(self, run_id: str) -> None:
        task = self._tasks.pop(run_id, None)
        if task is not None:
            del self._followed[run_id]
            task.cancel()
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)

    async def _follow(self, followed: _Followed) -> None:
        run_id = followed.run.id
        while not followed.over:
            await self._clock.sleep(_LOOK_HERE if run_id in self._active() else _LOOK_ELSEWHERE)
            active = self._active().get(run_id)
            try:
                found = await self._read(run_id) if active is None else active.so_far()
            except StoreError:
                continue  # others log that it does not answer
            if found is None:
                followed.end()
            else:
                followed.see(found)
