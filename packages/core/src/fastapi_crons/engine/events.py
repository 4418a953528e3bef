"""Feed: passes on what the state store publishes to all listeners in this process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from contextlib import aclosing, contextmanager
from typing import TypeVar, cast

from fastapi_crons._util.backoff import Backoff, Meter
from fastapi_crons._util.part import Part
from fastapi_crons._util.tasks import is_cancellation
from fastapi_crons._util.text import counted, one_line, traceback_text
from fastapi_crons.errors import CronsError, StoreError, TooManyListenersError
from fastapi_crons.run import MissedTicks, Run
from fastapi_crons.state.base import Record, StateBackend

logger = logging.getLogger(__name__)

#: A listener that is so many records behind is disconnected, so that it does not fill the memory.
MAX_BEHIND = 1_000


T = TypeVar("T")


class Published:
    """A record as all listeners get it. What one makes of it, the others need not make again."""

    __slots__ = ("_shown", "record")

    def __init__(self, record: Record) -> None:
        self.record = record
        self._shown: object = None

    def shown_by(self, show: Callable[[Record], T]) -> T:
        """What a function makes of the record. It is called once for all listeners."""
        if self._shown is None:
            self._shown = show(self.record)
        return cast("T", self._shown)


class Feed(Part):
    """One subscription to the state store for all listeners; none while there are no listeners.

    There are at most `limit` listeners at a time, those of other schedulers of the process among them.
    """

    #: How many listen in this process. One that was disconnected counts until its connection ends.
    _listening = 0

    def __init__(self, state: StateBackend, limit: int) -> None:
        self._state = state
        self._limit = limit
        #: What each listener has yet to get, None at its end; and the jobs that it listens to, None for all.
        self._queues: dict[asyncio.Queue[Published | None], Collection[str] | None] = {}
        self._subscription: asyncio.Task[None] | None = None
        #: Subscriptions that were cancelled, owned until they have ended.
        self._ending: set[asyncio.Task[None]] = set()
        self._stopped = False

    def quiesce(self) -> None:
        """Disconnect all listeners, and take no new ones."""
        self._stopped = True
        for queue in list(self._queues):
            self._disconnect(queue)

    async def shutdown(self, timeout: float) -> None:
        self.quiesce()
        if self._ending:
            await asyncio.wait(self._ending, timeout=timeout)

    @contextmanager
    def listen(self, jobs: Collection[str] | None = None) -> Iterator[AsyncIterator[Published]]:
        """Runs as they start and end, without their logs, and missed ticks, of all instances that the store reaches.

        Of the named jobs, or of all. They are queued for this listener from now on, until the scheduler stops or the listener
        is too slow. What happens while the store does not answer may be missing. Raises `CronsError` where the state store
        publishes no events, and where the scheduler stops; `TooManyListenersError` where `limit` listeners are there already.
        """
        with self.admitted():
            if self._state.events() is None:
                raise CronsError(f"can't listen to events: {type(self._state).__name__} publishes none")
            queue: asyncio.Queue[Published | None] = asyncio.Queue()
            self._queues[queue] = jobs
            if self._subscription is None:
                self._subscription = asyncio.create_task(self._publish_forever(), name="fastapi-crons feed")
            try:
                yield _records_of(queue)
            finally:
                self._forget(queue)

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """Count a listener, to records or to a log. Raises as `listen`."""
        if self._stopped:
            raise CronsError("the scheduler is stopping: there are no more events")
        if Feed._listening >= self._limit:
            raise TooManyListenersError(
                f"{counted(Feed._listening, 'client')} listen to events already, as many as CRON_MAX_EVENT_STREAMS allows; "
                "try later"
            )
        Feed._listening += 1
        try:
            yield
        finally:
            Feed._listening -= 1

    async def _publish_forever(self) -> None:
        backoff, failures, now = Backoff(), Meter(), asyncio.get_running_loop().time
        while (events := self._state.events()) is not None:
            try:
                async with aclosing(events):
                    async for event in events:
                        backoff = Backoff()
                        failures.works(now())
                        if isinstance(event, (Run, MissedTicks)):
                            self._publish(event)
            except BaseException as error:
                if is_cancellation(error):
                    raise
                lasting = failures.failed(now())
                if lasting is not None:
                    logger.warning(
                        "the event stream is interrupted, %s so far: %s",
                        counted(lasting.times, "time"),
                        one_line(error) if isinstance(error, StoreError) else traceback_text(error),
                    )
            await asyncio.sleep(backoff.next())

    def _publish(self, record: Record) -> None:
        published = Published(record)
        for queue, jobs in list(self._queues.items()):
            if jobs is not None and record.job not in jobs:
                continue
            if queue.qsize() < MAX_BEHIND:
                queue.put_nowait(published)
            else:
                self._disconnect(queue)

    def _disconnect(self, queue: asyncio.Queue[Published | None]) -> None:
        self._forget(queue)
        queue.put_nowait(None)

    def _forget(self, queue: asyncio.Queue[Published | None]) -> None:
        self._queues.pop(queue, None)
        if not self._queues and self._subscription is not None:
            self._subscription.cancel()
            self._ending.add(self._subscription)
            self._subscription.add_done_callback(self._ending.discard)
            self._subscription = None


async def _records_of(queue: asyncio.Queue[Published | None]) -> AsyncIterator[Published]:
    while (record := await queue.get()) is not None:
        yield record
