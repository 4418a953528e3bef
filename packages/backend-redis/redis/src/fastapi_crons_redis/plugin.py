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

    from .connection import Connection


#: What URLs of servers begin with.
_SCHEMES = (
    "redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster",
)  # fmt: skip


class RedisLock:
    """Registers the lock store, as `redis` and `redis-lock`."""

    @hookimpl
    def lock_backends(self) -> Mapping[str, LockBackendSpec]:
        path = "fastapi_crons_redis.lock:RedisLockBackend"
        spec = LockBackendSpec(path, _lock, _settings, wanted=_wanted, schemes=_SCHEMES, at=_lock_at)
        return {"redis": spec, "redis-lock": spec}


class RedisState:
    """Registers the state store, as `redis` and `redis-state`."""

    @hookimpl
    def state_backends(self) -> Mapping[str, StateBackendSpec]:
        path = "fastapi_crons_redis.state:RedisStateBackend"
        spec = StateBackendSpec(path, _state, _settings, wanted=_wanted, schemes=_SCHEMES, at=_state_at)
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
    return _lock_at(config, None)


def _state(config: CronConfig) -> StateBackend:
    return _state_at(config, None)


def _lock_at(config: CronConfig, url: str | None) -> LockBackend:
    from .lock import RedisLockBackend

    return RedisLockBackend.on(_connection(config, url))


def _state_at(config: CronConfig, url: str | None) -> StateBackend:
    from .state import RedisStateBackend

    return RedisStateBackend.on(_connection(config, url))


def _connection(config: CronConfig, url: str | None) -> Connection:
    """A connection to the server of a URL, or to the one that the settings name."""
    from pydantic import SecretStr

    from .connection import Connection
    from .settings import RedisSettings

    settings = RedisSettings() if url is None else RedisSettings(url=SecretStr(url))
    return Connection.by_settings(settings, config.store_timeout)
