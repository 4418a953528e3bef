"""Following: prints what happens, and what runs log, as it comes."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING

from fastapi_crons.engine.log_feed import Logged, Lost
from fastapi_crons.run import Run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastapi_crons.run import MissedTicks, RunStatus
    from fastapi_crons_cli.commands.history.logs import RunPrinter
    from fastapi_crons_cli.session import Session


async def follow_run(session: Session, printer: RunPrinter, run: Run) -> Run | None:
    """Print what a run logs until it has ended; returns it as it ended, or None where it is deleted before."""
    run = await session.management.run(run.job, run.id)
    session.progress.end()
    if run.status == "running":
        printer.print_head(run)
    with session.management.follow_log(run) as events:
        async for event in events:
            if isinstance(event, Logged):
                printer.print_line(run, event.number, event.line)
            elif isinstance(event, Lost):
                printer.print_lost(run, event.number)
            else:
                printer.print_end(event)
                return event
    return None


async def follow(
    session: Session,
    printer: RunPrinter,
    jobs: Sequence[str],
    limit: int,
    statuses: Sequence[RunStatus],
    *,
    lines: bool,
) -> None:
    """Print the newest runs, and then what happens; with `lines` what runs log, too. Ends with Ctrl-C, or with the events."""
    followed: dict[str, asyncio.Task[Run | None]] = {}

    async def show(record: Run | MissedTicks) -> None:
        if not lines or not isinstance(record, Run):
            await printer.print(record)
        elif record.id not in followed:
            followed[record.id] = asyncio.create_task(follow_run(session, printer, record))

    async with aclosing(session.management.events(jobs or None)) as events:
        # Subscribe before reading the history, so that nothing is missed in between.
        coming = asyncio.ensure_future(anext(events, None))
        try:
            await asyncio.sleep(0)
            runs = await session.management.runs(*jobs, limit=limit, statuses=statuses)
            session.progress.end()
            printed = {(run.id, run.status) for run in runs}
            for run in runs[::-1]:
                await (show(run) if run.status == "running" else printer.print(run))
            while True:
                open_logs = {task for task in followed.values() if not task.done()}
                await asyncio.wait({coming, *open_logs}, return_when=asyncio.FIRST_COMPLETED)
                for task in open_logs:
                    if task.done():
                        task.result()  # raises what went wrong
                if coming.done():
                    if (record := coming.result()) is None:
                        break
                    coming = asyncio.ensure_future(anext(events, None))
                    kind = getattr(record, "status", None)
                    if (not statuses or kind in statuses) and (record.id, kind) not in printed:
                        await show(record)
        except asyncio.CancelledError:
            pass  # the usual end
        finally:
            coming.cancel()
            for task in followed.values():
                task.cancel()
            await asyncio.gather(coming, *followed.values(), return_exceptions=True)
