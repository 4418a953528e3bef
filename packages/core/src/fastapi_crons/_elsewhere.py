"""Names that are documented here and live in other distributions, and names of fastapi-crons 2.x that have moved or gone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from types import ModuleType
from typing import NamedTuple

from fastapi_crons.errors import MissingDistributionError, MovedNameError


class Elsewhere(NamedTuple):
    """Where a class lives that is imported from `fastapi_crons.state` or `fastapi_crons.locking`."""

    module: str
    distribution: str
    """What to install for it."""


#: By the module that a class is imported from, and its name. Only here core knows of the distributions that are built on it.
CLASSES = {
    "fastapi_crons.state": {
        "SQLiteStateBackend": Elsewhere("fastapi_crons_sqlite.state", "fastapi-crons-sqlite"),
        "PostgresStateBackend": Elsewhere("fastapi_crons_postgres.state", "fastapi-crons-postgres"),
        "RedisStateBackend": Elsewhere("fastapi_crons_redis.state", "fastapi-crons-redis-state"),
    },
    "fastapi_crons.locking": {
        "SQLiteLockBackend": Elsewhere("fastapi_crons_sqlite.lock", "fastapi-crons-sqlite"),
        "PostgresLockBackend": Elsewhere("fastapi_crons_postgres.lock", "fastapi-crons-postgres"),
        "RedisLockBackend": Elsewhere("fastapi_crons_redis.lock", "fastapi-crons-redis-lock"),
    },
}
#: Names of stores that settings may use, and what to install for them.
KNOWN_BACKENDS = {
    "sqlite": "fastapi-crons-sqlite",
    "postgres": "fastapi-crons-postgres",
    "redis": "fastapi-crons-redis-state fastapi-crons-redis-lock",
    "redis-state": "fastapi-crons-redis-state",
    "redis-lock": "fastapi-crons-redis-lock",
}
#: What the variables begin with that only these distributions read.
SETTINGS_OF = {
    "CRON_SQLITE_": "fastapi-crons-sqlite",
    "CRON_POSTGRES_": "fastapi-crons-postgres",
    "CRON_REDIS_": "fastapi-crons-redis-state fastapi-crons-redis-lock",
}

_RETRY = "give the job max_retries, retry_delay and retry_on instead"
_LOGGED = "leave it out: the logger fastapi_crons says the same"
_AFTER_HOOK = "add a function of your own by crons.add_after_run_hook"
_CRON_JOB = "write @crons.cron(…), or @Crons().cron(…), with the same arguments"
_SPANS = "write a plugin with the hook run_scope, which is held around the function"
_SQLALCHEMY = (
    "use PostgreSQL (fastapi-crons[postgres] and CRON_POSTGRES_URL), SQLite (the default), Redis (fastapi-crons[redis]) or a "
    "plugin with a store of your own"
)
_LOCKING, _STATE = (f"write from fastapi_crons.{package} import " for package in ("locking", "state"))

#: What to do instead of importing these modules, and these names from modules that are still there.
_FORMER = {
    "fastapi_crons.DistributedLockManager": f"{_LOCKING}DistributedLockManager",
    "fastapi_crons.LocalLockBackend": f"{_LOCKING}LocalLockBackend",
    "fastapi_crons.RedisLockBackend": f"{_LOCKING}RedisLockBackend",
    "fastapi_crons.RedisStateBackend": f"{_STATE}RedisStateBackend",
    "fastapi_crons.SQLiteStateBackend": f"{_STATE}SQLiteStateBackend",
    "fastapi_crons.cron_job": _CRON_JOB,
    "fastapi_crons.job.cron_job": _CRON_JOB,
    "fastapi_crons.scheduler.get_crons": "write Crons()",
    "fastapi_crons.JobTimeoutError": "a run that took too long has the status 'timed_out'",
    "fastapi_crons.RetryConfig": _RETRY,
    "fastapi_crons.execute_with_retry": _RETRY,
    "fastapi_crons.retry_on_failure": _RETRY,
    "fastapi_crons.retry": _RETRY,
    "fastapi_crons.log_job_start": _LOGGED,
    "fastapi_crons.log_job_success": _LOGGED,
    "fastapi_crons.log_job_error": _LOGGED,
    "fastapi_crons.alert_on_failure": "add a function of your own by crons.add_on_error_hook",
    "fastapi_crons.alert_on_long_duration": _AFTER_HOOK,
    "fastapi_crons.metrics_collector": _AFTER_HOOK,
    "fastapi_crons.webhook_notification": _AFTER_HOOK,
    "fastapi_crons.OpenTelemetryHooks": _SPANS,
    "fastapi_crons.is_otel_available": _SPANS,
    "fastapi_crons.telemetry": _SPANS,
    "fastapi_crons.dashboard": "use GET /crons, fastapi-crons list-jobs or fastapi-crons logs",
    "fastapi_crons.endpoints": "write from fastapi_crons import get_cron_router",
    "fastapi_crons.hooks": "add functions of your own by crons.add_before_run_hook, add_after_run_hook and add_on_error_hook",
    "fastapi_crons.locking.sqlalchemy": _SQLALCHEMY,
    "fastapi_crons.state.sqlalchemy": _SQLALCHEMY,
    "fastapi_crons.runner": "write await crons.run_job(name), and give the job timeout, max_retries, retry_delay and retry_on",
}


def class_elsewhere(module: str, name: str) -> object:
    """The class of another distribution that is documented under this name, for a module's `__getattr__`.

    Raises `MissingDistributionError` where its distribution is not installed, and `AttributeError` for any other name.
    """
    row = CLASSES[module].get(name)
    if row is None:
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    try:
        found = import_module(row.module)
    except ModuleNotFoundError:
        if is_installed(row.distribution):
            raise
        raise MissingDistributionError(f"{name} is part of {not_installed(row.distribution)}") from None
    # The code may have come with a distribution that registers another store.
    has_code = row.module.startswith(row.distribution.replace("-", "_"))
    if not has_code and not is_installed(row.distribution):
        raise MissingDistributionError(f"{name} is part of {not_installed(row.distribution)}")
    return getattr(found, name)


def distribution_of(found: type) -> str | None:
    """The distribution that a documented class lives in; None for any other class."""
    rows = (classes.get(found.__name__) for classes in CLASSES.values())
    return next((row.distribution for row in rows if row is not None and row.module == found.__module__), None)


def not_installed(distribution: str) -> str:
    """A distribution and what to do, for a message."""
    return f"{distribution}, which is not installed: pip install {distribution}"


def is_installed(distribution: str) -> bool:
    """Whether a distribution is installed."""
    from importlib.metadata import PackageNotFoundError, version  # costs more than all the rest

    try:
        version(distribution)
    except PackageNotFoundError:
        return False
    return True


def refuse_former(name: str) -> None:
    """Raises `MovedNameError` for a module, or a name with its module, that fastapi-crons 2.x had."""
    if name in _FORMER:
        raise MovedNameError(f"{name} of fastapi-crons 2.x is not there any more: {_FORMER[name]}", name=name)


def former_names_of(module: str) -> Callable[[str], object]:
    """The `__getattr__` of a module of which 2.x had other names."""

    def refuse(name: str) -> object:
        refuse_former(f"{module}.{name}")
        raise AttributeError(f"module {module!r} has no attribute {name!r}")

    return refuse


class FormerModules:
    """The last of `sys.meta_path`: asked for modules that no other finder has found."""

    @staticmethod
    def find_spec(fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> None:
        """Raises `MovedNameError` for a module that 2.x had, and finds nothing."""
        refuse_former(fullname)
