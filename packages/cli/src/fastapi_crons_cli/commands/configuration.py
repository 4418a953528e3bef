"""Commands about settings and plugins: `config-show`, `config-set`, `plugins`."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from fastapi_crons_cli.options import App, AsJson, Verbose
from fastapi_crons_cli.output import json_only, print_json, print_table, said, say, table, warn

if TYPE_CHECKING:
    from fastapi_crons.config import CronConfig
    from fastapi_crons.plugins import Plugins


def config_show(app: App = None, as_json: AsJson = False, verbose: Verbose = False) -> None:
    """Show every setting, its value, and where that comes from. Secrets are not shown."""
    from fastapi_crons_cli.configuration.all_settings import describe_settings

    with json_only(as_json):
        plugins, config = _plugins_and_config(app)
        found = describe_settings(plugins, config)
    if as_json:
        print_json([asdict(setting) for setting in found])
        return
    columns = ["Setting", "Value", "Source"]
    rows = [[setting.variable, setting.value, setting.source] for setting in found]
    if verbose:
        columns.append("Meaning")
        rows = [[*row, setting.meaning] for row, setting in zip(rows, found, strict=True)]
    print_table(table(columns, rows))


def _plugins_and_config(app: str | None) -> tuple[Plugins, CronConfig | None]:
    """The plugins and settings of the app; without an app, those of the environment."""
    from fastapi_crons.config import CronConfig
    from fastapi_crons.plugins import Plugins
    from fastapi_crons_cli.apps import AppError, NoAppError
    from fastapi_crons_cli.session import load_app

    try:
        crons = load_app(app).crons
    except (NoAppError, AppError) as error:
        if app is not None:
            raise
        # The app may fail to import because of a setting.
        if isinstance(error, AppError):
            warn(f"without what the app sets in code: {said(error)}")
        return Plugins(CronConfig().disabled_plugins), None
    return crons.plugins, crons.config


def config_set(
    name: Annotated[str, typer.Argument(help="The variable, or the setting's name.")],
    value: Annotated[str | None, typer.Argument(help="The new value; - reads it from standard input.")] = None,
    unset: Annotated[bool, typer.Option("--unset", help="Remove the setting from the file.")] = False,
    verbose: Verbose = False,
) -> None:
    """Check a setting, and write it to the .env file in this folder."""
    from fastapi_crons.plugins import Plugins
    from fastapi_crons_cli.configuration.env_file import change_setting, check_env_file

    if unset == (value is not None):
        raise typer.BadParameter("give either a value or --unset")
    if value == "-":
        value = sys.stdin.readline().rstrip("\r\n")
    check_env_file()
    change = change_setting(Plugins(_disabled_plugins()), name, value)
    done = ("is set in" if value is not None else "is removed from") if change.changed else "is unchanged in"
    say(f"{change.variable} {done} {change.env_file}")
    if change.overridden:
        warn(f"{change.variable} is set in the environment, too, which takes precedence over the file")
    if change.readable_by:
        warn(
            f"{change.env_file} can be read by {change.readable_by}, and may hold secrets; close it with: "
            f"chmod 600 {change.env_file}"
        )


def _disabled_plugins() -> frozenset[str]:
    """The plugins that the settings disable; faulty settings must not prevent their own repair."""
    from fastapi_crons.config import CronConfig
    from fastapi_crons.errors import ConfigurationError

    try:
        return CronConfig().disabled_plugins
    except ConfigurationError:
        return frozenset()


def plugins(as_json: AsJson = False, verbose: Verbose = False) -> None:
    """Show the installed plugins, with their distributions, versions and hooks."""
    from fastapi_crons.config import CronConfig
    from fastapi_crons.plugins import Plugins

    with json_only(as_json):
        found = sorted(Plugins(CronConfig().disabled_plugins).list(), key=lambda plugin: plugin.name)
    if as_json:
        print_json([asdict(plugin) for plugin in found])
        return
    rows = [(plugin.name, plugin.distribution, plugin.version, ", ".join(plugin.hooks)) for plugin in found]
    print_table(table(("Plugin", "Distribution", "Version", "Hooks"), rows))
