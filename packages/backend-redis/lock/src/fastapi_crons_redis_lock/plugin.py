"""The plugin: brings the backend `redis-lock`. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi_crons import hookimpl
from fastapi_crons.config import CronConfig
from fastapi_crons.locking.base import LockBackend
from fastapi_crons.plugins import LockBackendSpec


@hookimpl
def lock_backends() -> Mapping[str, LockBackendSpec]:
    return {"redis-lock": LockBackendSpec("fastapi_crons_redis_lock:RedisLockBackend", _create)}


def _create(config: CronConfig) -> LockBackend:
    from fastapi_crons_redis_lock import RedisLockBackend

    return RedisLockBackend()
