"""`fastapi-crons`: the command line."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import typer

from fastapi_crons.errors import CronsError

app = typer.Typer(name="fastapi-crons", help="See and steer cron jobs of FastAPI apps.", no_args_is_help=True)

#: Documented commands that this version does not have yet, with what serves until then.
_TO_COME = {
    "list-jobs": "GET /crons of the management API lists the jobs",
    "run-job": "POST /crons/NAME/run of the management API runs one",
    "status": "GET /crons of the management API shows the states",
    "start-scheduler": "`uvicorn app:app` starts it with the app",
    "logs": "GET /crons/NAME/runs of the management API shows the history",
    "config-show": "the settings are listed in the README",
    "config-set": "set CRON_… variables, in the environment or in .env",
}


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"fastapi-crons {version('fastapi-crons-core')}")
        raise typer.Exit


@app.callback()
def options(
    _: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """See and steer cron jobs of FastAPI apps."""


@app.command()
def plugins() -> None:
    """List the installed plugins with their distributions and hooks."""
    from rich.console import Console
    from rich.table import Table

    from fastapi_crons.config import CronConfig
    from fastapi_crons.plugins import Plugins

    try:
        found = Plugins(CronConfig().disabled_plugins).list()
    except CronsError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    table = Table("Plugin", "Distribution", "Version", "Hooks")
    for plugin in sorted(found, key=lambda plugin: plugin.name):
        table.add_row(plugin.name, plugin.distribution, plugin.version, ", ".join(plugin.hooks))
    Console().print(table)


def _add_missing(name: str, instead: str) -> None:
    # Options and arguments of the command to be are swallowed, so that the answer is about the command.
    @app.command(name, hidden=True, context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
    def missing() -> None:
        typer.echo(f"this version of fastapi-crons-cli has no {name!r} yet; {instead}", err=True)
        raise typer.Exit(2)


for _name, _instead in _TO_COME.items():
    _add_missing(_name, _instead)


def main() -> None:
    """Run the command line."""
    app()
