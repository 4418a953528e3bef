"""A FastAPI app with a handful of cron jobs: `uvicorn app:app` in this folder runs it."""

from __future__ import annotations

import asyncio
import random
from typing import Any

from fastapi import FastAPI

from fastapi_crons import CronConfig, Crons, JobContext, get_cron_router

app = FastAPI(title="My App with Cron Jobs")
# Ctrl-C waits two seconds for what is running; its records then say that it was interrupted.
crons = Crons(app, config=CronConfig(shutdown_timeout=2))

# The management endpoints: /api/crons lists the jobs. The dashboard comes with them: /api/dashboard.
app.include_router(get_cron_router(), prefix="/api")


@crons.cron("* * * * * */5", name="cleanup", tags=["maintenance"])
async def cleanup() -> str:
    """Every five seconds, on the event loop. The sixth field stands for seconds."""
    await asyncio.sleep(0.1)
    return "🧹 Cleanup completed"


@crons.cron("* * * * * */7", name="measure", tags=["metrics"])
def measure() -> dict[str, float]:
    """Every seven seconds of the minute, in a thread: a plain function never holds up the app."""
    return {"temperature": round(random.uniform(18, 24), 1)}


@crons.cron("* * * * * */10", name="flaky_sync", tags=["sync"], max_retries=1, retry_delay=1)
async def flaky_sync(context: JobContext) -> str:
    """Fails now and then, and is tried again after a second. When that fails too, its history says when and why."""
    context.logger.info("asking the other side")
    if random.random() < 0.5:
        raise ConnectionError("the other side does not answer")
    return "in sync"


@crons.cron("* * * * * */30", name="slow_import", tags=["sync"])
async def slow_import(context: JobContext) -> str:
    """Takes longer than the half minute until it is due again: every second tick is skipped. Its log can be followed."""
    for part in range(1, 21):
        context.logger.info("part %d of 20", part)
        await asyncio.sleep(2)
    return "20 parts"


@crons.cron("*/2 * * * *", name="warm_cache", tags=["maintenance"])
async def warm_cache() -> None:
    """Every two minutes."""


@crons.cron("0 * * * *", name="rates", tags=["sync"], timezone="Asia/Kolkata", max_retries=1, retry_delay=60)
async def rates(context: JobContext) -> dict[str, float]:
    """On the hour in India, which is at half past for most of the world. At some hours, nobody answers."""
    if context.tick is not None and context.tick.hour % 6 == 0:
        raise ConnectionError("the exchange is closed")
    return {"EUR": 101.2}


@crons.cron("15 * * * *", name="invoices", tags=["billing"])
async def invoices(context: JobContext) -> str:
    """A quarter past each hour."""
    context.logger.info("3 invoices are due")
    return "3 sent"


@crons.cron("0 0 * * *", name="daily_report", tags=["reporting", "critical"], timezone="Europe/Berlin")
def daily_report() -> str:
    """At midnight in Berlin. A midnight that was slept through is made up for at the next start."""
    return "📊 Report generated"


async def alert(job_name: str, context: dict[str, Any]) -> None:
    """An error hook: called after each run that did not succeed."""
    print(f"🚨 {job_name} failed: {context['error']}")


crons.add_on_error_hook(alert)


@app.get("/")
async def index() -> dict[str, str]:
    """Where to look."""
    return {"dashboard": "/api/dashboard", "jobs": "/api/crons", "docs": "/docs"}
