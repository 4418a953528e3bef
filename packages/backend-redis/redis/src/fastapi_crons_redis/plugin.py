"""The plugins of the two thin distributions: one registers the lock store, one the state store. Imports nothing heavy."""

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


class RedisLock:
    """Registers the lock store, as `redis` and `redis-lock`."""

    @hookimpl
    def lock_backends(self) -> Mapping[str, LockBackendSpec]:
        spec = LockBackendSpec("fastapi_crons_redis.lock:RedisLockBackend", _lock, _settings, wanted=_wanted)
        return {"redis": spec, "redis-lock": spec}


class RedisState:
    """Registers the state store, as `redis` and `redis-state`."""

    @hookimpl
    def state_backends(self) -> Mapping[str, StateBackendSpec]:
        spec = StateBackendSpec("fastapi_crons_redis.state:RedisStateBackend", _state, _settings, wanted=_wanted)
        return {"redis": spec, "redis-state": spec}


#: What the entry points of `fastapi-crons-redis-lock` and `fastapi-crons-redis-state` name.
redis_lock = RedisLock()
redis_state = RedisState()


def _settings() -> type[BaseSettings]:
    from .settings import RedisSettings

    return RedisSettings


def _wanted() -> bool:
    """Whether the environment names a server. Without one, Redis is used only where the settings name the backend."""
    from .settings import RedisSettings

    return "url" in RedisSettings().model_fields_set


def _lock(config: CronConfig) -> LockBackend:
    from .connection import Connection
    from .lock import RedisLockBackend
    from .settings import RedisSettings

    return RedisLockBackend.on(Connection.by_settings(RedisSettings(), config.store_timeout))


def _state(config: CronConfig) -> StateBackend:
    from .connection import Connection
    from .settings import RedisSettings
    from .state import RedisStateBackend

    return RedisStateBackend.on(Connection.by_settings(RedisSettings(), config.store_timeout))
