"""The management API: what each endpoint answers."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from typing import Any

import pytest
import pytest_asyncio
from fastapi import APIRouter, FastAPI
from fastapi.testclient import TestClient
from httpx2 import AsyncClient

from fastapi_crons import ConfigurationError, CronConfig, Crons, get_cron_router, hookimpl
from fastapi_crons.locking import DistributedLockManager, SQLiteLockBackend
from fastapi_crons.state import MemoryStateBackend, SQLiteStateBackend
from fastapi_crons.testing import VirtualClock
from tests.conftest import MakeCrons
from tests.integration.api import STRANGER, client_of, path, problem
from tests.support import nothing, runs_of, until_async


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


async def test_the_list_can_be_narrowed_by_tag_and_status(crons: Crons, api: AsyncClient, clock: VirtualClock) -> None:
    @crons.cron("0 0 1 1 *", name="fails", tags=["often", "rare"])
    async def fails() -> None:
        raise ValueError("no")

    crons.cron("0 4 * * *", name="nightly", tags=["rare"], timezone="Europe/Berlin")(nothing)
    crons.cron("* * * * *", name="off", enabled=False)(nothing)
    await crons.start()
    await api.post(path("fails", "run"))
    await api.post(path("nightly", "pause"), json={"note": "not tonight"})
    await clock.advance(crons, minutes=1)

    async def names(**query: Any) -> list[str]:
        answer = await api.get("/crons", params=query)
        assert answer.status_code == 200
        return [job["name"] for job in answer.json()]

    assert await names() == ["minutely", "fails", "nightly", "off"]
    assert await names(tag="often") == ["minutely", "fails"]
    assert await names(tag="nobody has this") == []
    assert await names(status="pending") == ["nightly", "off"]
    assert await names(status="paused") == ["nightly"]
    assert await names(status="failed", tag="rare") == ["fails"]
    assert await names(status="completed") == ["minutely"]
    assert await names(status=["completed", "failed"]) == ["minutely", "fails"]
    assert problem(await api.get("/crons", params={"status": "strange"}))[0] == 422


async def test_a_job_shows_its_definition_and_its_latest_state(
    crons: Crons, api: AsyncClient, clock: VirtualClock
) -> None:
    crons.cron("0 4 * * *", name="nightly", tags=["a", "b"], timezone="Europe/Berlin")(nothing)
    await crons.start()
    assert (await api.get(path("nightly"))).json() == {
        "name": "nightly",
        "expr": "0 4 * * *",
        "description": "At 04:00, every day",
        "timezone": "Europe/Berlin",
        "tags": ["a", "b"],
        "kwargs": {},
        "enabled": True,
        "paused": None,
        "status": "pending",
        "last_run": None,
        "next_run": "2026-03-01T03:00:00Z",
        "instance_id": None,
    }
    await clock.advance(crons, hours=3)
    job = (await api.get(path("nightly"))).json()
    assert (job["status"], job["instance_id"]) == ("completed", "worker-001")
    assert job["last_run"].startswith("2026-03-01T03:00:00")
    assert job["next_run"] == "2026-03-02T03:00:00Z"
    assert [each for each in (await api.get("/crons")).json() if each["name"] == "nightly"] == [job]


async def test_pages_of_runs_stay_where_they_are_while_new_runs_come_in(
    crons: Crons, api: AsyncClient, clock: VirtualClock
) -> None:
    await crons.start()
    await clock.advance(crons, minutes=9)
    times, cursor, pages = [], None, 0
    while True:
        page = (
            await api.get(path("minutely", "runs"), params={"limit": 3, **({"before": cursor} if cursor else {})})
        ).json()
        times += [run["scheduled_time"][14:16] for run in page["runs"]]
        cursor, pages = page["next"], pages + 1
        if cursor is None:
            break
        await clock.advance(crons, minutes=2)
    assert times == ["09", "08", "07", "06", "05", "04", "03", "02", "01"]
    assert pages == 3, "the last page says that it is the last"
    assert (await api.get(path("minutely", "runs"), params={"status": "failed"})).json() == {"runs": [], "next": None}
    for wrong in ({"limit": 0}, {"limit": 501}, {"before": "x" * 101}, {"status": "pending"}):
        assert problem(await api.get(path("minutely", "runs"), params=wrong))[0] == 422


async def test_a_run_shows_its_log_and_traceback_where_it_is_asked_for_by_itself(
    make_crons: MakeCrons, clock: VirtualClock
) -> None:
    crons = make_crons(state_backend=SQLiteStateBackend("jobs.db"), max_log_chars=200)

    @crons.cron("* * * * *", name="job")
    async def job() -> None:
        for number in range(100):
            logging.getLogger("shop").warning("order %d", number)
        raise ConnectionError("gone")

    await crons.start()
    await clock.advance(crons, minutes=1)
    async with client_of(crons) as api:
        (listed,) = (await api.get(path("job", "runs"))).json()["runs"]
        run = (await api.get(path("job", "runs", listed["id"]))).json()
        assert (await api.get(path("job", "runs", listed["id"]), headers=STRANGER)).json()["log"] == []
        assert problem(await api.get(path("job", "runs", "nope")))[0] == 404
    assert (run["status"], run["trigger"], run["attempt"], run["result"]) == ("failed", "schedule", 1, None)
    assert run["scheduled_time"] == "2026-03-01T00:01:00Z"
    assert run["error"]["type"] == "ConnectionError"
    assert run["error"]["message"] == "gone"
    assert run["error"]["traceback"].rstrip().endswith("ConnectionError: gone")
    assert listed["error"] == {**run["error"], "traceback": None}
    last = run["log"][-1]
    assert (last["level"], last["logger"], last["message"]) == ("WARNING", "shop", "order 99")
    assert last["time"].startswith("2026-")
    assert run["log_dropped"] + len(run["log"]) == 100
    assert listed["log"] == []


async def test_results_of_any_kind_can_be_shown(crons: Crons, api: AsyncClient) -> None:
    deep: list[Any] = []
    for _ in range(400):
        deep = [deep]
    results = {"number": 10**400, "text": "a\x00b\ud800", "nested": {"[": ["]" * 300]}, "deep": deep, "bytes": b"\xff"}
    for name, result in results.items():
        crons.cron("0 0 1 1 *", name=name)(lambda result=result: result)
    await crons.start()
    shown = {}
    for name in results:
        assert (await api.post(path(name, "run"))).status_code == 200
        (run,) = (await api.get(path(name, "runs"))).json()["runs"]
        shown[name] = run["result"]
    assert shown["number"] == 10**400
    assert shown["text"] == "a\x00b\\ud800"
    assert shown["nested"] == results["nested"]
    assert shown["deep"].startswith("[[[["), "too deep for most readers: shown as text"
    assert shown["bytes"]["stored"] is False


async def test_a_manual_run_is_asked_for_and_answered_as_documented() -> None:
    crons = Crons(state_backend=SQLiteStateBackend("jobs.db"), config=CronConfig(instance_id="worker-001"))
    crons.cron("0 2 * * *", name="backup_database")(lambda: {"rows": 3})
    await crons.start()
    async with client_of(crons) as api:
        answer = await api.post(
            "/crons/backup_database/run", content=b'{"force": false}', headers={"Content-Type": "application/json"}
        )
        body = answer.json()
        (run,) = (await api.get("/crons/backup_database/runs")).json()["runs"]
    await crons.stop()
    assert answer.status_code == 200
    assert [*body] == ["status", "message", "execution_time", "instance_id", "timestamp", "run_id"]
    assert body["status"] == "success"
    assert body["message"] == "Job 'backup_database' executed successfully"
    assert isinstance(body["execution_time"], float)
    assert body["instance_id"] == "worker-001"
    assert len(body["timestamp"]) == len("2025-01-09T11:47:21Z")
    assert body["timestamp"].endswith("Z")
    assert (run["id"], run["trigger"], run["result"], run["scheduled_time"]) == (
        body["run_id"],
        "api",
        {"rows": 3},
        None,
    )


async def test_a_manual_run_that_fails_is_answered_by_a_500(
    crons: Crons, api: AsyncClient, clock: VirtualClock
) -> None:
    @crons.cron("0 0 1 1 *", name="broken")
    async def broken() -> None:
        raise ValueError("no such table")

    @crons.cron("0 0 1 1 *", name="endless")
    async def endless() -> None:
        await asyncio.Event().wait()

    await crons.start()
    answer = await api.post(path("broken", "run"))
    assert answer.status_code == 500
    body = answer.json()
    assert (body["status"], body["message"]) == ("failed", "Job 'broken' failed")
    assert body["error"] == "ValueError: no such table"
    assert (await api.get(path("broken", "runs", body["run_id"]))).json()["error"]["message"] == "no such table"
    asking = asyncio.create_task(api.post(path("endless", "run"), json={"timeout": 5}))
    await until_async(lambda: _is_active(crons, "endless"))
    await clock.advance(crons, seconds=5, finish_runs=False)
    answer = await asking
    assert (answer.status_code, answer.json()["message"]) == (500, "Job 'endless' timed out")
    for wrong in (0, -1, "1", True, 1e10):
        assert problem(await api.post(path("endless", "run"), json={"timeout": wrong}))[0] == 422
    bodies: list[Any] = [[], {"forced": True}, {"force": 1}, {"note": "x" * 1001}, {"note": 5}]
    for body in bodies:
        assert problem(await api.post(path("endless", "run"), json=body))[0] == 422
    unfit = await api.post(
        path("endless", "run"), content='{"note": "\\ud800"}', headers={"content-type": "application/json"}
    )
    assert "body.note" in problem(unfit)[1]


async def test_a_job_that_runs_is_locked_unless_it_is_forced(crons: Crons, api: AsyncClient) -> None:
    go_on = asyncio.Event()

    @crons.cron("0 0 1 1 *", name="long")
    async def long() -> None:
        await go_on.wait()

    await crons.start()
    answer = await api.post(path("long", "run"), json={"wait": False, "note": "for the audit"})
    first = answer.json()
    assert (answer.status_code, first["status"], first["message"]) == (202, "running", "Job 'long' is running")
    status, detail = problem(await api.post(path("long", "run")))
    assert status == 409
    assert first["run_id"] in detail
    answer = await api.post(path("long", "run"), json={"wait": False, "force": True})
    assert answer.status_code == 202
    go_on.set()
    second = await until_async(lambda: _ended(api, "long", answer.json()["run_id"]))
    assert second["beside"] == first["run_id"]
    run = await until_async(lambda: _ended(api, "long", first["run_id"]))
    assert (run["status"], run["note"]) == ("completed", "for the audit")


async def _ended(api: AsyncClient, job: str, run_id: str) -> Any:
    run = (await api.get(path(job, "runs", run_id))).json()
    return run if run["status"] not in ("running", 404) else None


async def _latest(api: AsyncClient, job: str) -> Any:
    runs = (await api.get(path(job, "runs"))).json()["runs"]
    return runs[0] if runs and runs[0]["status"] != "running" else None


async def test_a_client_that_goes_away_cancels_nothing(crons: Crons, api: AsyncClient) -> None:
    started, go_on = asyncio.Event(), asyncio.Event()

    @crons.cron("0 0 1 1 *", name="long")
    async def long() -> None:
        started.set()
        await go_on.wait()

    await crons.start()
    asking = asyncio.create_task(api.post(path("long", "run")))
    await started.wait()
    asking.cancel()
    await asyncio.wait({asking})
    go_on.set()
    assert (await until_async(lambda: _latest(api, "long")))["status"] == "completed"


async def test_a_stop_answers_who_waits_for_a_manual_run(crons: Crons, api: AsyncClient) -> None:
    started, go_on = asyncio.Event(), asyncio.Event()

    @crons.cron("0 0 1 1 *", name="long")
    async def long() -> None:
        started.set()
        await go_on.wait()

    await crons.start()
    asking = asyncio.create_task(api.post(path("long", "run")))
    await started.wait()
    stopping = asyncio.create_task(crons.stop())
    answer = await asking
    go_on.set()
    await stopping
    assert (answer.status_code, answer.json()["status"]) == (202, "running")
    assert problem(await api.post(path("long", "run")))[0] == 503
    assert problem(await api.get("/crons"))[0] == 503
    assert (await api.get("/scheduler/health")).status_code == 503


async def test_a_run_is_cancelled_here(crons: Crons, api: AsyncClient) -> None:
    @crons.cron("0 0 1 1 *", name="endless")
    async def endless() -> None:
        await asyncio.Event().wait()

    await crons.start()
    run_id = (await api.post(path("endless", "run"), json={"wait": False})).json()["run_id"]
    assert problem(await api.post(path("minutely", "runs", run_id, "cancel")))[0] == 404, "a run of another job"
    answer = await api.post(path("endless", "runs", run_id, "cancel"))
    assert (answer.status_code, answer.json()["run_id"]) == (202, run_id)
    run = await until_async(lambda: _ended(api, "endless", run_id))
    assert (run["status"], run["error"]["type"]) == ("cancelled", "CancelledError")
    status, detail = problem(await api.post(path("endless", "runs", run_id, "cancel")))
    assert (status, "cancelled" in detail) == (409, True)
    assert problem(await api.post(path("endless", "runs", "nope", "cancel")))[0] == 404
    assert problem(await api.post(path("nope", "runs", run_id, "cancel")))[0] == 404


async def _is_active(crons: Crons, job: str) -> bool:
    assert crons.engine is not None
    return any(run.job.name == job and run.in_function for run in crons.engine.runner.active.values())


async def test_a_run_that_was_given_up_has_ended_although_its_thread_goes_on(
    crons: Crons, api: AsyncClient, clock: VirtualClock
) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def waits() -> None:
        begun.set()
        go_on.wait(30)

    crons.cron("0 0 1 1 *", name="thread")(waits)
    await crons.start()
    try:
        run_id = (await api.post(path("thread", "run"), json={"timeout": 5, "wait": False})).json()["run_id"]
        assert await asyncio.to_thread(begun.wait, 20)  # its time limit begins with it
        await clock.advance(crons, seconds=5, finish_runs=False)
        assert (await until_async(lambda: _ended(api, "thread", run_id)))["status"] == "timed_out"
        cancelled = await api.post(path("thread", "runs", run_id, "cancel"))
    finally:
        go_on.set()
    status, detail = problem(cancelled)
    assert (status, "timed_out" in detail) == (409, True)


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


def test_a_run_is_cancelled_on_another_instance(two_instances: list[TestClient]) -> None:
    here, there = two_instances
    run_id = here.post("/api/crons/endless/run", json={"wait": False}).json()["run_id"]
    while (answer := there.post(f"/api/crons/endless/runs/{run_id}/cancel")).status_code == 404:
        pass  # not on record yet
    assert answer.status_code == 202
    while (run := there.get(f"/api/crons/endless/runs/{run_id}").json())["status"] == "running":
        pass
    assert (run["status"], run["instance_id"]) == ("cancelled", "worker-001")
    assert there.post(f"/api/crons/endless/runs/{run_id}/cancel").status_code == 409


def test_every_instance_shows_all_that_live(two_instances: list[TestClient]) -> None:
    for number, client in enumerate(two_instances, 1):
        found = client.get("/api/scheduler").json()
        while [each["instance_id"] for each in found["instances"]] != ["worker-001", "worker-002"]:
            found = client.get("/api/scheduler").json()
        assert found["instance_id"] == f"worker-00{number}"
        assert (found["backend"], found["locking"]) == ("SQLiteStateBackend", "This host (SQLite)")
        assert (found["jobs"], found["paused"], found["statuses"]) == (1, 0, {"pending": 1})
        assert all(each["runs_jobs"] and each["pid"] for each in found["instances"])
        assert found["health"]["status"] == "ok"


async def test_a_pause_says_who_and_why_and_is_resumed(make_crons: MakeCrons, clock: VirtualClock) -> None:
    crons = make_crons(
        state_backend=SQLiteStateBackend("jobs.db"), api_token="hunter2-of-more-than-32-characters", coalesce=False
    )
    crons.cron("*/10 * * * *", name="sync")(nothing)
    await crons.start()
    async with client_of(crons) as api:
        api.headers["authorization"] = "Bearer hunter2-of-more-than-32-characters"
        answer = await api.post(
            path("sync", "pause"), json={"note": "moving house"}, headers={"x-actor": "Jörg".encode()}
        )
        paused = answer.json()["paused"]
        assert (answer.status_code, paused["actor"], paused["note"]) == (200, "Jörg", "moving house")
        assert answer.json()["next_run"] is None
        assert (await api.get(path("sync"))).json() == answer.json()
        await clock.advance(crons, minutes=30)
        answer = await api.post(path("sync", "resume"))
        assert (answer.json()["paused"], answer.json()["next_run"]) == (None, "2026-03-01T00:40:00Z")
        await api.post(path("sync", "pause"))
        await clock.advance(crons, minutes=25)
        assert (await api.post(path("sync", "resume"), json={"catch_up": True})).status_code == 200
        await clock.advance(crons, seconds=1)
        assert (await api.post(path("sync", "resume"))).status_code == 200, "not paused: without effect"
        bodies: list[Any] = [{"catch_up": "yes"}, {"note": 1}, []]
        for wrong in bodies:
            assert problem(await api.post(path("sync", "resume"), json=wrong))[0] == 422
    assert [run.tick_ts % 3600 // 60 for run in await runs_of(crons, "sync") if run.tick_ts] == [40, 50]


async def test_the_fate_of_a_tick_is_told(crons: Crons, api: AsyncClient, clock: VirtualClock) -> None:
    await crons.start()
    await clock.advance(crons, minutes=2)
    ran = (await api.get(path("minutely", "ticks", "2026-03-01T01:01:00+01:00"))).json()
    assert (ran["fate"], ran["time"], len(ran["runs"])) == ("ran", "2026-03-01T00:01:00Z", 1)
    assert ran["explanation"].startswith("It was run by worker-001")
    assert (await api.get(path("minutely", "ticks", "2026-03-01T00:01:30Z"))).json()["fate"] == "not_due"
    await api.post(path("minutely", "pause"), json={"note": "a secret"})
    await clock.advance(crons, minutes=2)
    paused = (await api.get(path("minutely", "ticks", "2026-03-01T00:03:00Z"))).json()
    assert (paused["fate"], "a secret" in paused["explanation"]) == ("paused", True)
    told = await api.get(path("minutely", "ticks", "2026-03-01T00:03:00Z"), headers=STRANGER)
    assert "a secret" not in told.text
    for wrong in ("yesterday", "2026-03-01T00:03:00", "1772323380", "12:00Z"):
        assert problem(await api.get(path("minutely", "ticks", wrong)))[0] == 422
    for far in ("0001-01-01T00:00:00Z", "9999-12-31T23:59:59-23:00"):
        assert problem(await api.get(path("minutely", "ticks", far)))[0] == 404


@pytest.mark.parametrize(
    "name", ["a b", "100%", "what?", "#1", "a+b&c=d;e", "“ü” 🚀 名前", "'\"`<b>", "\\x", "...", "a:b*", "%2F"]
)
async def test_a_name_with_any_allowed_character_works_in_urls(name: str, crons: Crons, api: AsyncClient) -> None:
    crons.cron("0 0 1 1 *", name=name)(nothing)
    await crons.start()
    answer = await api.post(path(name, "run"))
    assert (answer.status_code, answer.json()["message"]) == (200, f"Job '{name}' executed successfully")
    run_id = answer.json()["run_id"]
    assert (await api.get(path(name, "runs", run_id))).json()["job_name"] == name
    assert (await api.get(path(name, "runs"))).json()["runs"][0]["id"] == run_id
    assert (await api.get(path(name))).json()["name"] == name
    assert (await api.post(path(name, "pause"))).json()["paused"]
    assert (await api.get(path(name, "ticks", "2026-01-01T00:00:00Z"))).json()["job_name"] == name


async def test_names_that_nothing_has_are_not_found_and_echoed_in_short(crons: Crons, api: AsyncClient) -> None:
    await crons.start()
    for name in ("nope", "x" * 5_000, "\x00\x1b[31m\n", "\u202eevil"):
        for answer in (await api.get(path(name)), await api.get(path(name, "runs")), await api.post(path(name, "run"))):
            status, detail = problem(answer)
            assert status == 404
            assert detail.isprintable()
            assert detail.count("x") <= 200
    for way_out in (
        "/crons/%2E%2E%2Fopenapi.json",
        "/crons/..%2f..%2fetc%2fpasswd",
        "/crons/a%2Fb",
        "/crons/minutely%2Fx",
    ):
        answer = await api.get(way_out)
        assert (answer.status_code, len(answer.content) < 300) == (404, True)


async def test_health_is_503_while_the_store_is_down_and_says_why_to_those_who_may_know(
    crons: Crons, api: AsyncClient, clock: VirtualClock
) -> None:
    assert (await api.get("/scheduler/health")).status_code == 503, "it has not started"
    await crons.start()
    assert (await api.get("/scheduler/health")).json() == {"status": "ok", "findings": []}
    await asyncio.to_thread(_rename, "job_run", "runs_that_were")
    await asyncio.to_thread(_rename, "lock_job", "jobs_that_were")
    passing = asyncio.create_task(clock.advance(crons, minutes=1))
    await until_async(lambda: _unhealthy(api))
    answer = await api.get("/scheduler/health")
    assert answer.status_code == 503
    assert any("jobs.db" in finding for finding in answer.json()["findings"])
    told = await api.get("/scheduler/health", headers=STRANGER)
    assert (told.status_code, told.json()["status"]) == (503, "unhealthy")
    assert told.json()["findings"]
    assert "jobs.db" not in told.text
    for answer in (await api.get(path("minutely", "runs")), await api.post(path("minutely", "run"))):
        assert problem(answer)[0] == 503
        assert "jobs.db" not in answer.text
    await asyncio.to_thread(_rename, "runs_that_were", "job_run")
    await asyncio.to_thread(_rename, "jobs_that_were", "lock_job")
    await passing
    await clock.advance(crons, minutes=1)
    assert (await api.get("/scheduler/health")).status_code == 200


def _rename(table: str, to: str) -> None:
    with closing(sqlite3.connect("jobs.db")) as connection:
        connection.execute(f"ALTER TABLE {table} RENAME TO {to}")


async def _unhealthy(api: AsyncClient) -> bool:
    return (await api.get("/scheduler/health")).status_code == 503


class _Odd(MemoryStateBackend):
    """A store of somebody else's, that raises what it likes, or does not answer."""

    hangs = False

    async def _fail(self, *_: Any, **__: Any) -> Any:
        if self.hangs:
            await asyncio.Event().wait()
        raise KeyError("redis://:hunter2@host is gone")

    states = runs = run = missed = _fail


@pytest.mark.parametrize("hangs", [False, True])
async def test_a_store_that_fails_in_its_own_way_is_a_503_too(make_crons: MakeCrons, hangs: bool) -> None:
    store = _Odd()
    store.hangs = hangs
    crons = make_crons(state_backend=store, store_timeout=0.05)
    crons.cron("0 0 1 1 *", name="job")(nothing)
    await crons.start()
    async with client_of(crons) as api:
        for where in (
            "/crons",
            path("job"),
            path("job", "runs"),
            path("job", "ticks", "2026-03-01T00:00:00Z"),
            "/scheduler",
        ):
            answer = await api.get(where)
            assert problem(answer)[0] == 503
            assert "hunter2" not in answer.text
            assert answer.headers["cache-control"] == "no-store"


async def test_listing_asks_each_store_once_whatever_the_number_of_jobs(clock: VirtualClock) -> None:
    statements: list[str] = []

    state, lock = SQLiteStateBackend("jobs.db"), SQLiteLockBackend("jobs.db")
    config = CronConfig(
        heartbeat_interval=3_000, instance_timeout=30_000, lock_timeout=30_000, lock_renewal_interval=9_000
    )
    crons = Crons(state_backend=state, lock_manager=DistributedLockManager(lock, config), config=config, clock=clock)
    for number in range(500):
        crons.cron("* * * * *", name=f"job {number}")(nothing)
    await crons.start()
    await clock.advance(crons, minutes=1)
    async with client_of(crons) as api:
        for database in (state._database, lock._database):
            for connection in (database._reader, database._writer):
                assert connection is not None
                await connection.do(lambda raw: raw.set_trace_callback(statements.append))
        jobs = (await api.get("/crons")).json()
    asked = list(statements)
    await crons.stop()
    assert [job["status"] for job in jobs] == ["completed"] * 500
    assert len([text for text in asked if "job_status" in text]) == 1, asked
    assert len(asked) == 2, asked


def test_everything_in_the_schema_is_described(crons: Crons) -> None:
    app = FastAPI()
    app.include_router(get_cron_router(crons), prefix="/api")
    schema = app.openapi()
    assert len(schema["paths"]) == 12
    for where, methods in schema["paths"].items():
        for method, operation in methods.items():
            assert operation.get("description"), where
            assert "200" in operation["responses"] or "202" in operation["responses"]
            assert all(answer.get("description") for answer in operation["responses"].values()), where
            for parameter in operation.get("parameters", ()):
                assert parameter.get("description"), (method, where, parameter["name"])
    for name, model in schema["components"]["schemas"].items():
        if name in ("HTTPValidationError", "ValidationError", "JsonValue"):
            continue  # not ours
        assert model.get("description"), name
        for field, described in model["properties"].items():
            assert described.get("description"), (name, field)
    run = schema["components"]["schemas"]["RunRequest"]
    assert run["examples"] == [{"force": False}]


async def test_an_endpoint_of_a_plugin_is_guarded_like_ours(make_crons: MakeCrons) -> None:
    class Plugin:
        @hookimpl
        def routes(self, router: APIRouter, crons: Crons) -> None:
            assert crons is not None

            @router.get("/extra")
            async def extra() -> str:
                return "more"

            @router.post("/extra")
            async def change() -> str:
                return "changed"

    crons = make_crons(api_token="hunter2-of-more-than-32-characters")
    crons.plugins.register(Plugin())
    async with client_of(crons) as api:
        assert problem(await api.get("/extra"))[0] == 401
        assert problem(await api.post("/extra"))[0] == 401
        api.headers["authorization"] = "Bearer hunter2-of-more-than-32-characters"
        assert (await api.get("/extra")).json() == "more"
        assert (await api.post("/extra")).json() == "changed"
        assert problem(await api.post("/extra", headers={"origin": "https://evil.example"}))[0] == 403


class _Silent(MemoryStateBackend):
    """A store that can't tell what happens as it happens."""

    def events(self, *, records: bool = True) -> None:
        return None


async def test_events_of_a_store_that_can_not_tell_are_refused_before_the_stream_begins(make_crons: MakeCrons) -> None:
    crons = make_crons(state_backend=_Silent())
    async with client_of(crons) as api:
        assert problem(await api.get("/scheduler/events"))[0] == 503, "it has not started"
        await crons.start()
        status, detail = problem(await api.get("/scheduler/events"))
    assert (status, "_Silent" in detail) == (503, True)


async def test_a_run_that_nobody_waits_for_is_accepted_and_found_at_once(crons: Crons, api: AsyncClient) -> None:
    await crons.start()
    answer = await api.post("/crons/minutely/run", json={"wait": False})
    assert answer.status_code == 202
    run_id = answer.json()["run_id"]
    found = await api.get(f"/crons/minutely/runs/{run_id}")
    assert (await api.get(f"/crons/minutely/runs/{run_id[-8:]}")).json()["id"] == run_id
    assert problem(await api.get(f"/crons/minutely/runs/{run_id[:3]}"))[0] == 404
    assert found.status_code == 200
    assert found.json()["id"] == run_id


async def test_passwords_in_urls_are_kept_nowhere(
    crons: Crons, api: AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    @crons.cron("0 0 1 1 *", name="leaks")
    async def leaks() -> None:
        logging.getLogger("app").warning("connecting to https://me:hunter2@host/x")
        raise ConnectionError("redis://me:hunter2@db/0 does not answer")

    await crons.start()
    caplog.clear()
    answer = await api.post("/crons/leaks/run")
    found = await api.get(f"/crons/leaks/runs/{answer.json()['run_id']}")
    assert "redis://***@db/0 does not answer" in answer.json()["error"]
    assert found.json()["log"][0]["message"] == "connecting to https://***@host/x"
    assert "hunter2" not in answer.text + found.text
    assert all("hunter2" not in record.getMessage() for record in caplog.records if record.name != "app")


@pytest.mark.parametrize("before", ["", "zzz", "019ca8c1-6c00-7000-8000-0123456789abx"])
async def test_a_cursor_that_is_none_is_refused(crons: Crons, api: AsyncClient, before: str) -> None:
    await crons.start()
    status, detail = problem(await api.get("/crons/minutely/runs", params={"before": before}))
    assert status == 422
    assert "before" in detail


async def test_a_manual_run_that_holds_its_job_for_long_is_worth_a_look(
    crons: Crons, api: AsyncClient, clock: VirtualClock
) -> None:
    @crons.cron("* * * * *", name="stuck")
    async def stuck() -> None:
        await clock.sleep(100_000)

    await crons.start()
    await api.post("/crons/stuck/run", json={"wait": False})
    await clock.advance(crons, minutes=5)
    health = (await api.get("/scheduler/health")).json()
    assert health["status"] == "degraded"
    assert "'stuck'" in health["findings"][0]


def test_a_prefix_is_no_scheduler() -> None:
    with pytest.raises(
        ConfigurationError, match=r"crons must be a Crons, not '/api'; a prefix is given to include_router"
    ):
        get_cron_router("/api")  # type: ignore[arg-type]


def test_every_path_with_a_job_calls_it_job_name() -> None:
    app = FastAPI()
    Crons(app, state_backend=MemoryStateBackend())
    app.include_router(get_cron_router(), prefix="/api")
    paths = [path for path in app.openapi()["paths"] if path.startswith("/api/crons/")]
    assert len(paths) == 8
    assert all(path.startswith("/api/crons/{job_name}") for path in paths)
    assert "/api/crons/{job_name}/run" in paths
