"""Notices: logs who may use the management API."""

from __future__ import annotations

import asyncio
import dis
import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from inspect import isclass, isfunction, ismethod

from fastapi.dependencies.models import Dependant
from fastapi.params import Depends
from fastapi.routing import APIRoute
from fastapi.security.base import SecurityBase

from fastapi_crons._util.callables import label
from fastapi_crons.api.access import is_unguarded
from fastapi_crons.api.owners import listens_beyond_loopback
from fastapi_crons.config import CronConfig
from fastapi_crons.scheduler.serving import in_tests

logger = logging.getLogger(__name__)

#: Seconds after the start of a scheduler until its server has opened its sockets.
_LISTENS_AFTER = 2.0


class Notices:
    """Each is logged once per router. `dependencies` are the app's own guards of the router."""

    def __init__(self, dependencies: Sequence[Depends]) -> None:
        # This route is never served: FastAPI resolves the dependencies of the guards for it.
        self._guards = APIRoute("/", _nothing, dependencies=dependencies).dependant.dependencies
        self._logged = self._warned_of_unguarded = False

    def warn_of_unguarded(self, config: CronConfig) -> None:
        """Warn where nothing guards the API."""
        if not self._warned_of_unguarded and is_unguarded(config, guarded=bool(self._guards)):
            self._warned_of_unguarded = True
            logger.warning(
                "No CRON_API_TOKEN is set: anyone can list jobs; only you, on this machine, can change them or see results"
            )

    def warn_of_unguarded_beyond_loopback(self, config: CronConfig) -> None:
        """The same, shortly after a start, where other machines can reach this process."""

        def look() -> None:
            if listens_beyond_loopback():
                self.warn_of_unguarded(config)

        if not in_tests():
            asyncio.get_running_loop().call_later(_LISTENS_AFTER, look)

    def log_guards(self, config: CronConfig) -> None:
        """Log what guards the API."""
        if self._logged:
            return
        self._logged = True
        advice = config.token_advice()
        if advice is not None:
            logger.warning("%s", advice)
        if self._guards:
            self._log_dependencies()

    def _log_dependencies(self) -> None:
        every = [part for guard in self._guards for part in parts_of(guard)]
        names = ", ".join(_name(guard) for guard in self._guards)
        if not any(_may_refuse(part) for part in every):
            logger.warning(
                "the management API is guarded by %s, but none of these dependencies can refuse a request, so anyone may "
                "change things; set CRON_API_TOKEN, or add a dependency that raises an HTTPException",
                names,
            )
        elif all(_only_reads(part) for part in every if _may_refuse(part)):
            logger.warning(
                "the management API is guarded by %s, which requires credentials but does not check them, so anyone who sends "
                "some may change things; add a dependency that checks them, or set CRON_API_TOKEN",
                names,
            )
        elif any(isinstance(part.call, SecurityBase) for part in every):
            logger.info("the management API is guarded by %s", names)
        else:
            logger.info(
                "the management API is guarded by %s; that is not a security scheme of FastAPI, so check yourself which "
                "requests it refuses",
                names,
            )


def _nothing() -> None:
    """Stands for an endpoint."""


def parts_of(dependant: Dependant) -> Iterator[Dependant]:
    """A dependency and all that it depends on."""
    yield dependant
    for part in dependant.dependencies:
        yield from parts_of(part)


def _name(dependant: Dependant) -> str:
    call = dependant.call
    if isinstance(call, SecurityBase):
        return type(call).__name__
    return "?" if call is None else label(call)


def _may_refuse(dependant: Dependant) -> bool:
    """False for a dependency that certainly refuses no request."""
    call = dependant.call
    if isinstance(call, SecurityBase):
        return bool(getattr(call, "auto_error", True))
    wanted: Sequence[Sequence[object]] = (
        dependant.path_params,
        dependant.query_params,
        dependant.header_params,
        dependant.cookie_params,
        dependant.body_params,
    )
    # A request is refused where it lacks a parameter.
    return any(wanted) or _does_anything(call)


def _only_reads(dependant: Dependant) -> bool:
    """Whether it is one of FastAPI's own security schemes, which read credentials and don't check them."""
    return isinstance(dependant.call, SecurityBase) and type(dependant.call).__module__.startswith("fastapi.")


def _does_anything(call: object) -> bool:
    while isinstance(call, partial):
        call = call.func
    if not (isfunction(call) or ismethod(call) or isclass(call)):
        call = type(call).__call__ if callable(call) else None
    function = call.__func__ if ismethod(call) else call
    return not isfunction(function) or _does_something(function)


def _does_something(function: Callable[..., object]) -> bool:
    """Whether it calls or raises anything."""
    return any(step.opname.startswith(("CALL", "RAISE", "LOAD_ASSERTION")) for step in dis.get_instructions(function))
