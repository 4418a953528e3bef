"""Backends: how plugins offer stores, and which ones a scheduler uses."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Generic, TypeVar

from fastapi_crons._imports import KNOWN_BACKENDS
from fastapi_crons._util.hiding import as_cause, without_secrets
from fastapi_crons._util.text import one_line
from fastapi_crons.errors import ConfigurationError, CronsError, MissingDistributionError, PluginError
from fastapi_crons.locking.host import platform_of_many_hosts

if TYPE_CHECKING:
    from pydantic_settings import BaseSettings

    from fastapi_crons.config import CronConfig
    from fastapi_crons.locking.base import LockBackend
    from fastapi_crons.locking.manager import DistributedLockManager
    from fastapi_crons.plugins.registry import Plugins
    from fastapi_crons.state.base import StateBackend

logger = logging.getLogger(__name__)

BackendT_co = TypeVar("BackendT_co", covariant=True)


@dataclass(frozen=True)
class BackendSpec(Generic[BackendT_co]):
    """How a backend is found and made. Making one of these must import nothing heavy."""

    class_path: str
    """`module:Class`. The class can be imported by its name from `fastapi_crons.state` or `fastapi_crons.locking`."""
    create: Callable[[CronConfig], BackendT_co]
    """Makes a backend from the environment's settings, unopened."""
    settings: Callable[[], type[BaseSettings]] | None = None
    """Gives the class of the backend's own settings."""
    preference: int = -1
    """With no backend named in the settings, the one with the highest preference is used; below 0: only when named."""
    wanted: Callable[[], bool] | None = None
    """Says whether the environment tells where this store is: then it goes before those that are only installed."""
    _unusable: Callable[[str], PluginError] = field(init=False, repr=False, compare=False, default=PluginError)

    def brought_by(self, unusable: Callable[[str], PluginError]) -> BackendSpec[BackendT_co]:
        """The same of a plugin, which `unusable` names in what it makes of a fault."""
        spec = copy(self)
        object.__setattr__(spec, "_unusable", unusable)
        return spec

    @property
    def class_name(self) -> str:
        return self.class_path.rpartition(":")[2]

    @property
    def is_wanted(self) -> bool:
        """Whether the environment asks for this backend without naming it."""
        if self.wanted is None:
            return False
        with self._naming_it(f"failed to say whether {self.class_name} is wanted", self._unusable):
            return self.wanted()

    def make(self, config: CronConfig) -> BackendT_co:
        """A new backend; raises `ConfigurationError` where it can't be made, without the values of its settings."""
        from fastapi_crons.locking.base import LockBackend
        from fastapi_crons.state.base import StateBackend

        with self._naming_it(f"{self.class_name} can't be made", ConfigurationError):
            made = self.create(config)
        if not isinstance(made, (StateBackend, LockBackend)):
            raise self._unusable(f"makes an object of class {type(made).__name__} instead of {self.class_name}")
        return made

    def load_class(self) -> type[BackendT_co]:
        module, _, name = self.class_path.partition(":")
        with self._naming_it(f"brings {self.class_path!r}, which can't be imported", self._unusable):
            loaded: type[BackendT_co] = getattr(import_module(module), name)
            return loaded

    @contextmanager
    def _naming_it(self, what: str, unusable: Callable[[str], CronsError]) -> Iterator[None]:
        """Make of what the plugin's code raises an error that says so; what is said in our own words stays."""
        try:
            yield
        except (CronsError, KeyboardInterrupt):
            raise
        except BaseException as error:
            from pydantic import ValidationError
            from pydantic_settings import BaseSettings

            if not isinstance(error, ValidationError):
                raise unusable(f"{what}: {one_line(error)}") from as_cause(error)
            from fastapi_crons.plugins.settings import faults_of

            # What is secret among the values only the author knows.
            if self.settings is not None:
                raise ConfigurationError(faults_of(self.settings(), error)) from None
            raise ConfigurationError(f"{self.class_name}: {faults_of(BaseSettings, error)}") from None


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

    chosen = state is None
    if state is None:
        state = _chosen(plugins.state_backends, config.state_backend, "CRON_STATE_BACKEND").make(config)
    missing: MissingDistributionError | None = None
    if locks is None:
        lock, missing = _lock_beside(state, not chosen, config, plugins.lock_backends)
        locks = DistributedLockManager(lock, config)
    _check_reach(config, locks.backend)
    if not state.durable and chosen and config.state_backend is None:
        logger.warning("run history is kept in memory and lost at exit; pip install fastapi-crons to keep it in a file")
    _warn_of_difference(state, locks.backend, missing)
    return state, locks


def _check_reach(config: CronConfig, lock: LockBackend) -> None:
    """Raise `ConfigurationError` where the settings want a lock that reaches further."""
    if config.enable_distributed_locking and lock.reach != "fleet":
        raise ConfigurationError(
            f"CRON_ENABLE_DISTRIBUTED_LOCKING is on, but {type(lock).__name__} reaches no further than one {lock.reach}; "
            "install and name a lock for a fleet (pip install fastapi-crons-redis-lock)"
        )
    platform = platform_of_many_hosts()
    if config.require_shared_lock and lock.reach != "fleet":
        raise ConfigurationError(
            f"CRON_REQUIRE_SHARED_LOCK is on, and {type(lock).__name__} reaches no further than one {lock.reach}"
            f"{f', while this is {platform}' if platform else ''}; pip install fastapi-crons-redis-lock, and set CRON_REDIS_URL"
        )


def _warn_of_difference(state: StateBackend, lock: LockBackend, missing: MissingDistributionError | None) -> None:
    """One line where history and ticks are not shared by the same; `missing` is the lock that would have fitted."""
    from fastapi_crons.locking.base import REACHES

    if not state.durable:
        return
    if REACHES.index(state.reach) < REACHES.index(lock.reach):
        logger.warning(
            "ticks are shared by a %s (%s), history and events are not: they are kept per %s (%s)",
            lock.reach,
            type(lock).__name__,
            state.reach,
            type(state).__name__,
        )
    elif REACHES.index(state.reach) > REACHES.index(lock.reach):
        logger.warning(
            "history and events are shared by a %s (%s), ticks are not: each %s runs every tick (%s)%s",
            state.reach,
            type(state).__name__,
            lock.reach,
            type(lock).__name__,
            "" if missing is None else f"; {missing}",
        )


def _lock_beside(
    state: StateBackend, given: bool, config: CronConfig, specs: Mapping[str, LockBackendSpec]
) -> tuple[LockBackend, MissingDistributionError | None]:
    """The lock to use with a state store, and why not the store's own, where another distribution has that.

    It is the one named; else the own one of a store given in code, where that reaches a whole fleet; else one for a fleet,
    where that is asked for; else one that the environment tells of; else the store's own.
    """
    if config.lock_backend is not None:
        return _chosen(specs, config.lock_backend, "CRON_LOCK_BACKEND").make(config), None
    wanted = any(spec.is_wanted for spec in specs.values())
    companion, missing = None, None
    if given or not wanted:
        companion, missing = _companion_of(state)
    if companion is not None and companion.reach == "fleet":
        return companion, None
    if config.enable_distributed_locking:
        for_fleets = [spec for spec in specs.values() if spec.load_class().reach == "fleet"]
        if for_fleets:
            return max(for_fleets, key=lambda spec: (spec.is_wanted, spec.preference)).make(config), None
    if companion is not None and not wanted:
        return companion, None
    return _chosen(specs, None, "CRON_LOCK_BACKEND").make(config), missing


def _companion_of(state: StateBackend) -> tuple[LockBackend | None, MissingDistributionError | None]:
    """The lock that lives where a state store does, or what has to be installed for it; None twice where there is none."""
    try:
        return state.companion_lock(), None
    except MissingDistributionError as error:
        return None, error
    except CronsError:
        raise
    except Exception as error:
        raise ConfigurationError(f"the lock of {type(state).__name__} can't be made: {one_line(error)}") from error


def _chosen(specs: Mapping[str, BackendSpec[BackendT_co]], name: str | None, variable: str) -> BackendSpec[BackendT_co]:
    """The backend of this name, or with None the one that the environment asks for, or the preferred one.

    Raises `ConfigurationError`, naming the variable and what there is instead.
    """
    if name is None:
        offered = [spec for spec in specs.values() if spec.preference >= 0 or spec.is_wanted]
        if not offered:
            raise ConfigurationError(
                f"no store is left to choose; set {variable} to one of {', '.join(sorted(specs)) or 'those of a plugin'}"
            )
        return max(offered, key=lambda spec: (spec.is_wanted, spec.preference))
    spec = specs.get(name)
    if spec is None:
        missing = KNOWN_BACKENDS.get(name)
        hint = f"pip install {missing}" if missing else "install the plugin that brings it"
        raise ConfigurationError(
            f"{variable}={without_secrets(name)!r}: no installed plugin brings this backend ({hint}); "
            f"there are {', '.join(sorted(specs))}"
        )
    return spec
