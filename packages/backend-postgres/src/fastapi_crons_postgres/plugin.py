"""The plugin: brings the backends named `postgres`, and the commands `fastapi-crons postgres`. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fastapi_crons.plugins import LockBackendSpec, StateBackendSpec
from fastapi_crons.plugins.markers import hookimpl

if TYPE_CHECKING:
    from pydantic_settings import BaseSettings

    from fastapi_crons.config import CronConfig
    from fastapi_crons.locking.base import LockBackend
    from fastapi_crons.state.base import StateBackend


#: Behind Redis, where neither has a URL and a lock for a fleet is demanded.
_PREFERENCE = -2


@hookimpl
def state_backends() -> Mapping[str, StateBackendSpec]:
    return {
        "postgres": StateBackendSpec(
            "fastapi_crons_postgres.state:PostgresStateBackend", _state, _settings, _PREFERENCE, _wanted
        )
    }


@hookimpl
def lock_backends() -> Mapping[str, LockBackendSpec]:
    return {
        "postgres": LockBackendSpec(
            "fastapi_crons_postgres.lock:PostgresLockBackend", _lock, _settings, _PREFERENCE, _wanted
        )
    }


@hookimpl
def cli_commands(cli: Any) -> None:
    from fastapi_crons_postgres.commands import app

    cli.add_typer(app, name="postgres")


def _settings() -> type[BaseSettings]:
    from fastapi_crons_postgres.settings import PostgresSettings

    return PostgresSettings


def _wanted() -> bool:
    """Whether the environment names a database. Without one, PostgreSQL is used only where the settings name the backend."""
    from fastapi_crons_postgres.settings import PostgresSettings

    return "url" in PostgresSettings().model_fields_set


def _state(config: CronConfig) -> StateBackend:
    from fastapi_crons_postgres.settings import PostgresSettings
    from fastapi_crons_postgres.state import PostgresStateBackend

    return PostgresStateBackend.by_settings(PostgresSettings(), config.store_timeout)


def _lock(config: CronConfig) -> LockBackend:
    from fastapi_crons_postgres.lock import PostgresLockBackend
    from fastapi_crons_postgres.settings import PostgresSettings

    return PostgresLockBackend.by_settings(PostgresSettings(), config.store_timeout)
