"""`start-scheduler`: a scheduler without a web server, with a live view on a terminal."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from fastapi_crons_cli.output import Progress, clock_time, console, duration, said, show_cursor, table

if TYPE_CHECKING:
    from rich.console import Group
    from rich.live import Live
    from rich.table import Table
    from rich.text import Text

    from fastapi_crons.management.management import Management
    from fastapi_crons.management.views import JobView
    from fastapi_crons.run import Run
    from fastapi_crons.scheduler import Crons
    from fastapi_crons_cli.apps import FoundApp

#: How often (seconds) the live view is redrawn.
_VIEW_INTERVAL = 1.0
#: How often (seconds) to check whether the app has stopped the scheduler.
_LOOK_INTERVAL = 1.0
#: How many of the latest runs it shows.
_RUNS_SHOWN = 5
#: How many lines of the terminal are not used for jobs.
_OTHER_LINES = 14


def serve(found: FoundApp, *, live: bool) -> None:
    """Run a scheduler until the process is stopping to end; a second signal ends it at once."""
    asyncio.run(_serve(found, live=live))


async def _serve(found: FoundApp, *, live: bool) -> None:
    from fastapi_crons_cli.commands.end_signals import EndSignals

    stopping = asyncio.Event()
    task = asyncio.ensure_future(_started(found, stopping, live=live))

    def end(number: int) -> None:
        show_cursor()
        stopping.set()

    signals = EndSignals(end)
    signals.start()
    waiting = asyncio.ensure_future(stopping.wait())
    try:
        await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done() and not found.crons.running:
            task.cancel()  # the signal came during the start
        await asyncio.wait({task})
        if not task.cancelled():
            task.result()
    finally:
        waiting.cancel()
        signals.stop()


async def _started(found: FoundApp, stopping: asyncio.Event, *, live: bool) -> None:
    from fastapi_crons_cli.session import served

    crons = found.crons
    async with AsyncExitStack() as stack:
        # Start the view first, so that log lines go above it.
        started = asyncio.Event()
        if live:
            await stack.enter_async_context(_live_view(crons, started))
        _log_to_stderr()
        with Progress() as progress:
            progress.begin("starting the scheduler")
            if found.app is not None:
                await stack.enter_async_context(served(found.app))
            # Without effect where the app has started it.
            await crons.start()
            stack.push_async_callback(crons.stop)
        started.set()
        while crons.running and not stopping.is_set():
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(stopping.wait(), _LOOK_INTERVAL)
        # Stop claiming ticks before the app shuts down.
        await crons.stop()


def _log_to_stderr() -> None:
    """Show log records, unless the app has set up logging; the scheduler's own from INFO on."""
    if not logging.getLogger().handlers:
        logging.basicConfig(
            stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
        )
    package = logging.getLogger("fastapi_crons")
    if package.level == logging.NOTSET:
        package.setLevel(logging.INFO)


@asynccontextmanager
async def _live_view(crons: Crons, started: asyncio.Event) -> AsyncIterator[None]:
    """Jobs and latest runs at the bottom of the terminal; log lines and output go above."""
    from rich.live import Live

    with Live(console=console(stderr=True), auto_refresh=False, transient=True) as view:
        drawing = asyncio.create_task(_draw_forever(view, crons, started))
        try:
            yield
        finally:
            drawing.cancel()
            await asyncio.gather(drawing, return_exceptions=True)


async def _draw_forever(view: Live, crons: Crons, started: asyncio.Event) -> None:
    from rich.text import Text

    from fastapi_crons.errors import CronsError
    from fastapi_crons.management.management import Management

    await started.wait()
    management = Management(crons)
    while crons.running:
        try:
            view.update(await _drawn(management, crons, view.console.height), refresh=True)
        except CronsError as error:
            view.update(Text(said(error)), refresh=True)
        await asyncio.sleep(_VIEW_INTERVAL)


async def _drawn(management: Management, crons: Crons, height: int) -> Group:
    from rich.console import Group

    jobs, runs = await asyncio.gather(management.jobs(), management.runs(limit=_RUNS_SHOWN))
    return Group(_jobs_table(jobs, crons.config.timezone, max(3, height - _OTHER_LINES)), *_run_lines(runs, crons))


def _jobs_table(jobs: list[JobView], zone: str, rows_shown: int) -> Table:
    now = datetime.now(timezone.utc)
    never = datetime.max.replace(tzinfo=timezone.utc)
    first = sorted(jobs, key=lambda view: view.next_run or never)[:rows_shown]
    rows = [
        (
            view.job.name,
            view.status if view.pause is None else f"{view.status} (paused)",
            clock_time(view.last_run, zone),
            clock_time(view.next_run, zone),
            "-" if view.next_run is None else duration(max(0.0, (view.next_run - now).total_seconds())),
        )
        for view in first
    ]
    more = f"; {len(jobs) - len(first)} more jobs" if len(jobs) > len(first) else ""
    return table(("Job Name", "Status", "Last Run", "Next Run", "In"), rows, f"Times in {zone}{more}")


def _run_lines(runs: list[Run], crons: Crons) -> list[Text]:
    from rich.text import Text

    from fastapi_crons_cli.commands.history.logs import run_line

    return [Text(run_line(run, crons.config.timezone), no_wrap=True, overflow="ellipsis") for run in runs[::-1]]
