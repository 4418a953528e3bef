"""The command that shows how often jobs run and fail, and how long they take: `stats`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from fastapi_crons_cli.options import App, AsJson, SomeJobNames, SomeTags, Verbose
from fastapi_crons_cli.output import json_only, print_json, print_table, table, warn

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

    from fastapi_crons.management.stats import JobStats, Stats
    from fastapi_crons_cli.session import Session

_COLUMNS = ("Runs", "Failed", "Missed", "p50", "p95", "Longest")


def stats(
    names: SomeJobNames = None,
    days: Annotated[int, typer.Option("--days", min=1, max=366, help="Of so many days (UTC), today among them.")] = 7,
    tag: SomeTags = None,
    app: App = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Show how often jobs ran, failed and were missed, and how long the runs took that completed; of named jobs by day."""
    from fastapi_crons_cli.session import check_names, with_stores

    async def ask(session: Session) -> tuple[list[date], list[JobStats]]:
        jobs = check_names(session, names, tag)
        found = await session.management.stats(jobs, days=days, by_day=bool(names))
        return session.management.last_days(days), found

    with json_only(as_json):
        dates, found = with_stores(ask, app=app)
    if as_json:
        from fastapi_crons.api.endpoints.stats import StatsAnswer

        print_json(StatsAnswer.of(dates, found).model_dump(mode="json"))
        return
    if not found:
        warn("no jobs are known")
        return
    span = f"From {dates[0]} to {dates[-1]} (UTC); durations are those of runs that completed"
    if not names:
        # What failed most comes first.
        ordered = sorted(found, key=lambda each: (-each.whole.failed, -each.whole.missed))
        print_table(table(("Job Name", *_COLUMNS), [(each.job, *_cells(each.whole)) for each in ordered], span))
        return
    for each in found:
        print_table(table((each.job, *_COLUMNS), _rows_of_days(each), span))


def _rows_of_days(stats: JobStats) -> Sequence[tuple[str, ...]]:
    rows = [(str(day), *_cells(figures)) for day, figures in stats.days]
    return [*rows, ("all days", *_cells(stats.whole))]


def _cells(stats: Stats) -> tuple[str, ...]:
    return (str(stats.runs), str(stats.failed), str(stats.missed), *map(_took, (stats.p50, stats.p95, stats.longest)))


def _took(seconds: float | None) -> str:
    """A duration in seconds, or in its two largest units."""
    if seconds is None:
        return "-"
    if seconds < 60:
        return f"{seconds:.2f}s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h {minutes:02}m" if hours else f"{minutes}m {rest:02}s"
