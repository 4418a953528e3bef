"""Runs by hand through the management API: how they are asked for, and how each end is answered."""

from __future__ import annotations

import asyncio
from typing import Any

from httpx2 import AsyncClient

from fastapi_crons import CronConfig, Crons
from fastapi_crons.state import SQLiteStateBackend
from fastapi_crons.testing import VirtualClock
from tests.integration.api.client import client_of, ended, path, problem
from tests.support import until_async


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
    second = await until_async(lambda: ended(api, "long", answer.json()["run_id"]))
    assert second["beside"] == first["run_id"]
    run = await until_async(lambda: ended(api, "long", first["run_id"]))
    assert (run["status"], run["note"]) == ("completed", "for the audit")


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


async def _is_active(crons: Crons, job: str) -> bool:
    assert crons.engine is not None
    return any(run.job.name == job and run.in_function for run in crons.engine.runner.active.values())


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


async def test_a_tick_is_run_again_unless_it_ran(crons: Crons, api: AsyncClient, clock: VirtualClock) -> None:
    fails = [True]

    @crons.cron("0 * * * *", name="job")
    async def job(size: int = 1) -> int:
        if fails:
            fails.clear()
            raise ConnectionError
        return size

    await crons.start()
    await clock.advance(crons, hours=1)
    answer = await api.post(
        path("job", "ticks", "2026-03-01T02:00:00+01:00", "run"),
        json={"note": "the other side was down", "kwargs": {"size": 3}},
    )
    assert (answer.status_code, answer.json()["status"]) == (200, "success")
    run = (await api.get(path("job", "runs", answer.json()["run_id"]))).json()
    assert (run["trigger"], run["scheduled_time"], run["result"]) == ("again", "2026-03-01T01:00:00Z", 3)
    tick = (await api.get(path("job", "ticks", "2026-03-01T01:00:00Z"))).json()
    assert tick["fate"] == "ran"
    assert "(the other side was down)" in tick["explanation"]
    assert [each["trigger"] for each in tick["runs"]] == ["schedule", "again"]

    again = path("job", "ticks", "2026-03-01T01:00:00Z", "run")
    status, detail = problem(await api.post(again, json={}))
    assert (status, run["id"] in detail, '; "force": true runs it again' in detail) == (409, True, True)
    assert (await api.post(again, json={"force": True, "wait": False})).status_code == 202
    for time, why in (("2026-03-01T00:30:00Z", "has no tick at"), ("2026-03-02T01:00:00Z", "in the future")):
        status, detail = problem(await api.post(path("job", "ticks", time, "run"), json={"force": True}))
        assert (status, why in detail) == (409, True)
    assert (await api.post(path("job", "ticks", "2026-03-01T01:00:00", "run"), json={})).status_code == 422
    assert (await api.post(path("nope", "ticks", "2026-03-01T01:00:00Z", "run"), json={})).status_code == 404
