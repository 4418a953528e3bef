"""Fills `crons.db` in the current folder with a day of history, on a virtual clock. Run as a program."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime, timedelta, timezone

from fastapi_crons import Crons
from fastapi_crons.testing import VirtualClock
from tests.browser.jobs import MARKUP, Sleep, define


async def make_a_day(define: Callable[[Crons, Sleep], None], *, pauses: str, actor: str, note: str) -> None:
    """A day of the jobs that `define` registers, with an outage at night; one of them is paused an hour before its end."""
    now = datetime.now(timezone.utc).replace(microsecond=0)
    clock = VirtualClock(now - timedelta(hours=26))
    # At 01:00 UTC it is 02:00 in Berlin for half of the year, and 03:00 for the other.
    night = now.replace(hour=0, minute=50, second=0)
    if night + timedelta(hours=2) > now:
        night -= timedelta(days=1)
    crons = Crons(clock=clock)
    define(crons, clock.sleep)
    await crons.start()
    await clock.advance(crons, seconds=(night - timedelta(hours=1) - clock.datetime).total_seconds())
    await crons.stop()
    await clock.advance(hours=2)
    await crons.start()
    await clock.advance(crons, seconds=(now - timedelta(hours=1) - clock.datetime).total_seconds())
    await crons.pause(pauses, actor=actor, note=note)
    await clock.advance(crons, minutes=55)
    await crons.stop()


if __name__ == "__main__":
    logging.basicConfig(handlers=[logging.NullHandler()])
    asyncio.run(make_a_day(define, pauses="paused job", actor="ops", note=f"it waits {MARKUP}"))
