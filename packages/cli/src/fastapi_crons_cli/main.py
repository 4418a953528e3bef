"""`fastapi-crons`: the command line as a whole: its commands, those of plugins, and how errors are shown."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from typer.core import TyperGroup

from fastapi_crons_cli import history, listing, steering, upcoming
from fastapi_crons_cli.configuration import check, commands
from fastapi_crons_cli.options import Verbose, is_verbose

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fastapi_crons.plugins.calls import HookCall

#: What typer shows by itself, as wrong usage: the base of `BadParameter`.
_UsageError = cast("type[Exception]", typer.BadParameter.__bases__[0])
_INTERRUPTED = 130
_TRACEBACK_CHARS = 100_000


class Commands(TyperGroup):
    """Shows errors as one sentence, and says with the exit code that there was one."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort, _UsageError, BrokenPipeError):
            raise
        except KeyboardInterrupt:
            raise typer.Exit(_INTERRUPTED) from None
        except Exception as error:
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
    help="See and steer cron jobs of FastAPI apps.",
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
    """See and steer cron jobs of FastAPI apps."""


_COMMANDS: dict[str, Callable[..., None]] = {
    "list-jobs": listing.list_jobs,
    "run-job": steering.run_job,
    "status": listing.status,
    "start-scheduler": steering.start_scheduler,
    "logs": history.logs,
    "next": upcoming.next_ticks,
    "why": history.why,
    "pause": steering.pause,
    "resume": steering.resume,
    "cancel": steering.cancel,
    "check": check.check,
    "config-show": commands.config_show,
    "config-set": commands.config_set,
    "plugins": commands.plugins,
}
for _name, _command in _COMMANDS.items():
    app.command(_name)(_command)


def main() -> None:
    """Run the command line."""
    # Who has closed them does not want to read.
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        # A terminal that can't show a character must not stop the command.
        with suppress(AttributeError, ValueError):
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    if _wanted(sys.argv[1:]) not in _COMMANDS:
        add_plugin_commands()
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
    finally:
        _flush()


def _wanted(arguments: Sequence[str]) -> str | None:
    """The command that is asked for; None where it is help, or completion."""
    return next((argument for argument in arguments if not argument.startswith("-")), None)


def add_plugin_commands() -> None:
    """Add the commands that plugins bring. One that fails is told of, and stands in nobody's way."""
    from fastapi_crons.errors import CronsError

    try:
        calls = _plugin_calls()
    except CronsError as error:
        _warn_of(f"plugins bring no commands: {error}")
        return
    for call in calls:
        try:
            call.invoke(cli=app)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            from fastapi_crons._util.text import one_line

            _warn_of(f"plugin {call.plugin_name!r} brings no commands: {one_line(error)}")


def _plugin_calls() -> Sequence[HookCall]:
    from fastapi_crons.plugins import Plugins

    return Plugins(_disabled_plugins()).calls("cli_commands")


def _disabled_plugins() -> frozenset[str]:
    """Those that the settings name. Settings cost more to read than all the rest: only where they may name any."""
    named = any(variable.upper() == "CRON_DISABLED_PLUGINS" for variable in os.environ)
    with suppress(OSError, ValueError):
        # A pipe, as some keepers of secrets put there, would be emptied.
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
    """Whoever reads the output may have gone: that is no fault of ours."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
