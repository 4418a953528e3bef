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


#: What the places of these stores begin with: `sqlite:crons.db`.
_SCHEMES = ("sqlite",)


@hookimpl
def state_backends() -> Mapping[str, StateBackendSpec]:
    path = "fastapi_crons_sqlite.state:SQLiteStateBackend"
    return {"sqlite": StateBackendSpec(path, _state, _settings, _PREFERENCE, schemes=_SCHEMES, at=_state_at)}


@hookimpl
def lock_backends() -> Mapping[str, LockBackendSpec]:
    path = "fastapi_crons_sqlite.lock:SQLiteLockBackend"
    return {"sqlite": LockBackendSpec(path, _lock, _settings, _PREFERENCE, schemes=_SCHEMES, at=_lock_at)}


def _settings() -> type[BaseSettings]:
    from fastapi_crons_sqlite.settings import SQLiteSettings

    return SQLiteSettings


def _state(config: CronConfig) -> StateBackend:
    return _state_at(config, None)


def _lock(config: CronConfig) -> LockBackend:
    return _lock_at(config, None)


def _state_at(config: CronConfig, place: str | None) -> StateBackend:
    from fastapi_crons_sqlite.state import SQLiteStateBackend

    settings = _settings_at(place)
    return SQLiteStateBackend(settings.path, busy_timeout=_patience(settings, config))


def _lock_at(config: CronConfig, place: str | None) -> LockBackend:
    from fastapi_crons_sqlite.lock import SQLiteLockBackend

    settings = _settings_at(place)
    return SQLiteLockBackend(settings.path, busy_timeout=_patience(settings, config))


def _settings_at(place: str | None) -> SQLiteSettings:
    """The settings; for the file of a place, as in `sqlite:crons.db` or `sqlite:///crons.db`, where one is given."""
    from fastapi_crons_sqlite.settings import SQLiteSettings

    if place is None:
        return SQLiteSettings()
    return SQLiteSettings(path=place.partition(":")[2].removeprefix("///"))


def _patience(settings: SQLiteSettings, config: CronConfig) -> float:
    """How long to wait for another process's write: never so long that the scheduler gives up first."""
    return min(settings.busy_timeout, config.store_timeout * 0.8)
