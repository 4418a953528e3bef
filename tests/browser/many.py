"""An app with ten thousand jobs. Run as a program, it fills `crons.db` in the current folder with what they did."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime, timezone

from fastapi import FastAPI

from fastapi_crons import Crons, get_cron_router
from fastapi_crons.run import Run, RunError, RunIds
from fastapi_crons.state import HistoryLimits, SQLiteStateBackend

JOBS = 10_000
HOUR = 3_600

app = FastAPI()
crons = Crons(app)
app.include_router(get_cron_router(), prefix="/api")


def nothing() -> None:
    pass


for number in range(JOBS):
    # The first ones are due often, so that a page of them has as much to show as one can have; the others hours from now.
    hour = (datetime.now(timezone.utc).hour + 2 + number // 60 % 20) % 24
    when = f"{number % 60} {hour} * * *" if number >= 50 else "*/15 * * * *"
    crons.cron(when, name=f"job-{number:05}", tags=[f"group-{number % 20}"])(nothing)


async def fill() -> None:
    """Each has run in the hour before; each seventh failed."""
    backend = SQLiteStateBackend("crons.db")
    await backend.open("default", HistoryLimits(keep=1_000, days=30))
    now = time.time() - HOUR
    ids = RunIds(lambda: now)
    failed = RunError("ConnectionError", "the other side does not answer", "")
    runs = []
    for number in range(JOBS):
        now += HOUR / JOBS / 2
        fails = number % 7 == 0
        run = Run(
            id=ids(),
            job=f"job-{number:05}",
            tick_ts=int(now),
            trigger="schedule",
            attempt=1,
            instance="here",
            token=int(now),
            started_ts=now,
            ended_ts=now + 0.1,
            status="failed" if fails else "completed",
            error=failed if fails else None,
        )
        runs.append(run)
    await backend.write(runs)
    await backend.close()


if __name__ == "__main__":
    asyncio.run(fill())
