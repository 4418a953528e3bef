"""The plugin: brings the backends named `sqlite`. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from fastapi_crons.plugins import LockBackendSpec, StateBackendSpec
from fastapi_crons.plugins.markers import hookimpl

if TYPE_CHECKING:
    from pydantic_settings import BaseSettings

    from fastapi_crons.config import CronConfig
    from fastapi_crons.locking.base import LockBackend
    from fastapi_crons.state.base import StateBackend
    from fastapi_crons_sqlite.settings import SQLiteSettings

#: Preferred to stores that keep nothing over a restart.
_PREFERENCE = 10


@hookimpl
def state_backends() -> Mapping[str, StateBackendSpec]:
    return {"sqlite": StateBackendSpec("fastapi_crons_sqlite.state:SQLiteStateBackend", _state, _settings, _PREFERENCE)}


@hookimpl
def lock_backends() -> Mapping[str, LockBackendSpec]:
    return {"sqlite": LockBackendSpec("fastapi_crons_sqlite.lock:SQLiteLockBackend", _lock, _settings, _PREFERENCE)}


def _settings() -> type[BaseSettings]:
    from fastapi_crons_sqlite.settings import SQLiteSettings

    return SQLiteSettings


def _state(config: CronConfig) -> StateBackend:
    from fastapi_crons_sqlite.settings import SQLiteSettings
    from fastapi_crons_sqlite.state import SQLiteStateBackend

    settings = SQLiteSettings()
    return SQLiteStateBackend(settings.path, busy_timeout=_patience(settings, config))


def _lock(config: CronConfig) -> LockBackend:
    from fastapi_crons_sqlite.lock import SQLiteLockBackend
    from fastapi_crons_sqlite.settings import SQLiteSettings

    settings = SQLiteSettings()
    return SQLiteLockBackend(settings.path, busy_timeout=_patience(settings, config))


def _patience(settings: SQLiteSettings, config: CronConfig) -> float:
    """How long to wait for another process's write: never so long that the scheduler gives up first."""
    return min(settings.busy_timeout, config.store_timeout * 0.8)
