"""Warns of environment variables that nothing reads: misspelt, of fastapi-crons 2.x, or of missing distributions."""

from __future__ import annotations

import logging
import os
from difflib import get_close_matches
from typing import TYPE_CHECKING

from dotenv import dotenv_values

from fastapi_crons._elsewhere import SETTINGS_OF
from fastapi_crons.config import PREFIX, CronConfig
from fastapi_crons.errors import CronsError

if TYPE_CHECKING:
    from fastapi_crons.plugins.registry import Plugins

logger = logging.getLogger(__name__)

#: How similar to ours (0 to 1, without the prefix) a name must be: other programs have variables that begin with CRON_, too.
_SIMILAR = 0.8
_URL = "CRON_REDIS_URL"
#: Variables of fastapi-crons 2.x; each with the variable that replaces it, or a sentence where there is none.
_SUCCESSORS = {
    "CRON_SQLITE_DB_PATH": "CRON_SQLITE_PATH",
    "CRON_REDIS_HOST": _URL,
    "CRON_REDIS_PORT": _URL,
    "CRON_REDIS_DB": _URL,
    "CRON_LOCK_TTL": "CRON_LOCK_TIMEOUT",
    "CRON_LOCK_KEY_PREFIX": "CRON_NAMESPACE",
    "CRON_DEFAULT_JOB_TIMEOUT": "CRON_DEFAULT_TIMEOUT",
    "CRON_RETRY_BACKOFF_MULTIPLIER": "the delay doubles",
}


def former_variables() -> list[str]:
    """The variables of 2.x that are set while their successors are not, each with its successor."""
    given = _given()
    return [f"{old} ({new})" for old, new in _SUCCESSORS.items() if old in given and new not in given]


def unread_variables(plugins: Plugins) -> list[str]:
    """A sentence about each variable that is misspelt, or that only a missing distribution would read."""
    core = {f"{PREFIX}{name}".upper() for name in CronConfig.model_fields}
    unknown = {name for name in _given() if name.startswith(PREFIX)} - core - _SUCCESSORS.keys()
    if not unknown:
        return []
    from fastapi_crons.plugins.settings import fields_of  # costs more than all the rest

    try:
        known = {variable.upper() for field in fields_of(plugins) for variable in field.variables}
    except CronsError as error:  # reported where the settings themselves are read
        logger.debug("settings of plugins: %s", error)
        return []
    sentences = (_about(name, known) for name in sorted(unknown - known))
    return [sentence for sentence in sentences if sentence is not None]


def warn_of_variables(plugins: Plugins) -> None:
    """Log one line for the variables of 2.x, and one for the others."""
    former, unread = former_variables(), unread_variables(plugins)
    if former:
        logger.warning("variables of fastapi-crons 2.x are set, but no longer read: %s", ", ".join(former))
    if unread:
        logger.warning("%s", "; ".join(unread))


def _given() -> set[str]:
    """The names of all variables in the environment and in `.env`."""
    return {name.upper() for name in (*os.environ, *dotenv_values(".env"))}


def _about(name: str, known: set[str]) -> str | None:
    for prefix, distributions in SETTINGS_OF.items():
        if name.startswith(prefix) and not any(other.startswith(prefix) for other in known):
            return f"{name} is set, but what reads it is not installed: pip install {distributions}"
    ours = [variable.removeprefix(PREFIX) for variable in known if variable.startswith(PREFIX)]
    (match, *_) = [*get_close_matches(name.removeprefix(PREFIX), ours, 1, _SIMILAR), None]
    return None if match is None else f"{name} is set, but nothing reads it: did you mean {PREFIX}{match}?"
