"""The plugin: brings the backend `redis`. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from fastapi_crons.plugins import StateBackendSpec
from fastapi_crons.plugins.specs import hookimpl

if TYPE_CHECKING:
    from pydantic_settings import BaseSettings

    from fastapi_crons.config import CronConfig
    from fastapi_crons.state.base import StateBackend


@hookimpl
def state_backends() -> Mapping[str, StateBackendSpec]:
    spec = StateBackendSpec("fastapi_crons_redis_state.state:RedisStateBackend", _create, _settings, wanted=_wanted)
    return {"redis": spec, "redis-state": spec}


def _settings() -> type[BaseSettings]:
    from .settings import RedisSettings

    return RedisSettings


def _wanted() -> bool:
    """A server that the environment names is what its user wants; without one, this is used where it is named."""
    from .settings import RedisSettings

    return "url" in RedisSettings().model_fields_set


def _create(config: CronConfig) -> StateBackend:
    from ._connection import Connection
    from .settings import RedisSettings
    from .state import RedisStateBackend

    return RedisStateBackend.on(Connection.by_settings(RedisSettings(), config.store_timeout))
