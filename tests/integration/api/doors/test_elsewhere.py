"""Guarded routers that a plugin mounts elsewhere."""

from __future__ import annotations

from typing import Annotated

import pytest
from fastapi import APIRouter, Depends, FastAPI, HTTPException
from fastapi.testclient import TestClient
from starlette.routing import Host

from fastapi_crons import ConfigurationError, CronConfig, Crons, get_cron_router
from fastapi_crons.api import Asked, asked, get_guarded_router
from fastapi_crons.state import MemoryStateBackend
from tests.conftest import MakeCrons
from tests.integration.api.client import STRANGER
from tests.integration.api.doors.site import PAGE, TOKEN, Site, sign_in
from tests.support import nothing


async def names(asked: Annotated[Asked, Depends(asked)]) -> list[str]:
    return [view.job.name for view in await asked.management.jobs()]


def add(router: APIRouter) -> None:
    router.get("/names")(names)
    router.post("/change")(lambda: "changed")


async def test_it_asks_the_scheduler_of_its_app_or_the_one_it_is_given(make_crons: MakeCrons) -> None:
    app = FastAPI()
    own = Crons(app, state_backend=MemoryStateBackend())
    other = make_crons()
    own.cron("0 0 1 1 *", name="own")(nothing)
    other.cron("0 0 1 1 *", name="other")(nothing)
    app.include_router(get_guarded_router(add), prefix="/own")
    app.include_router(get_guarded_router(add, other), prefix="/other")
    async with own, other:
        client = TestClient(app)
        assert client.get("/own/names").json() == ["own"]
        assert client.get("/other/names").json() == ["other"]


async def test_a_router_that_is_made_before_its_scheduler_finds_it(make_crons: MakeCrons) -> None:
    app = FastAPI()
    app.include_router(get_guarded_router(add))
    crons = Crons(app, state_backend=MemoryStateBackend(), config=CronConfig(api_token=TOKEN))
    crons.cron("0 0 1 1 *", name="job")(nothing)
    async with crons:
        client = TestClient(app)
        assert client.get("/names").status_code == 401
        assert client.get("/names", headers={"authorization": f"Bearer {TOKEN}"}).json() == ["job"]


def test_a_scheduler_that_no_app_runs_does_not_answer() -> None:
    app = FastAPI()
    crons = Crons(state_backend=MemoryStateBackend())
    crons.cron("0 0 1 1 *", name="job")(nothing)
    app.include_router(get_guarded_router(add))
    with TestClient(app) as client:
        assert client.get("/names").status_code == 503


def test_it_has_the_guards_of_the_management_api() -> None:
    def refused() -> None:
        raise HTTPException(403, "only operators change things")

    app = FastAPI()
    Crons(app, state_backend=MemoryStateBackend())
    app.include_router(get_guarded_router(add))
    app.include_router(get_guarded_router(add, change_dependencies=[Depends(refused)]), prefix="/read")
    app.include_router(get_guarded_router(add, dependencies=[Depends(refused)]), prefix="/none")
    with TestClient(app) as client:
        assert client.post("/change").status_code == 200
        assert client.post("/change", headers=STRANGER).status_code == 403
        assert (client.get("/read/names").status_code, client.post("/read/change").status_code) == (200, 403)
        assert client.get("/none/names").status_code == 403


def test_its_sessions_are_its_own() -> None:
    app = FastAPI()
    Crons(app, state_backend=MemoryStateBackend(), config=CronConfig(api_token=TOKEN))
    app.include_router(get_cron_router(), prefix="/api")
    app.include_router(get_guarded_router(lambda router: Site().routes(router)), prefix="/ops")
    with TestClient(app, base_url="https://jobs.example.com", follow_redirects=False) as client:
        sent = client.get("/ops/site/page/x", headers=PAGE)
        assert sent.headers["location"].startswith("/ops/site/login?")
        assert "Path=/ops;" in sign_in(client, path="/ops/site/login").headers["set-cookie"]
        assert client.get("/ops/site/page/x").status_code == 200
        assert client.get("/api/crons").status_code == 401


def test_what_can_not_be_guarded_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="a route of the kind Host can't be guarded"):
        get_guarded_router(lambda router: router.routes.append(Host("x", app=FastAPI())))
    with pytest.raises(ConfigurationError, match="crons must be a Crons"):
        get_guarded_router(add, "/ops")  # type: ignore[arg-type]
