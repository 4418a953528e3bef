"""Feed: what the state store tells, for all who listen in this process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from contextlib import aclosing, contextmanager
from typing import TypeVar, cast

from fastapi_crons._util.backoff import Backoff, Meter
from fastapi_crons._util.life import Part
from fastapi_crons._util.text import counted, one_line, traceback_text
from fastapi_crons.errors import CronsError, StoreError, TooManyListenersError
from fastapi_crons.run import MissedTicks, Run
from fastapi_crons.state.base import Record, StateBackend

logger = logging.getLogger(__name__)

#: A listener that is so many records behind is let go, so that it does not hold the memory of all.
MAX_BEHIND = 1_000


T = TypeVar("T")


class Heard:
    """A record as all listeners get it: what one makes of it the others need not make again."""

    __slots__ = ("_shown", "record")

    def __init__(self, record: Record) -> None:
        self.record = record
        self._shown: object = None

    def shown_by(self, show: Callable[[Record], T]) -> T:
        """What a function makes of the record; it is called once, whoever asks."""
        if self._shown is None:
            self._shown = show(self.record)
        return cast("T", self._shown)


class Feed(Part):
    """One subscription to the state store, whatever the number of listeners; none where nobody listens.

    There are at most `limit` listeners at a time, those of other schedulers of the process among them.
    """

    #: How many listen in this process. One that was let go counts until its connection ends.
    _listening = 0

    def __init__(self, state: StateBackend, limit: int) -> None:
        self._state = state
        self._limit = limit
        #: What each listener has yet to hear, None at its end; and of which jobs it wants to, None for all.
        self._queues: dict[asyncio.Queue[Heard | None], Collection[str] | None] = {}
        self._subscription: asyncio.Task[None] | None = None
        #: Subscriptions that nobody needs any more, owned until the store knows.
        self._ending: set[asyncio.Task[None]] = set()
        self._stopped = False

    def quiesce(self) -> None:
        """Disconnect all listeners, and take no new ones."""
        self._stopped = True
        for queue in list(self._queues):
            self._let_go(queue)

    async def shutdown(self, timeout: float) -> None:
        self.quiesce()
        if self._ending:
            await asyncio.wait(self._ending, timeout=timeout)

    @contextmanager
    def listen(self, jobs: Collection[str] | None = None) -> Iterator[AsyncIterator[Heard]]:
        """Runs as they start and end, without their logs, and ticks that were let go, of all instances that the store reaches.

        Of the named jobs, or of all. From here on they are kept for this listener, until the scheduler stops, or the listener
        is too slow. What happens while the store does not answer may be left out. Raises `CronsError` where the store can't
        tell what happens as it happens, and where the scheduler stops; `TooManyListenersError` where so many listen already.
        """
        if self._stopped:
            raise CronsError("the scheduler is stopping: there are no more events")
        if self._state.events() is None:
            raise CronsError(f"{type(self._state).__name__} can't tell what happens as it happens")
        if Feed._listening >= self._limit:
            raise TooManyListenersError(
                f"{counted(Feed._listening, 'client')} listen to events already, as many as CRON_MAX_EVENT_STREAMS allows; "
                "try later"
            )
        queue: asyncio.Queue[Heard | None] = asyncio.Queue()
        self._queues[queue] = jobs
        if self._subscription is None:
            self._subscription = asyncio.create_task(self._tell_forever(), name="fastapi-crons feed")
        Feed._listening += 1
        try:
            yield _heard(queue)
        finally:
            Feed._listening -= 1
            self._forget(queue)

    def _unsubscribe(self) -> None:
        if self._subscription is not None:
            self._subscription.cancel()
            self._ending.add(self._subscription)
            self._subscription.add_done_callback(self._ending.discard)
            self._subscription = None

    async def _tell_forever(self) -> None:
        backoff, failures, now = Backoff(), Meter(), asyncio.get_running_loop().time
        while (events := self._state.events()) is not None:
            try:
                async with aclosing(events):
                    async for event in events:
                        backoff = Backoff()
                        failures.works(now())
                        if isinstance(event, (Run, MissedTicks)):
                            self._tell(event)
            except Exception as error:
                lasting = failures.failed(now())
                if lasting is not None:
                    logger.warning(
                        "the event stream is interrupted, %s so far: %s",
                        counted(lasting.times, "time"),
                        one_line(error) if isinstance(error, StoreError) else traceback_text(error),
                    )
            await asyncio.sleep(backoff.next())

    def _tell(self, record: Record) -> None:
        heard = Heard(record)
        for queue, jobs in list(self._queues.items()):
            if jobs is not None and record.job not in jobs:
                continue
            if queue.qsize() < MAX_BEHIND:
                queue.put_nowait(heard)
            else:
                self._let_go(queue)

    def _let_go(self, queue: asyncio.Queue[Heard | None]) -> None:
        self._forget(queue)
        queue.put_nowait(None)

    def _forget(self, queue: asyncio.Queue[Heard | None]) -> None:
        self._queues.pop(queue, None)
        if not self._queues:
            self._unsubscribe()


async def _heard(queue: asyncio.Queue[Heard | None]) -> AsyncIterator[Heard]:
    while (record := await queue.get()) is not None:
        yield record
