"""Backends: how plugins offer stores, and which ones a scheduler uses."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Generic, TypeVar

from fastapi_crons.errors import ConfigurationError

if TYPE_CHECKING:
    from pydantic_settings import BaseSettings

    from fastapi_crons.config import CronConfig
    from fastapi_crons.locking.base import LockBackend  # noqa: F401 - named in LockBackendSpec
    from fastapi_crons.locking.manager import DistributedLockManager
    from fastapi_crons.plugins import Plugins
    from fastapi_crons.state.base import StateBackend

logger = logging.getLogger(__name__)

BackendT_co = TypeVar("BackendT_co", covariant=True)


@dataclass(frozen=True)
class BackendSpec(Generic[BackendT_co]):
    """How a backend is found and made. Making one of these must import nothing heavy."""

    class_path: str
    """`module:Class`. The class can be imported by its name from `fastapi_crons.state` or `fastapi_crons.locking`."""
    create: Callable[[CronConfig], BackendT_co]
    """Makes a backend from the environment's settings; raises `ConfigurationError` where it can't."""
    settings: Callable[[], type[BaseSettings]] | None = None
    """Gives the class of the backend's own settings."""
    preference: int = -1
    """With no backend named in the settings, the one with the highest preference is used; below 0: only when named."""

    @property
    def class_name(self) -> str:
        return self.class_path.rpartition(":")[2]

    def load_class(self) -> type[BackendT_co]:
        module, _, name = self.class_path.partition(":")
        loaded: type[BackendT_co] = getattr(import_module(module), name)
        return loaded


StateBackendSpec = BackendSpec["StateBackend"]
LockBackendSpec = BackendSpec["LockBackend"]


def find_class(specs: Mapping[str, BackendSpec[BackendT_co]], class_name: str) -> type[BackendT_co] | None:
    """The class of this name among what plugins have registered, or None."""
    spec = next((spec for spec in specs.values() if spec.class_name == class_name), None)
    return None if spec is None else spec.load_class()


def choose_backends(
    config: CronConfig, plugins: Plugins, state: StateBackend | None, locks: DistributedLockManager | None
) -> tuple[StateBackend, DistributedLockManager]:
    """The stores to use: those given, else those named in the settings, else the preferred ones that are installed."""
    from fastapi_crons.locking.manager import DistributedLockManager

    if state is None:
        state = _chosen(plugins.state_backends, config.state_backend, "CRON_STATE_BACKEND").create(config)
    if locks is None:
        lock = None if config.lock_backend is not None else state.companion_lock()
        if lock is None:
            lock = _chosen(plugins.lock_backends, config.lock_backend, "CRON_LOCK_BACKEND").create(config)
        locks = DistributedLockManager(lock, config)
    if config.enable_distributed_locking and locks.backend.reach != "fleet":
        raise ConfigurationError(
            f"CRON_ENABLE_DISTRIBUTED_LOCKING is on, but {type(locks.backend).__name__} reaches no further than one "
            f"{locks.backend.reach}; install and name a lock for a fleet (pip install fastapi-crons-redis-lock)"
        )
    if not state.durable:
        logger.warning("the history is kept in memory: nothing of it outlives this process (pip install fastapi-crons)")
    return state, locks


def _chosen(specs: Mapping[str, BackendSpec[BackendT_co]], name: str | None, variable: str) -> BackendSpec[BackendT_co]:
    """The backend of this name, or with None the preferred one.

    Raises `ConfigurationError`, naming the variable and what there is instead.
    """
    if name is None:
        offered = [spec for spec in specs.values() if spec.preference >= 0]
        if not offered:
            raise ConfigurationError(
                f"no store is left to choose; set {variable} to one of {', '.join(sorted(specs)) or 'those of a plugin'}"
            )
        return max(offered, key=lambda spec: spec.preference)
    spec = specs.get(name)
    if spec is None:
        raise ConfigurationError(
            f"{variable}={name!r}: no installed plugin brings this backend; there are {', '.join(sorted(specs))}"
        )
    return spec
