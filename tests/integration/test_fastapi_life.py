"""A scheduler in the life of a FastAPI app."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI, Request
from fastapi.testclient import TestClient

from fastapi_crons import ConfigurationError, CronConfig, Crons, StoreUnusableError, get_cron_router, hookimpl
from fastapi_crons.state import MemoryStateBackend, SQLiteStateBackend


class LifeCycle:
    """Writes down when the scheduler starts and stops."""

    def __init__(self, events: list[str]) -> None:
        self.events = events

    @hookimpl
    def scheduler_started(self) -> None:
        self.events.append("scheduler started")

    @hookimpl
    def scheduler_stopped(self) -> None:
        self.events.append("scheduler stopped")


def test_it_starts_after_the_apps_own_startup_and_stops_before_its_shutdown() -> None:
    events: list[str] = []

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, str]]:
        events.append("pool opened")
        yield {"pool": "open"}
        events.append("pool closed")

    @asynccontextmanager
    async def later(app: FastAPI) -> AsyncIterator[dict[str, str]]:
        events.append("router opened")
        yield {"router": "open"}
        events.append("router closed")

    app = FastAPI(lifespan=lifespan)
    crons = Crons(app, state_backend=MemoryStateBackend())
    crons.plugins.register(LifeCycle(events))
    # A router with a lifespan of its own, included after the scheduler was attached.
    app.include_router(APIRouter(lifespan=later))

    @app.get("/state")
    async def state(request: Request) -> dict[str, Any]:
        return {"pool": request.state.pool, "router": request.state.router, "running": crons.running}

    with TestClient(app) as client:
        assert client.get("/state").json() == {"pool": "open", "router": "open", "running": True}
    assert events == [
        "pool opened",
        "router opened",
        "scheduler started",
        "scheduler stopped",
        "router closed",
        "pool closed",
    ]
    assert not crons.running


async def test_entering_the_lifespan_context_by_hand_starts_and_stops_it_too() -> None:
    app = FastAPI()
    crons = Crons(app, state_backend=MemoryStateBackend())
    async with app.router.lifespan_context(app):
        assert crons.running
    assert not crons.running


def test_several_apps_each_have_their_own() -> None:
    apps = [FastAPI(), FastAPI()]
    schedulers = [Crons(app, state_backend=MemoryStateBackend()) for app in apps]
    for number, crons in enumerate(schedulers):
        crons.cron("* * * * *", name=f"job of {number}")(lambda: None)
    with TestClient(apps[0]), TestClient(apps[1]):
        assert all(crons.running for crons in schedulers)
        assert [job.name for job in schedulers[1].get_jobs()] == ["job of 1"]
        instances = {crons.engine.instance.id for crons in schedulers if crons.engine is not None}
        assert len(instances) == 2


def test_a_bare_scheduler_made_before_the_app_becomes_the_apps() -> None:
    bare = Crons()
    bare.cron("* * * * *", name="early")(lambda: None)
    app = FastAPI()
    crons = Crons(app, state_backend=MemoryStateBackend())
    assert crons is bare
    with TestClient(app):
        assert crons.running
        assert Crons() is crons


def test_an_app_can_be_started_again() -> None:
    app = FastAPI()
    crons = Crons(app)
    for _ in range(2):
        with TestClient(app):
            assert crons.running
            assert crons.engine is not None
            assert isinstance(crons.engine.state, SQLiteStateBackend)
        assert not crons.running


def test_a_store_that_can_not_be_used_stops_the_apps_start() -> None:
    app = FastAPI()
    crons = Crons(app, state_backend=SQLiteStateBackend("nowhere/jobs.db"))
    with pytest.raises(StoreUnusableError, match="nowhere"), TestClient(app):
        pass
    assert not crons.running


async def test_the_first_tick_comes_without_delay() -> None:
    crons = Crons(state_backend=MemoryStateBackend())
    ran = asyncio.Event()

    @crons.cron("* * * * * *")
    async def job() -> None:
        ran.set()

    await crons.start()
    await asyncio.wait_for(ran.wait(), 1.5)
    await crons.stop()


async def test_a_forked_child_does_not_take_the_scheduler_for_its_own() -> None:
    crons = Crons(state_backend=MemoryStateBackend())
    await crons.start()
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, b"running" if crons.running else b"not running")
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(read, 100) == b"not running"
    os.close(read)
    os.close(write)
    assert crons.running
    await crons.stop()


def test_each_app_manages_its_own_scheduler() -> None:
    apps = [FastAPI(), FastAPI()]
    for number, app in enumerate(apps):
        crons = Crons(app, state_backend=MemoryStateBackend())
        crons.cron("0 0 1 1 *", name=f"job of {number}")(lambda: None)
        app.include_router(get_cron_router(), prefix="/api")
    with TestClient(apps[0]) as first, TestClient(apps[1]) as second:
        assert [job["name"] for job in first.get("/api/crons").json()] == ["job of 0"]
        assert [job["name"] for job in second.get("/api/crons").json()] == ["job of 1"]


def test_an_app_has_one_scheduler() -> None:
    app = FastAPI()
    crons = Crons(app, state_backend=MemoryStateBackend())
    Crons(FastAPI())
    assert Crons(app) is crons
    with pytest.raises(ConfigurationError, match="has a scheduler already"):
        Crons(app, config=CronConfig())


def test_a_mounted_app_is_told_that_it_gets_no_lifespan(caplog: pytest.LogCaptureFixture) -> None:
    inner, outer = FastAPI(), FastAPI()
    crons = Crons(inner, state_backend=MemoryStateBackend())

    @inner.get("/hello")
    async def hello() -> str:
        return "hello"

    outer.mount("/inner", inner)
    with TestClient(outer) as client:
        for _ in range(2):
            assert client.get("/inner/hello").json() == "hello"
    assert not crons.running
    assert caplog.text.count("its lifespan was never started") == 1


def test_an_app_with_its_lifespan_is_told_nothing(caplog: pytest.LogCaptureFixture) -> None:
    app = FastAPI()
    Crons(app, state_backend=MemoryStateBackend())
    with TestClient(app) as client:
        client.get("/")
    assert "lifespan" not in caplog.text
