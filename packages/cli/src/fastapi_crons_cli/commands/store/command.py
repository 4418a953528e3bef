"""`store copy`: moves jobs and their history to other stores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from fastapi_crons_cli.options import AsJson, Verbose
from fastapi_crons_cli.output import Progress, print_json, say, shown, warn

if TYPE_CHECKING:
    from fastapi_crons_cli.commands.store.copying import Copy, Outcome
    from fastapi_crons_cli.commands.store.places import Place

app = typer.Typer(help="Move what stores hold.", no_args_is_help=True)


@app.callback()
def store() -> None:
    """Move what stores hold."""


@app.command()
def copy(
    source: Annotated[
        str,
        typer.Argument(
            metavar="FROM",
            help="sqlite:FILE, a file that is there, redis://… or postgresql://…; or only sqlite, redis or postgres, where "
            "the settings say where that is.",
        ),
    ],
    target: Annotated[str, typer.Argument(metavar="TO", help="The same. Nothing of the namespace may be there.")],
    live: Annotated[
        bool,
        typer.Option(
            "--live", help="While instances are running: pauses all jobs in FROM, for good if the copy is made."
        ),
    ] = False,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Copy all jobs and their history to other stores: last handled ticks, definitions in force, pauses, runs, figures.

    Instances that start on the new stores go on where those on the old ones ended, by what each job says of late ticks.
    """
    from fastapi_crons._util.text import counted
    from fastapi_crons.config import CronConfig
    from fastapi_crons.plugins import Plugins
    from fastapi_crons_cli.commands.store.places import place_of
    from fastapi_crons_cli.session import run

    config = CronConfig()
    plugins = Plugins(config.disabled_plugins)
    places = [place_of(given, plugins, config) for given in (source, target)]
    outcome = run(_copied(places[0], places[1], live=live))
    runs, missed, backfills = outcome.history
    if as_json:
        print_json(
            {
                "from": places[0].name,
                "to": places[1].name,
                "live": live,
                "jobs": outcome.jobs,
                **outcome.history._asdict(),
            }
        )
        return
    counts = (
        counted(outcome.jobs, "job"),
        counted(runs, "run"),
        f"{counted(missed, 'record')} of missed ticks",
        counted(backfills, "backfill"),
    )
    say(f"✅ Copied to {shown(places[1].name)}: {', '.join(counts)}")
    if live:
        say(
            f"All jobs stay paused in {shown(places[0].name)}. Restart each instance with the settings of "
            f"{shown(places[1].name)}; in whatever order, no tick runs twice"
        )
    else:
        say(f"Start the instances with the settings of {shown(places[1].name)}, and none on {shown(places[0].name)}")


async def _copied(source: Place, target: Place, *, live: bool) -> Outcome:
    from fastapi_crons.config import CronConfig
    from fastapi_crons_cli.commands.store.checks import check
    from fastapi_crons_cli.commands.store.copying import Copy
    from fastapi_crons_cli.commands.store.places import opened

    config = CronConfig()
    with Progress() as progress:
        progress.begin("opening the stores")
        # What is refused makes nothing, not even the file or the tables of a store.
        async with opened(source, config, to_read=True), opened(target, config, to_read=True):
            await check(source, target, live=live)
        async with opened(source, config, to_read=not live), opened(target, config, to_read=False):
            copy = Copy(source, target, live, progress)
            try:
                return await copy.make()
            except BaseException:
                progress.end()
                _warn_of_rest(copy)
                raise
            finally:
                for name in sorted({*source.lock.damaged(), *source.state.damaged()}):
                    warn(f"damaged, and left out: {shown(name)}")


def _warn_of_rest(copy: Copy) -> None:
    """Say where the jobs of a running fleet are left paused by a copy that has failed."""
    source, target = shown(copy.source.name), shown(copy.target.name)
    if copy.is_at_rest and copy.is_whole:
        warn(
            f"The copy is made, or may be: all jobs stay paused in {source}. Look at the jobs in {target}; to stay with the "
            "former, resume each of them"
        )
    elif copy.is_at_rest:
        warn(
            f"All jobs stay paused in {source}, which did not answer when they were to be resumed. When it answers, make the "
            "copy again, or resume each of them: fastapi-crons resume NAME --catch-up"
        )
