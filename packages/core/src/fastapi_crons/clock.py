"""Where the scheduler gets its time from and how it waits.

All waiting goes through a `Clock`, so that a test can run a month in a second (`fastapi_crons.testing`).
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from contextvars import ContextVar
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Protocol
from zoneinfo import ZoneInfo

from fastapi_crons._util.damage import EARLIEST, LATEST

if TYPE_CHECKING:
    import asyncio

UTC = timezone.utc

#: A monotonic clock that also counts while the machine sleeps; on Linux, `time.monotonic` does not.
_STEADY: int | None = getattr(time, "CLOCK_BOOTTIME", None)

#: An instant in the text of a record, as `iso_utc` writes it.
_INSTANT = re.compile(r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?\+00:00")

#: The task that the current one belongs to: a run's own, for all tasks that its function makes. Virtual time knows by it
#: which work sleeps.
root_task: ContextVar[asyncio.Task[Any] | None] = ContextVar("fastapi_crons_root_task", default=None)


class Timer(Protocol):
    """A pending call, as `asyncio` hands it out."""

    def cancel(self) -> None: ...


class Clock(Protocol):
    """Wall clock, monotonic clock and timers. Durations in seconds, instants in Unix seconds (UTC)."""

    @property
    def max_sleep(self) -> float:
        """The longest single wait, in seconds; after it the wall clock is read again, in case it was stepped."""

    def now(self) -> float:
        """The wall clock, in seconds since 1970-01-01T00:00Z. It may be stepped in either direction."""

    def monotonic(self) -> float:
        """Seconds on a clock that only goes forward, from an arbitrary start, also while the machine sleeps."""

    def call_later(self, delay: float, callback: Callable[[], object]) -> Timer:
        """Call `callback` on the running event loop `delay` seconds from now."""

    async def sleep(self, delay: float) -> None:
        """Wait `delay` seconds."""

    async def wait(self, tasks: Collection[asyncio.Task[Any]], timeout: float) -> None:
        """Wait until all tasks are done, `timeout` seconds at most."""


class SystemClock:
    """The machine's own clocks and the running event loop's timers."""

    __slots__ = ()

    max_sleep = 1.0

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic() if _STEADY is None else time.clock_gettime(_STEADY)

    def call_later(self, delay: float, callback: Callable[[], object]) -> Timer:
        import asyncio  # imported where something waits: the command line's help does not need it

        return asyncio.get_running_loop().call_later(delay, callback)

    async def sleep(self, delay: float) -> None:
        import asyncio

        await asyncio.sleep(delay)

    async def wait(self, tasks: Collection[asyncio.Task[Any]], timeout: float) -> None:
        import asyncio

        if tasks:
            await asyncio.wait(tasks, timeout=timeout)


def begin_root_task() -> None:
    """Make the current task the root task of all that it makes from now on."""
    import asyncio

    root_task.set(asyncio.current_task())


def utc_datetime(seconds: float) -> datetime:
    """The aware UTC datetime of an instant in Unix seconds."""
    return datetime.fromtimestamp(seconds, UTC)


def whole_seconds(moment: datetime, name: str) -> int:
    """A moment (aware) in Unix seconds, without fractions. Raises `ValueError`, which names the argument."""
    if moment.tzinfo is None:
        raise ValueError(f"{name} can't be {moment.isoformat()}, which has no time zone; give an aware datetime")
    return int(moment.timestamp())


def iso_utc(seconds: float) -> str:
    """An instant in Unix seconds as ISO 8601 text with offset, e.g. `2026-03-01T12:00:00+00:00`."""
    return utc_datetime(seconds).isoformat()


def local_time(instant: float, zone: str) -> str:
    """An instant on a zone's clock, for a sentence, e.g. `2026-03-01 13:00:00 CET`; in UTC where this host has no such zone."""
    moment = utc_datetime(int(min(max(instant, EARLIEST), LATEST)))
    with suppress(LookupError, ValueError, OSError):
        moment = moment.astimezone(ZoneInfo(zone or "UTC"))
    return f"{moment:%Y-%m-%d %H:%M:%S %Z}"


def in_local_time(text: str, zone: str) -> str:
    """The text of a record, which has its instants as `iso_utc`, with these as `local_time`."""
    return _INSTANT.sub(lambda found: local_time(datetime.fromisoformat(found[0]).timestamp(), zone), text)
