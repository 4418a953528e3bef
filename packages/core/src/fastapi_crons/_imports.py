"""Names that other distributions bring: found through plugins, or refused with a hint of what to install."""

from __future__ import annotations

from typing import Literal

from fastapi_crons.errors import ConfigurationError, MissingDistributionError

#: The only place in core that knows of the distributions built on it.
BROUGHT_BY = {
    "SQLiteStateBackend": "fastapi-crons-sqlite",
    "SQLiteLockBackend": "fastapi-crons-sqlite",
    "RedisStateBackend": "fastapi-crons-redis-state",
    "RedisLockBackend": "fastapi-crons-redis-lock",
}
#: Names that settings may use, and what brings them.
KNOWN_BACKENDS = {
    "sqlite": "fastapi-crons-sqlite",
    "redis": "fastapi-crons-redis-state fastapi-crons-redis-lock",
    "redis-state": "fastapi-crons-redis-state",
    "redis-lock": "fastapi-crons-redis-lock",
}
#: What variables begin with that only these distributions read.
SETTINGS_OF = {
    "CRON_SQLITE_": "fastapi-crons-sqlite",
    "CRON_REDIS_": "fastapi-crons-redis-state fastapi-crons-redis-lock",
}


def backend_class(module: str, kind: Literal["state_backends", "lock_backends"], name: str) -> object:
    """The backend class that a plugin registered under this name, for a module's `__getattr__`.

    Raises `MissingDistributionError` for a known name whose distribution is not installed, or whose plugin is disabled,
    else `AttributeError`.
    """
    if name[:1].isupper():
        from fastapi_crons.plugins.backends import find_class
        from fastapi_crons.plugins.registry import Plugins

        found = find_class(getattr(Plugins(_disabled()), kind), name)
        if found is not None:
            return found
    distribution = BROUGHT_BY.get(name)
    if distribution is None:
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    if _is_installed(distribution):
        raise MissingDistributionError(
            f"{name} is part of {distribution}, whose plugin is disabled: take it out of CRON_DISABLED_PLUGINS"
        )
    raise MissingDistributionError(
        f"{name} is part of {distribution}, which is not installed: pip install {distribution}"
    )


def _disabled() -> frozenset[str]:
    """The plugins that the environment disables; settings that can't be used are told of where they are used."""
    from fastapi_crons.config import CronConfig

    try:
        return CronConfig().disabled_plugins
    except ConfigurationError:
        return frozenset()


def _is_installed(distribution: str) -> bool:
    from importlib.metadata import PackageNotFoundError, version

    try:
        version(distribution)
    except PackageNotFoundError:
        return False
    return True
