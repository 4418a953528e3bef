"""A scheduler in the life of a FastAPI app."""

from __future__ import annotations

import asyncio
import logging
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


@pytest.fixture
def client() -> Any:
    app = FastAPI()
    crons = Crons(app, state_backend=MemoryStateBackend(), config=CronConfig(instance_id="worker-001"))

    @crons.cron("0 2 * * *", name="backup_database", tags=["backup"])
    def backup() -> dict[str, int]:
        return {"rows": 3}

    @crons.cron("0 3 * * *", name="a:b *%ü 🚀")
    async def broken() -> None:
        raise ValueError("secret of the database")

    app.include_router(get_cron_router(), prefix="/api")
    with TestClient(app) as client:
        yield client


def test_the_list_shows_every_job(client: TestClient) -> None:
    jobs = client.get("/api/crons").json()
    assert [job["name"] for job in jobs] == ["backup_database", "a:b *%ü 🚀"]
    assert (jobs[0]["status"], jobs[0]["last_run"], jobs[0]["tags"]) == ("pending", None, ["backup"])
    assert jobs[0]["next_run"].endswith("T02:00:00Z")
    assert [job["name"] for job in client.get("/api/crons", params={"tag": "backup"}).json()] == ["backup_database"]


def test_a_manual_run_answers_as_documented(client: TestClient) -> None:
    answer = client.post("/api/crons/backup_database/run", json={"force": False})
    body = answer.json()
    assert answer.status_code == 200
    assert body["status"] == "success"
    assert body["message"] == "Job 'backup_database' executed successfully"
    assert body["instance_id"] == "worker-001"
    assert body["timestamp"].endswith("Z")
    assert isinstance(body["execution_time"], float)
    (run,) = client.get("/api/crons/backup_database/runs").json()["runs"]
    assert (run["id"], run["trigger"], run["result"]) == (body["run_id"], "api", {"rows": 3})
    assert client.get(f"/api/crons/backup_database/runs/{run['id']}").json() == run


def test_a_failed_manual_run_says_so(client: TestClient) -> None:
    answer = client.post("/api/crons/a%3Ab%20%2A%25%C3%BC%20%F0%9F%9A%80/run")
    assert answer.status_code == 500
    assert (answer.json()["status"], answer.json()["error"]) == ("failed", "ValueError: secret of the database")


def test_what_is_not_there_is_a_problem_with_a_404(client: TestClient) -> None:
    for path in ("/api/crons/nope", "/api/crons/nope/runs", "/api/crons/backup_database/runs/nope"):
        answer = client.get(path)
        assert answer.status_code == 404
        assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example.com"},
        {"host": "10.0.0.5:8000"},
        {"x-forwarded-for": "127.0.0.1"},
        {"forwarded": "for=127.0.0.1"},
        {"via": "1.1 proxy"},
        {"origin": "https://evil.example.com"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
    ],
    ids=str,
)
def test_strangers_proxies_and_other_sites_change_nothing(client: TestClient, headers: dict[str, str]) -> None:
    assert client.post("/api/crons/backup_database/run", json={}, headers=headers).status_code == 403
    assert client.get("/api/crons/backup_database/runs").json()["runs"] == []


def test_a_form_is_refused_and_strangers_see_no_results(client: TestClient) -> None:
    assert client.post("/api/crons/backup_database/run", data={"force": "true"}).status_code == 415
    client.post("/api/crons/backup_database/run")
    stranger = {"host": "jobs.example.com"}
    (run,) = client.get("/api/crons/backup_database/runs", headers=stranger).json()["runs"]
    assert (run["status"], run["result"]) == ("completed", None)


def test_with_a_token_every_endpoint_wants_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRON_API_TOKEN", "hunter2")
    app = FastAPI()
    Crons(app, state_backend=MemoryStateBackend()).cron("* * * * *", name="job")(lambda: "done")
    app.include_router(get_cron_router(), prefix="/api")
    with TestClient(app) as client:
        assert client.get("/api/crons").status_code == 401
        assert client.post("/api/crons/job/run", headers={"authorization": "Bearer wrong"}).status_code == 401
        right = {"authorization": "Bearer hunter2", "host": "jobs.example.com"}
        assert client.get("/api/crons", headers=right).status_code == 200
        assert client.post("/api/crons/job/run", headers=right).status_code == 200


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


def test_the_log_of_a_run_and_health_are_there_to_see() -> None:
    app = FastAPI()
    crons = Crons(app, state_backend=MemoryStateBackend())
    crons.cron("0 0 1 1 *", name="job")(lambda: logging.getLogger("mine").warning("almost full"))
    app.include_router(get_cron_router(), prefix="/api")
    with TestClient(app) as client:
        assert client.get("/api/scheduler/health").json() == {"status": "ok", "findings": []}
        answer = client.post("/api/crons/job/run", json={"wait": False})
        assert (answer.status_code, answer.json()["status"]) == (202, "running")
        run = client.get(f"/api/crons/job/runs/{answer.json()['run_id']}").json()
        while run["status"] == "running":
            run = client.get(f"/api/crons/job/runs/{run['id']}").json()
        assert [(line["level"], line["message"]) for line in run["log"]] == [("WARNING", "almost full")]
        stranger = client.get(f"/api/crons/job/runs/{run['id']}", headers={"host": "jobs.example.com"}).json()
        assert stranger["log"] == []
    assert client.get("/api/scheduler/health").status_code == 503


def test_a_body_that_no_text_can_hold_is_a_problem_like_any_other(client: TestClient) -> None:
    headers = {"content-type": "application/json"}
    answer = client.post("/api/crons/backup_database/run", content='{"note": "\\ud800"}', headers=headers)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert "body.note" in answer.json()["detail"]
