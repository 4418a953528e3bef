"""The command that shows which ticks were not run, over all jobs: `missed`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from fastapi_crons_cli.options import FOUND, App, AsJson, ExitCode, Since, SomeJobs, SomeTags, Until, Verbose, Zone
from fastapi_crons_cli.output import clock_time, json_only, print_json, say, shown, warn
from fastapi_crons_cli.times import seconds_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fastapi_crons.management.history import MissedRecord
    from fastapi_crons.management.unhandled import UnhandledTicks
    from fastapi_crons_cli.session import Session


def _record_id(text: str) -> str:
    from uuid import UUID

    try:
        return str(UUID(text))
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not the id of a record; give one as the last line says it") from None


def missed(
    app: App = None,
    since: Since = None,
    until: Until = None,
    job: SomeJobs = None,
    tag: SomeTags = None,
    only_open: Annotated[bool, typer.Option("--open", help="Only ticks that are still to be made up for.")] = False,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=10_000, help="How many records, the newest.")] = 50,
    before: Annotated[
        str | None,
        typer.Option(
            "--before", metavar="ID", parser=_record_id, help="Only records before this one, as the last line says."
        ),
    ] = None,
    zone: Zone = None,
    as_json: AsJson = False,
    exit_code: ExitCode = False,
    verbose: Verbose = False,
) -> None:
    """Show which ticks of all jobs were not run, and why, newest last; then those that no instance has handled so far.

    Late ticks that the run of a later one stands for (coalesce) are among them.
    """
    from fastapi_crons.state.base import MissedQuery
    from fastapi_crons_cli.session import check_names, with_stores

    async def ask(
        session: Session,
    ) -> tuple[str, Callable[[str], str], list[MissedRecord], tuple[list[UnhandledTicks], int]]:
        jobs = check_names(session, job, tag)
        shown_in, now = zone or session.zone, session.crons.clock.now()
        span = seconds_of(since, shown_in, now), seconds_of(until, shown_in, now)
        query = MissedQuery(jobs, *span, before, limit + 1)
        management = session.management
        unhandled: tuple[list[UnhandledTicks], int] = ([], 0)
        records = await management.find_missed(query, only_open=only_open)
        if before is None:
            unhandled = await management.unhandled(query._replace(limit=limit), only_open=only_open)
        return shown_in, management.zone_of, records, unhandled

    with json_only(as_json):
        shown_in, zone_of, records, unhandled = with_stores(ask, app=app)
    if as_json:
        from fastapi_crons.api.endpoints.missed_models import MissedPage

        print_json(MissedPage.of(records, unhandled, limit, zone_of, details=True).model_dump(mode="json"))
    else:
        _print(records[:limit], *unhandled, shown_in, more=len(records) > limit, only_open=only_open)
    if exit_code and (records or unhandled[1]):
        raise typer.Exit(FOUND)


def _print(
    records: Sequence[MissedRecord],
    unhandled: Sequence[UnhandledTicks],
    jobs: int,
    zone: str,
    *,
    more: bool,
    only_open: bool,
) -> None:
    from fastapi_crons._util.text import counted
    from fastapi_crons.clock import in_local_time, utc_datetime
    from fastapi_crons.run import reason_in_words

    for each, made_up in reversed(records):
        number = counted(each.count, "tick", more=each.more)
        span = _span(each.first_ts, each.last_ts, zone)
        on_record = f"recorded by {shown(each.instance)} at {clock_time(utc_datetime(each.recorded_ts), zone)}"
        reason, since = shown(in_local_time(reason_in_words(each), zone)), _made_up(made_up, each.count)
        say(f"{span}  {number}  {shown(each.job)}  not run: {reason} ({on_record}){since}")
    for waiting in unhandled:
        ticks = waiting.ticks
        number = counted(ticks.number, "tick", more=ticks.more)
        of_which = "" if ticks.number == 1 else " The oldest:"
        say(
            f"{_span(ticks.first, ticks.last, zone)}  {number}  {shown(waiting.job)}  not handled so far.{of_which} "
            f"{shown(waiting.fate.text)}"
        )
    if not records and not jobs:
        warn(f"no tick {'is left to be made up for' if only_open else 'was missed'}, and none is overdue")
        return
    parts = [f"{counted(len(records), 'record')} of missed ticks"] * bool(records)
    if more:
        parts.append(f"those before: --before {records[-1].ticks.id}")
    if jobs:
        shown_of = f" ({len(unhandled)} shown)" if len(unhandled) < jobs else ""
        parts.append(f"{counted(jobs, 'job')} with ticks that no instance has handled{shown_of}")
    say(f"{'; '.join(parts)}; times in {zone}; more about a tick: fastapi-crons why NAME TIME")


def _made_up(number: int, of: int) -> str:
    if not number:
        return ""
    return "; made up for" if number == of else f"; {number} of {of} made up for"


def _span(first: int, last: int, zone: str) -> str:
    from fastapi_crons.clock import utc_datetime

    begin = clock_time(utc_datetime(first), zone)
    return begin if first == last else f"{begin} to {clock_time(utc_datetime(last), zone)}"
