"""The plugin: brings the backend named `plain-sql`. Every scheduler imports this module, so it imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from fastapi_crons import hookimpl
from fastapi_crons.plugins import LockBackendSpec

if TYPE_CHECKING:
    from pydantic_settings import BaseSettings

    from fastapi_crons import CronConfig
    from fastapi_crons.locking import LockBackend


@hookimpl
def lock_backends() -> Mapping[str, LockBackendSpec]:
    return {"plain-sql": LockBackendSpec("fastapi_crons_plain_sql.lock:PlainSqlLockBackend", _create, _settings)}


def _settings() -> type[BaseSettings]:
    from fastapi_crons_plain_sql.settings import PlainSqlSettings

    return PlainSqlSettings


def _create(config: CronConfig) -> LockBackend:
    from fastapi_crons_plain_sql.lock import PlainSqlLockBackend
    from fastapi_crons_plain_sql.settings import PlainSqlSettings

    return PlainSqlLockBackend(PlainSqlSettings().path)
