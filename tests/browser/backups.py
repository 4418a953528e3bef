"""An app with one job, which is due each hour, at `BACKUP_MINUTE`, and takes longer. Run as a program, it fills `crons.db`."""

from __future__ import annotations

import asyncio
import logging
import os
from datetime import datetime, timedelta, timezone

from fastapi import FastAPI

from fastapi_crons import Crons, JobContext, get_cron_router
from fastapi_crons.testing import VirtualClock
from tests.browser.jobs import Sleep


def define(crons: Crons, sleep: Sleep) -> None:
    @crons.cron(f"{os.environ['BACKUP_MINUTE']} * * * *", name="backup")
    async def backup(context: JobContext, target: str = "nas-1", minutes: float = 70) -> str:
        context.logger.info("writing to %s", target)
        await sleep(minutes * 60)
        if target == "nas-1":
            raise OSError(f"{target} is full")
        context.logger.info("written")
        return f"all of it is on {target}"


async def make_hours() -> None:
    """Its last four hours: a run that failed, a tick that was skipped for it, and once more the same."""
    now = datetime.now(timezone.utc).replace(microsecond=0)
    clock = VirtualClock(now - timedelta(hours=4))
    past = Crons(clock=clock)
    define(past, clock.sleep)
    await past.start()
    await clock.advance(past, hours=3, minutes=55)
    await past.stop()


if __name__ == "__main__":
    logging.basicConfig(handlers=[logging.NullHandler()])
    asyncio.run(make_hours())
else:
    app = FastAPI()
    crons = Crons(app)
    define(crons, asyncio.sleep)
    app.include_router(get_cron_router(), prefix="/api")
