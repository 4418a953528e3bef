"""What a start says of those who may use the management API."""

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
from fastapi_crons.api.access import Access
from fastapi_crons.api.owners import listens_beyond_loopback
from fastapi_crons.config import CronConfig
from fastapi_crons.scheduler.serving import in_tests

logger = logging.getLogger(__name__)

#: When (seconds after the start of a scheduler) its server has opened its sockets.
_LISTENS_AFTER = 2.0


class Notices:
    """Says of one router, once, who may use it, where `dependencies` are the app's own guards."""

    def __init__(self, dependencies: Sequence[Depends]) -> None:
        # Made to be looked at only: FastAPI finds out what each depends on.
        self._guards = APIRoute("/", _nothing, dependencies=dependencies).dependant.dependencies
        self._told = self._told_unguarded = False

    def tell_unguarded(self, config: CronConfig) -> None:
        """Warn of an API that nothing guards."""
        if not self._told_unguarded and Access(config, guarded=bool(self._guards)).unguarded:
            self._told_unguarded = True
            logger.warning(
                "No CRON_API_TOKEN is set: anyone can list jobs; only you, on this machine, can change them or see results"
            )

    def tell_unguarded_beyond_loopback(self, config: CronConfig) -> None:
        """The same, a moment after a start, where this process listens to more than this machine."""

        def look() -> None:
            if listens_beyond_loopback():
                self.tell_unguarded(config)

        if not in_tests():
            asyncio.get_running_loop().call_later(_LISTENS_AFTER, look)

    def tell(self, config: CronConfig) -> None:
        """Say what guards it."""
        if self._told:
            return
        self._told = True
        advice = config.token_advice()
        if advice is not None:
            logger.warning("%s", advice)
        if self._guards:
            self._tell_of_guards()

    def _tell_of_guards(self) -> None:
        every = [part for guard in self._guards for part in _parts(guard)]
        names = ", ".join(_name(guard) for guard in self._guards)
        if not any(_may_refuse(part) for part in every):
            logger.warning(
                "the management API is guarded by dependencies (%s) of which none can refuse a request: everybody may change "
                "things; set CRON_API_TOKEN, or give it a dependency that raises an HTTPException",
                names,
            )
        elif all(_only_reads(part) for part in every if _may_refuse(part)):
            logger.warning(
                "the management API is guarded by %s, which wants credentials and does not look whether they are right: "
                "everybody who sends some may change things; give it a dependency that checks them, or set CRON_API_TOKEN",
                names,
            )
        elif any(isinstance(part.call, SecurityBase) for part in every):
            logger.info("the management API is guarded by %s", names)
        else:
            logger.info(
                "the management API is guarded by %s; it is no security scheme of FastAPI, so that only you can tell whom it "
                "refuses",
                names,
            )


def _nothing() -> None:
    """Stands for an endpoint."""


def _parts(dependant: Dependant) -> Iterator[Dependant]:
    """A dependency and all that it depends on."""
    yield dependant
    for part in dependant.dependencies:
        yield from _parts(part)


def _name(dependant: Dependant) -> str:
    call = dependant.call
    if isinstance(call, SecurityBase):
        return type(call).__name__
    return "?" if call is None else label(call)


def _may_refuse(dependant: Dependant) -> bool:
    """False for what refuses nobody for certain."""
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
    # What is wanted of a request can be missing.
    return any(wanted) or _does_anything(call)


def _only_reads(dependant: Dependant) -> bool:
    """Whether it is one of FastAPI's own security schemes, which find credentials and leave it to others to check them."""
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
