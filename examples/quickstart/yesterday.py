"""Fills `crons.db` with a day of history, on a virtual clock: `python yesterday.py`, before the app is started first."""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime, timedelta, timezone

import app

from fastapi_crons import Crons
from fastapi_crons.testing import VirtualClock

#: The jobs that are due rarely: the others have something to show within a minute.
RARE = ("rates", "invoices", "daily_report")


async def main() -> None:
    """A day and an hour, in which the app was down for a while, and somebody paused a job."""
    now = datetime.now(timezone.utc).replace(microsecond=0)
    clock = VirtualClock(now - timedelta(hours=25))
    crons = Crons(clock=clock)
    crons.jobs.extend(job for job in app.crons.get_jobs() if job.name in RARE)
    await crons.start()
    await clock.advance(crons, hours=9)
    await crons.stop()
    await clock.advance(hours=2)
    await crons.start()
    await clock.advance(crons, hours=11)
    await crons.pause("invoices", actor="Ada", note="the bank is down")
    await clock.advance(crons, hours=3)
    await crons.stop()


if __name__ == "__main__":
    logging.disable()
    asyncio.run(main())
