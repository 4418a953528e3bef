"""Alerts: an app that says when a job fails and recovers, is skipped or missed, and that can hold its jobs back."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from fastapi_crons import Crons, SkipRun, get_cron_router, hookimpl

app = FastAPI(title="Hooks and alerts")
crons = Crons(app)
app.include_router(get_cron_router(), prefix="/api")


async def notify(text: str) -> None:
    """Send an alert. Put a call of your chat or pager here: hooks may take up to CRON_HOOK_TIMEOUT seconds."""
    print(f"🚨 {text}", flush=True)


class Alerts:
    """Tells of a job's first failure and of its recovery, but of no failure in between; and of ticks that did not run."""

    def __init__(self) -> None:
        self._failures: dict[str, int] = {}

    @hookimpl
    async def on_error(self, job_name: str, context: dict[str, Any]) -> None:
        failures = self._failures[job_name] = self._failures.get(job_name, 0) + 1
        if failures == 1:
            await notify(f"{job_name} {context['status']}: {context['error_type']}: {context['error']}")

    @hookimpl
    async def after_run(self, job_name: str) -> None:
        if failures := self._failures.pop(job_name, 0):
            await notify(f"{job_name} works again, after {failures} failure(s)")

    @hookimpl
    async def run_skipped(self, job_name: str, context: dict[str, Any]) -> None:
        await notify(f"{job_name} was skipped: {context['reason']}, {context['detail'] or 'no detail'}")

    @hookimpl
    async def tick_missed(self, job_name: str, context: dict[str, Any]) -> None:
        await notify(f"{job_name} missed {context['count']} tick(s): {context['reason']}")


crons.plugins.register(Alerts())


def hold_back(job_name: str, context: dict[str, Any]) -> None:
    """Let no scheduled run start while there is a file `maintenance`."""
    if Path("maintenance").exists() and not context["manual_trigger"]:
        raise SkipRun("maintenance")


crons.add_before_run_hook(hold_back, job_name="cleanup")

answers = itertools.cycle(["ok", "down", "down", "down", "ok"])


@crons.cron("* * * * * *", name="import_orders")
async def import_orders() -> None:
    """Every second. The other side is down for three seconds of five."""
    if next(answers) == "down":
        raise ConnectionError("the other side does not answer")


@crons.cron("* * * * * */2", name="report")
async def report() -> None:
    """Every two seconds, but it takes three: every other tick is skipped."""
    await asyncio.sleep(3)


@crons.cron("* * * * * */2", name="cleanup")
def cleanup() -> None:
    """Every two seconds, unless it is held back."""
