"""Places: two stores that are named on the command line, made as their plugins say."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, NamedTuple, TypeVar

if TYPE_CHECKING:
    from fastapi_crons.config import CronConfig
    from fastapi_crons.locking import LockBackend
    from fastapi_crons.plugins import Plugins
    from fastapi_crons.plugins.backends import BackendSpec
    from fastapi_crons.state import StateBackend

T = TypeVar("T")


class Place(NamedTuple):
    """The two stores in one place."""

    name: str
    """The place as it was given, without secrets."""
    state: StateBackend
    lock: LockBackend


def place_of(given: str, plugins: Plugins, config: CronConfig) -> Place:
    """The stores at a place, unopened: `sqlite:crons.db`, a URL, or the name of a backend, whose settings say where it is.

    Or the path of a file that is there, which counts as one of SQLite.
    """
    from fastapi_crons._util.hiding import know_address, without_secrets
    from fastapi_crons.errors import ConfigurationError

    know_address(given)
    if given not in plugins.state_backends and os.path.isfile(given):
        given = f"sqlite:{given}"
    specs = _spec(plugins.state_backends, given, "state"), _spec(plugins.lock_backends, given, "lock")
    at = given if ":" in given else None
    try:
        state, lock = specs[0].make(config, at), specs[1].make(config, at)
    except ConfigurationError as error:
        # It names the setting that the place stands for.
        raise ConfigurationError(f"{without_secrets(given)!r}: {error}") from None
    return Place(without_secrets(given), state, lock)


def _spec(specs: Mapping[str, BackendSpec[T]], given: str, kind: str) -> BackendSpec[T]:
    from fastapi_crons._util.hiding import without_secrets
    from fastapi_crons.errors import ConfigurationError

    scheme, colon, _ = given.partition(":")
    if not colon and given in specs:
        return specs[given]
    found = next((spec for spec in specs.values() if colon and spec.at and scheme.lower() in spec.schemes), None)
    if found is None:
        schemes = sorted({each for spec in specs.values() for each in spec.schemes})
        raise ConfigurationError(
            f"{without_secrets(given)!r} is no file that is there, and no installed plugin brings a {kind} store at such a "
            "place; write sqlite:crons.db, redis://host or postgresql://host/database "
            f"(installed are: {', '.join(schemes) or 'none'}), or the name of a backend whose settings say where it is "
            f"({', '.join(sorted(specs))})"
        )
    return found


@asynccontextmanager
async def opened(place: Place, config: CronConfig, *, to_read: bool) -> AsyncIterator[Place]:
    """Have the stores of a place open. No instance is announced in them."""
    from fastapi_crons.clock import SystemClock
    from fastapi_crons.engine.stores import limits_of
    from fastapi_crons.locking import LeaseTerms
    from fastapi_crons.locking.instance import Instance

    instance = Instance.of_this_process()
    terms = LeaseTerms(config.lock_timeout, config.instance_timeout)
    connect = place.lock.open_to_read if to_read else place.lock.open
    connect_state = place.state.open_to_read if to_read else place.state.open
    async with AsyncExitStack() as stack:
        stack.push_async_callback(place.lock.close)
        await connect(instance, config.namespace, terms, SystemClock())
        stack.push_async_callback(place.state.close)
        await connect_state(config.namespace, limits_of(config))
        yield place
