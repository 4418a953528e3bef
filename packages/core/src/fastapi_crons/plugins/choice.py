"""Which stores a scheduler uses, of those that plugins offer."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from fastapi_crons._elsewhere import KNOWN_BACKENDS, distribution_of, is_installed, not_installed
from fastapi_crons._util.hiding import without_secrets
from fastapi_crons._util.text import one_line
from fastapi_crons.errors import ConfigurationError, CronsError, MissingDistributionError
from fastapi_crons.plugins.backends import BackendSpec, BackendT_co, LockBackendSpec

if TYPE_CHECKING:
    from fastapi_crons.config import CronConfig
    from fastapi_crons.locking.base import LockBackend, Reach
    from fastapi_crons.locking.manager import DistributedLockManager
    from fastapi_crons.plugins.registry import Plugins
    from fastapi_crons.state.base import StateBackend

logger = logging.getLogger(__name__)

#: Variables by which a platform says that it runs an app on several hosts.
_PLATFORMS = {
    "KUBERNETES_SERVICE_HOST": "Kubernetes",
    "ECS_CONTAINER_METADATA_URI_V4": "Amazon ECS",
    "ECS_CONTAINER_METADATA_URI": "Amazon ECS",
    "FLY_APP_NAME": "Fly.io",
    "K_SERVICE": "Cloud Run",
    "DYNO": "Heroku",
}


#: How to get a lock that several hosts share.
_FOR_FLEETS = (
    "pip install fastapi-crons-redis-lock, and set CRON_REDIS_URL; or fastapi-crons-postgres, and CRON_POSTGRES_URL"
)


def choose_backends(
    config: CronConfig, plugins: Plugins, state: StateBackend | None, locks: DistributedLockManager | None
) -> tuple[StateBackend, DistributedLockManager]:
    """The stores to use: those given, else those named in the settings, else the preferred ones that are installed."""
    from fastapi_crons.locking.manager import DistributedLockManager

    chosen = state is None
    if state is None:
        name = config.state_backend or _alike(plugins.state_backends, config.lock_backend)
        state = _chosen(plugins.state_backends, name, "CRON_STATE_BACKEND").make(config)
    missing: MissingDistributionError | None = None
    if locks is None:
        lock, missing = _lock_for(state, not chosen, config, plugins.lock_backends)
        locks = DistributedLockManager(lock, config)
    lock = locks.backend
    if config.enable_distributed_locking and lock.reach != "fleet":
        platform = _platform()
        raise ConfigurationError(
            f"CRON_ENABLE_DISTRIBUTED_LOCKING is on, and {type(lock).__name__} reaches no further than one {lock.reach}"
            f"{f', while this is {platform}' if platform else ''}; {_missing_for_fleets(plugins) or _FOR_FLEETS}"
        )
    if not state.durable and chosen and config.state_backend is None:
        logger.warning("run history is kept in memory and lost at exit; pip install fastapi-crons to keep it in a file")
    _warn_of_difference(state, lock, missing)
    return state, locks


def _missing_for_fleets(plugins: Plugins) -> str | None:
    """What is not installed, although its variable names a place for it."""
    for name, distribution in (("postgres", "fastapi-crons-postgres"), ("redis", "fastapi-crons-redis-lock")):
        variable = f"CRON_{name.upper()}_URL"
        if name not in plugins.lock_backends and os.environ.get(variable):
            return f"{variable} is set, but what reads it is not installed: pip install {distribution}"
    return None


def reach_warning(reach: Reach) -> str | None:
    """What to say where the app seems to run on several hosts, and a lock with this reach can't be shared by them."""
    platform = _platform()
    if reach == "fleet" or platform is None:
        return None
    return (
        f"the lock is shared by one {reach} only, and this is {platform}, where an app may run on several hosts: each would "
        f"run every tick ({_FOR_FLEETS})"
    )


def _platform() -> str | None:
    """The platform that probably runs this app on several hosts, or None."""
    return next((name for variable, name in _PLATFORMS.items() if os.environ.get(variable)), None)


def _warn_of_difference(state: StateBackend, lock: LockBackend, missing: MissingDistributionError | None) -> None:
    """Log where history and ticks are shared by different sets of processes; `missing` says how to get the fitting lock."""
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


def _lock_for(
    state: StateBackend, given: bool, config: CronConfig, specs: Mapping[str, LockBackendSpec]
) -> tuple[LockBackend, MissingDistributionError | None]:
    """The lock to use with a state store, and why it is not the store's own, where that one is not available.

    The first that there is: the one that the settings name; the own lock of a store given in code, if it reaches a fleet; one
    for a fleet, if the settings demand it; one that the environment points to; the store's own lock.
    """
    name = config.lock_backend or (None if given else _alike(specs, config.state_backend))
    if name is not None:
        return _chosen(specs, name, "CRON_LOCK_BACKEND").make(config), None
    wanted = any(spec.is_wanted for spec in specs.values())
    companion, missing = None, None
    if given or not wanted:
        companion, missing = _companion_of(state, specs)
    if companion is not None and companion.reach == "fleet":
        return companion, None
    if config.enable_distributed_locking:
        for_fleets = [spec for spec in specs.values() if spec.load_class().reach == "fleet"]
        if for_fleets:
            return _preferred(for_fleets, "CRON_LOCK_BACKEND").make(config), None
    if companion is not None and not wanted:
        return companion, None
    return _chosen(specs, None, "CRON_LOCK_BACKEND").make(config), missing


def _companion_of(
    state: StateBackend, specs: Mapping[str, LockBackendSpec]
) -> tuple[LockBackend | None, MissingDistributionError | None]:
    """The lock that lives where a state store does, or what to install or enable for it; None twice where there is none."""
    try:
        lock = state.companion_lock()
    except MissingDistributionError as error:
        return None, error
    except CronsError:
        raise
    except Exception as error:
        raise ConfigurationError(f"the lock of {type(state).__name__} can't be made: {one_line(error)}") from error
    unusable = None if lock is None else _without_plugin(type(lock), type(state), specs)
    return (lock, None) if unusable is None else (None, unusable)


def _without_plugin(
    lock: type[LockBackend], state: type[StateBackend], specs: Mapping[str, LockBackendSpec]
) -> MissingDistributionError | None:
    """What to do about a lock of another distribution than the state store's, whose plugin is disabled or not installed."""
    distribution = distribution_of(lock)
    path = f"{lock.__module__}:{lock.__name__}"
    if distribution is None or distribution == distribution_of(state):
        return None
    if any(spec.class_path == path for spec in specs.values()):
        return None
    if is_installed(distribution):
        why = f"{distribution}, whose plugin is disabled: take it out of CRON_DISABLED_PLUGINS"
    else:
        why = not_installed(distribution)
    return MissingDistributionError(f"{lock.__name__} is part of {why}")


def _preferred(specs: Sequence[BackendSpec[BackendT_co]], variable: str) -> BackendSpec[BackendT_co]:
    """The one that the environment points to; else the one that is preferred.

    Raises `ConfigurationError` where the environment points to several.
    """
    wanted = {spec.class_path: spec for spec in specs if spec.is_wanted}
    if len(wanted) > 1:
        asked = sorted(f"{spec.class_name}{_by(spec)}" for spec in wanted.values())
        raise ConfigurationError(
            f"the environment asks for {' and '.join(asked)}; unset what is not used, or name one store by {variable}"
        )
    return max(specs, key=lambda spec: (spec.is_wanted, spec.preference))


def _alike(specs: Mapping[str, BackendSpec[BackendT_co]], other: str | None) -> str | None:
    """The name that the settings give the other kind of store, where the environment points to several, and to this one."""
    if other is None:
        return None
    wanted = [name for name, spec in specs.items() if spec.is_wanted]
    return other if len(wanted) > 1 and other in wanted else None


def _by(spec: BackendSpec[BackendT_co]) -> str:
    """By which settings a store is asked for."""
    prefix = "" if spec.settings is None else spec.settings().model_config.get("env_prefix")
    return f" ({prefix}URL)" if prefix else ""


def _chosen(specs: Mapping[str, BackendSpec[BackendT_co]], name: str | None, variable: str) -> BackendSpec[BackendT_co]:
    """The backend of this name; with None, the one that the environment points to, or the preferred one.

    Raises `ConfigurationError`, which names the variable and the backends that there are.
    """
    if name is None:
        offered = [spec for spec in specs.values() if spec.preference >= 0 or spec.is_wanted]
        if not offered:
            raise ConfigurationError(
                f"no store can be chosen; set {variable} to one of {', '.join(sorted(specs)) or 'those of a plugin'}"
            )
        return _preferred(offered, variable)
    spec = specs.get(name)
    if spec is None:
        missing = KNOWN_BACKENDS.get(name)
        hint = f"pip install {missing}" if missing else "install the plugin that brings it"
        raise ConfigurationError(
            f"{variable}={without_secrets(name)!r}: no installed plugin brings this backend ({hint}); "
            f"there are {', '.join(sorted(specs))}"
        )
    return spec
