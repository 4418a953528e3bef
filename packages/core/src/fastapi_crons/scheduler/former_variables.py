"""Variables that fastapi-crons 2.x acted upon, and what says the same here: a name that nothing reads is easily overlooked."""

from __future__ import annotations

import logging
import os

from dotenv import dotenv_values

logger = logging.getLogger(__name__)

_URL = "CRON_REDIS_URL"
_BY_JOB = "retries are given to each job"
#: What takes the place of each: a variable, or a sentence where there is none.
SUCCESSORS = {
    "CRON_SQLITE_DB_PATH": "CRON_SQLITE_PATH",
    "CRON_REDIS_HOST": _URL,
    "CRON_REDIS_PORT": _URL,
    "CRON_REDIS_DB": _URL,
    "CRON_LOCK_TTL": "CRON_LOCK_TIMEOUT",
    "CRON_LOCK_KEY_PREFIX": "CRON_NAMESPACE",
    "CRON_DEFAULT_JOB_TIMEOUT": "CRON_DEFAULT_TIMEOUT",
    "CRON_DEFAULT_MAX_RETRIES": _BY_JOB,
    "CRON_DEFAULT_RETRY_DELAY": _BY_JOB,
    "CRON_RETRY_BACKOFF_MULTIPLIER": "the delay doubles",
}


def former_variables() -> list[str]:
    """Those that are set while what took their place is not, each with that."""
    given = {name.upper() for name in (*os.environ, *dotenv_values(".env"))}
    return [f"{old} ({new})" for old, new in SUCCESSORS.items() if old in given and new not in given]


def warn_of_former_variables() -> None:
    """One line for them."""
    left = former_variables()
    if left:
        logger.warning("variables of fastapi-crons 2.x are set, and not read any more: %s", ", ".join(left))
