"""The plugin: makes the command line known to `fastapi-crons plugins`, and its settings to `config-show`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fastapi_crons.plugins.markers import hookimpl

if TYPE_CHECKING:
    from pydantic_settings import BaseSettings


@hookimpl
def settings() -> Sequence[type[BaseSettings]]:
    from fastapi_crons_cli.settings import CliSettings

    return [CliSettings]
