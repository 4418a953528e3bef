"""Variables that look like ours, and that nothing reads: a misspelt setting is one that was not made, without a word."""

from __future__ import annotations

import logging
import os
from difflib import get_close_matches
from typing import TYPE_CHECKING

from dotenv import dotenv_values

from fastapi_crons._imports import SETTINGS_OF
from fastapi_crons.config import PREFIX, CronConfig
from fastapi_crons.errors import CronsError
from fastapi_crons.scheduler.former_variables import SUCCESSORS

if TYPE_CHECKING:
    from fastapi_crons.plugins.registry import Plugins

logger = logging.getLogger(__name__)

#: How like ours (0 to 1, without the prefix) a name must be: other programs have variables that begin with CRON_, too.
_LIKE = 0.8


def unread_variables(plugins: Plugins) -> list[str]:
    """A sentence on each variable of the environment and of `.env` that is misspelt, or meant for what is not installed."""
    given = {name.upper() for name in (*os.environ, *dotenv_values(".env"))}
    core = {f"{PREFIX}{name}".upper() for name in CronConfig.model_fields}
    strange = {name for name in given if name.startswith(PREFIX)} - core - SUCCESSORS.keys()
    if not strange:
        return []
    from fastapi_crons.plugins.settings import fields_of  # costs more than all the rest

    try:
        known = {variable.upper() for field in fields_of(plugins) for variable in field.variables}
    except CronsError as error:  # told of where the settings themselves are asked for
        logger.debug("settings of plugins: %s", error)
        return []
    sentences = (_about(name, known) for name in sorted(strange - known))
    return [sentence for sentence in sentences if sentence is not None]


def warn_of_unread_variables(plugins: Plugins) -> None:
    """One line for all of them."""
    found = unread_variables(plugins)
    if found:
        logger.warning("%s", "; ".join(found))


def _about(name: str, known: set[str]) -> str | None:
    for prefix, distributions in SETTINGS_OF.items():
        if name.startswith(prefix) and not any(other.startswith(prefix) for other in known):
            return f"{name} is set, and what reads it is not installed: pip install {distributions}"
    ours = [variable.removeprefix(PREFIX) for variable in known if variable.startswith(PREFIX)]
    (match, *_) = [*get_close_matches(name.removeprefix(PREFIX), ours, 1, _LIKE), None]
    return None if match is None else f"{name} is set, and nothing reads it: did you mean {PREFIX}{match}?"
