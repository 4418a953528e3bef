"""Jobs, their states and their ticks, as the management API shows and changes them."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient
from httpx2 import AsyncClient

from fastapi_crons import CronConfig, Crons
from fastapi_crons.locking import DistributedLockManager, SQLiteLockBackend
from fastapi_crons.state import SQLiteStateBackend
from fastapi_crons.testing import VirtualClock
from tests.conftest import MakeCrons
from tests.integration.api.client import STRANGER, client_of, path, problem
from tests.support import nothing, runs_of


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
        "options": {
            "function": "tests.support:nothing",
            "run_in": "loop",
            "overlap": "skip",
            "timeout": None,
            "max_retries": 0,
            "retry_delay": 1.0,
            "retry_on": ["Exception"],
            "coalesce": True,
            "misfire_grace_time": None,
            "jitter": 0.0,
            "store_result": True,
        },
        "enabled": True,
        "paused": None,
        "status": "pending",
        "last_run": None,
        "next_run": "2026-03-01T03:00:00Z",
        "instance_id": None,
        "last_success": None,
        "last_success_run": None,
        "last_success_duration": None,
        "failures": 0,
    }
    await clock.advance(crons, hours=3)
    job = (await api.get(path("nightly"))).json()
    assert (job["status"], job["instance_id"]) == ("completed", "worker-001")
    assert job["last_run"].startswith("2026-03-01T03:00:00")
    assert job["last_success"].startswith("2026-03-01T03:00:00")
    assert job["next_run"] == "2026-03-02T03:00:00Z"
    assert [each for each in (await api.get("/crons")).json() if each["name"] == "nightly"] == [job]


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
    assert ran["explanation"].startswith("It started at ")
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


async def test_the_options_are_those_of_the_code_and_of_the_settings(make_crons: MakeCrons) -> None:
    crons = make_crons(default_timeout=60, misfire_grace_time=30)
    crons.cron(
        "0 4 * * *",
        name="nightly",
        overlap="queue",
        max_retries=2,
        retry_delay=5,
        retry_on=(OSError, KeyError),
        coalesce=False,
        jitter=3,
        store_result=False,
    )(lambda: None)
    await crons.start()
    async with client_of(crons) as api:
        options = (await api.get(path("nightly"))).json()["options"]
    assert options.pop("function").startswith("tests.integration.api.test_jobs:")
    assert options == {
        "run_in": "thread",
        "overlap": "queue",
        "timeout": 60.0,
        "max_retries": 2,
        "retry_delay": 5.0,
        "retry_on": ["OSError", "KeyError"],
        "coalesce": False,
        "misfire_grace_time": 30.0,
        "jitter": 3.0,
        "store_result": False,
    }


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
