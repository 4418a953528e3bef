"""The plugin: brings the backends named `postgres`, and the commands `fastapi-crons postgres`. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fastapi_crons.plugins import LockBackendSpec, StateBackendSpec
from fastapi_crons.plugins.markers import hookimpl
from fastapi_crons_postgres.url import SCHEMES

if TYPE_CHECKING:
    from pydantic_settings import BaseSettings

    from fastapi_crons.config import CronConfig
    from fastapi_crons.locking.base import LockBackend
    from fastapi_crons.state.base import StateBackend
    from fastapi_crons_postgres.settings import PostgresSettings


#: Behind Redis, where neither has a URL and a lock for a fleet is demanded.
_PREFERENCE = -2


@hookimpl
def state_backends() -> Mapping[str, StateBackendSpec]:
    path = "fastapi_crons_postgres.state:PostgresStateBackend"
    return {"postgres": StateBackendSpec(path, _state, _settings, _PREFERENCE, _wanted, SCHEMES, _state_at)}


@hookimpl
def lock_backends() -> Mapping[str, LockBackendSpec]:
    path = "fastapi_crons_postgres.lock:PostgresLockBackend"
    return {"postgres": LockBackendSpec(path, _lock, _settings, _PREFERENCE, _wanted, SCHEMES, _lock_at)}


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
    return _state_at(config, None)


def _lock(config: CronConfig) -> LockBackend:
    from fastapi_crons.errors import ConfigurationError

    if config.enable_distributed_locking and config.lock_backend is None and not _wanted():
        # One that lost the variable, beside a server that happens to answer, would run every tick by itself.
        raise ConfigurationError(
            "CRON_ENABLE_DISTRIBUTED_LOCKING is on, and no variable says where the lock of all instances is: set "
            "CRON_POSTGRES_URL to their database, or CRON_LOCK_BACKEND=postgres to use that of its default"
        )
    return _lock_at(config, None)


def _state_at(config: CronConfig, url: str | None) -> StateBackend:
    from fastapi_crons_postgres.state import PostgresStateBackend

    return PostgresStateBackend.by_settings(_settings_at(url), config.store_timeout)


def _lock_at(config: CronConfig, url: str | None) -> LockBackend:
    from fastapi_crons_postgres.lock import PostgresLockBackend

    return PostgresLockBackend.by_settings(_settings_at(url), config.store_timeout)


def _settings_at(url: str | None) -> PostgresSettings:
    """The settings; for the database of a URL, where one is given."""
    from pydantic import SecretStr

    from fastapi_crons_postgres.settings import PostgresSettings

    return PostgresSettings() if url is None else PostgresSettings(url=SecretStr(url))
