"""A scheduler in virtual time and its management API."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
import pytest_asyncio
from fastapi import FastAPI
from fastapi.testclient import TestClient
from httpx2 import AsyncClient

from fastapi_crons import CronConfig, Crons, get_cron_router
from fastapi_crons.state import SQLiteStateBackend
from fastapi_crons.testing import VirtualClock
from tests.conftest import MakeCrons
from tests.integration.api.client import client_of
from tests.integration.api.raw import Api, secretive
from tests.integration.api.sockets import Serve, Served
from tests.support import nothing


@pytest.fixture(autouse=True)
def _without_pages(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test makes the endpoints anew; half of them would be the dashboard's. How these are guarded is tried in `doors`."""
    if "doors" not in request.path.parts:
        monkeypatch.setenv("CRON_DISABLED_PLUGINS", "dashboard")


@pytest.fixture
def crons(make_crons: MakeCrons) -> Crons:
    """On a SQLite file, in virtual time, with a job that is due each minute."""
    crons = make_crons(state_backend=SQLiteStateBackend("jobs.db"), instance_id="worker-001")
    crons.cron("* * * * *", name="minutely", tags=["often"])(nothing)
    return crons


@pytest_asyncio.fixture
async def api(crons: Crons) -> AsyncIterator[AsyncClient]:
    async with client_of(crons) as client:
        yield client


@pytest.fixture
def two_instances() -> Iterator[list[TestClient]]:
    """Two apps with the same jobs on one SQLite file."""
    clients = []
    for number in (1, 2):
        app = FastAPI()
        config = CronConfig(instance_id=f"worker-00{number}", heartbeat_interval=0.1, instance_timeout=30)
        crons = Crons(app, state_backend=SQLiteStateBackend("jobs.db"), config=config)

        @crons.cron("0 0 1 1 *", name="endless")
        async def endless() -> None:
            await asyncio.Event().wait()

        app.include_router(get_cron_router(crons), prefix="/api")
        clients.append(TestClient(app))
    with clients[0], clients[1]:
        yield clients


@pytest_asyncio.fixture
async def make_api(make_crons: MakeCrons, clock: VirtualClock) -> AsyncIterator[Callable[..., Any]]:
    async def make(dependencies: Any = None, **options: Any) -> Api:
        crons = make_crons(**options)
        crons.cron("0 * * * *", name="job")(secretive)
        await crons.start()
        return Api(crons, dependencies=dependencies)

    yield make


@pytest_asyncio.fixture
async def serve(make_crons: MakeCrons) -> AsyncIterator[Serve]:
    """Serves a scheduler with one job."""
    served: list[Served] = []

    async def serve(listener: socket.socket | None = None, **options: Any) -> Served:
        crons = make_crons(**options)

        @crons.cron("0 0 1 1 *", name="job")
        async def job() -> str:
            return "a secret result"

        await crons.start()
        served.append(Served(crons, listener or socket.create_server(("127.0.0.1", 0))))
        for _ in range(1_000):
            if served[-1].server.started:
                break
            await asyncio.sleep(0.01)
        return served[-1]

    yield serve
    for one in served:
        await one.stop()
