"""GuardedRouters: makes routers whose routes stand behind one guard."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from fastapi import APIRouter, Depends
from fastapi.params import Depends as DependsParameter
from fastapi.security import HTTPBearer

from fastapi_crons.api.access_notices import Notices
from fastapi_crons.api.doors.changes import ChangeGuards, Shown
from fastapi_crons.api.doors.entry import OF_PLUGINS, Entry
from fastapi_crons.api.guard import Guard
from fastapi_crons.api.plugin_routes import PluginRoutes
from fastapi_crons.api.problems import ManagementRoute, problems
from fastapi_crons.errors import ConfigurationError
from fastapi_crons.scheduler.crons import Crons

Dependencies = Sequence[DependsParameter] | None


def get_guarded_router(
    add: Callable[[APIRouter], object],
    crons: Crons | None = None,
    *,
    dependencies: Dependencies = None,
    change_dependencies: Dependencies = None,
) -> APIRouter:
    """A router with the guards of `get_cron_router`, and without our endpoints: for pages that are mounted elsewhere.

    `add` puts the routes into the router that it is given, as the hook `routes` does; the other parameters are those of
    `get_cron_router`, and do the same. Its login page and its sessions are its own.

    Raises `ConfigurationError` as `get_cron_router` does, and for a kind of route that can't be guarded.
    """
    guarded = GuardedRouters(crons, dependencies, change_dependencies)
    offered, router = guarded.make(), guarded.make()
    add(offered)
    guarded.add(offered, router, _refuse)
    return router


def _refuse(what: str) -> None:
    raise ConfigurationError(f"{what} can't be guarded; add routes of FastAPI and Starlette, or mount an app")


class GuardedRouters:
    """The routers of one guard, as `get_cron_router` is told to make it.

    Raises `ConfigurationError` where `crons` is not a `Crons`, or a dependency for changes reads a body.
    """

    def __init__(self, crons: Crons | None, dependencies: Dependencies, change_dependencies: Dependencies) -> None:
        if not isinstance(crons, (Crons, type(None))):
            raise ConfigurationError(
                f"crons must be a Crons, not {crons!r}; a prefix is given to include_router(…, prefix=…)"
            )
        guards = dependencies or ()
        notices = Notices(guards)
        # Where there is no scheduler yet, its settings are unknown until the first request.
        known = crons or Crons.current()
        if known is not None:
            known.when_started(partial(notices.warn_of_unguarded_beyond_loopback, known.config))
            known.when_started(partial(notices.log_guards, known.config))
        self.changes = ChangeGuards(guards, change_dependencies or ())
        guard = Guard(crons, guarded=bool(guards), notices=notices, changes=self.changes)
        self._admission = Depends(guard)
        scheme = [Depends(Shown(HTTPBearer()))] if known is not None and known.config.api_token else []
        self._dependencies = [*guards, *scheme, self._admission]
        self._guard = guard

    def make(self, guarded: bool = True, entry: Entry = OF_PLUGINS) -> APIRouter:
        """An empty router. Where not `guarded`, its routes need a guarded router around them."""
        return APIRouter(
            tags=["crons"],
            dependencies=self._dependencies if guarded else [],
            route_class=type("GuardedRoute", (ManagementRoute,), {"guard": self._guard, "entry": entry}),
            responses=problems(400, 401, 403, 404, 413, 422, 429, 503),
        )

    def add(self, offered: APIRouter, router: APIRouter, refuse: Callable[[str], None]) -> None:
        """Add what a plugin has put into a router of `make` to another; `refuse` is called with what can't be guarded."""
        router.routes.extend(PluginRoutes(self._admission, self.make, refuse).of(offered))
        # Include the lifespan, too.
        router.include_router(APIRouter(lifespan=offered.lifespan_context))
