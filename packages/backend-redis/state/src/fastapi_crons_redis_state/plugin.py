"""The plugin: brings the backend `redis-state`. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi_crons import hookimpl
from fastapi_crons.config import CronConfig
from fastapi_crons.plugins import StateBackendSpec
from fastapi_crons.state.base import StateBackend


@hookimpl
def state_backends() -> Mapping[str, StateBackendSpec]:
    return {"redis-state": StateBackendSpec("fastapi_crons_redis_state:RedisStateBackend", _create)}


def _create(config: CronConfig) -> StateBackend:
    from fastapi_crons_redis_state import RedisStateBackend

    return RedisStateBackend()
