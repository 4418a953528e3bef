"""The plugin: brings the backend `redis`. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from fastapi_crons.plugins import LockBackendSpec
from fastapi_crons.plugins.specs import hookimpl

if TYPE_CHECKING:
    from pydantic_settings import BaseSettings

    from fastapi_crons.config import CronConfig
    from fastapi_crons.locking.base import LockBackend


@hookimpl
def lock_backends() -> Mapping[str, LockBackendSpec]:
    spec = LockBackendSpec("fastapi_crons_redis_lock.lock:RedisLockBackend", _create, _settings, wanted=_wanted)
    return {"redis": spec, "redis-lock": spec}


def _settings() -> type[BaseSettings]:
    from .settings import RedisSettings

    return RedisSettings


def _wanted() -> bool:
    """A server that the environment names is what its user wants; without one, this is used where it is named."""
    from .settings import RedisSettings

    return "url" in RedisSettings().model_fields_set


def _create(config: CronConfig) -> LockBackend:
    from ._connection import Connection
    from .lock import RedisLockBackend
    from .settings import RedisSettings

    return RedisLockBackend.on(Connection.by_settings(RedisSettings(), config.store_timeout))
