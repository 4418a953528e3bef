"""`fastapi-crons`: its commands, those of plugins, and how errors are shown."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from typer.core import TyperGroup

from fastapi_crons_cli.commands import (
    actions,
    backfill,
    check,
    configuration,
    drain,
    listing,
    upcoming,
)
from fastapi_crons_cli.commands.history import logs, missed, runs, stats
from fastapi_crons_cli.commands.plan.command import plan
from fastapi_crons_cli.commands.store import command as store
from fastapi_crons_cli.options import Verbose, is_verbose

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fastapi_crons.plugins.calls import HookCall

#: Errors that typer shows itself, as wrong usage: the base of `BadParameter`.
_UsageError = cast("type[Exception]", typer.BadParameter.__bases__[0])
_INTERRUPTED = 130
_TRACEBACK_CHARS = 100_000


class Commands(TyperGroup):
    """Shows an error as one sentence, and exits with 1."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort, _UsageError, BrokenPipeError):
            raise
        except KeyboardInterrupt:
            raise typer.Exit(_INTERRUPTED) from None
        except Exception as error:
            # pydantic makes an error of its own of an interrupt while it builds a model.
            if KeyboardInterrupt.__name__ in str(error):
                raise typer.Exit(_INTERRUPTED) from None
            _show(error, verbose=is_verbose(ctx))
            raise typer.Exit(1) from None


def _show(error: Exception, *, verbose: bool) -> None:
    from fastapi_crons._util.text import one_line
    from fastapi_crons.errors import CronsError
    from fastapi_crons_cli.output import said, shown_lines, warn

    if verbose:
        from fastapi_crons._util.text import traceback_text

        warn(shown_lines(traceback_text(error, _TRACEBACK_CHARS)))
    if isinstance(error, CronsError):
        warn(f"Error: {said(error)}")
    else:
        warn(f"Error: {one_line(error)}{'' if verbose else '; --verbose shows the traceback'}")


app = typer.Typer(
    name="fastapi-crons",
    help="See and control cron jobs of FastAPI apps.",
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"fastapi-crons {version('fastapi-crons-core')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")
    ] = False,
    verbose: Verbose = False,
) -> None:
    """See and control cron jobs of FastAPI apps."""


_COMMANDS: dict[str, Callable[..., None]] = {
    "list-jobs": listing.list_jobs,
    "run-job": actions.run_job,
    "backfill": backfill.backfill,
    "backfills": backfill.backfills,
    "status": listing.status,
    "start-scheduler": actions.start_scheduler,
    "logs": logs.logs,
    "missed": missed.missed,
    "stats": stats.stats,
    "next": upcoming.next_ticks,
    "plan": plan,
    "why": logs.why,
    "pause": actions.pause,
    "resume": actions.resume,
    "cancel": actions.cancel,
    "drain": drain.drain,
    "check": check.check,
    "config-show": configuration.config_show,
    "config-set": configuration.config_set,
    "plugins": configuration.plugins,
}
#: Commands that have commands of their own.
_GROUPS = {"runs": runs.app, "store": store.app}
for _name, _command in _COMMANDS.items():
    app.command(_name)(_command)
for _name, _group in _GROUPS.items():
    app.add_typer(_group, name=_name)


def main() -> None:
    """Run the command line."""
    # Streams that were closed before the start take no output.
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        # A character that the terminal can't show must not stop the command.
        with suppress(AttributeError, ValueError):
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    if _wanted(sys.argv[1:]) not in {*_COMMANDS, *_GROUPS}:
        add_plugin_commands()
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
    finally:
        _flush()


def _wanted(arguments: Sequence[str]) -> str | None:
    """The given command; None for help or completion."""
    return next((argument for argument in arguments if not argument.startswith("-")), None)


def add_plugin_commands() -> None:
    """Add the commands of plugins. A plugin that fails gets a warning, and does not stop the others."""
    from fastapi_crons.errors import CronsError

    try:
        calls = _plugin_calls()
    except CronsError as error:
        _warn_of(f"the commands of plugins are missing: {error}")
        return
    for call in calls:
        try:
            call.invoke(cli=app)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            from fastapi_crons._util.text import one_line

            _warn_of(f"the commands of plugin {call.plugin_name!r} are missing: {one_line(error)}")


def _plugin_calls() -> Sequence[HookCall]:
    from fastapi_crons.plugins import Plugins

    return Plugins(_disabled_plugins()).calls["cli_commands"]


def _disabled_plugins() -> frozenset[str]:
    """The disabled plugins. Reads the settings, which takes longer than all the rest, only where they may name any."""
    named = any(variable.upper() == "CRON_DISABLED_PLUGINS" for variable in os.environ)
    with suppress(OSError, ValueError):
        # Reading a pipe, which some secret managers put there, would empty it.
        named = named or (Path(".env").is_file() and "CRON_DISABLED_PLUGINS" in Path(".env").read_text("utf-8").upper())
    if not named:
        return frozenset()
    from fastapi_crons.config import CronConfig

    return CronConfig().disabled_plugins


def _warn_of(text: str) -> None:
    from fastapi_crons_cli.output import said, warn

    completing = any(name.startswith("_") and name.endswith("_COMPLETE") for name in os.environ)
    if not completing:
        warn(f"Warning: {said(text)}")


def _flush() -> None:
    """Flush the output. That its reader has gone is not an error."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
