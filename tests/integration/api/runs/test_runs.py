"""Runs, as the management API shows and cancels them."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import Any

import pytest
from fastapi.testclient import TestClient
from httpx2 import AsyncClient

from fastapi_crons import Crons
from fastapi_crons.state import SQLiteStateBackend
from fastapi_crons.testing import VirtualClock
from tests.conftest import MakeCrons
from tests.integration.api.client import STRANGER, client_of, ended, path, problem
from tests.support import until_async


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


async def test_a_run_is_cancelled_here(crons: Crons, api: AsyncClient) -> None:
    @crons.cron("0 0 1 1 *", name="endless")
    async def endless() -> None:
        await asyncio.Event().wait()

    await crons.start()
    run_id = (await api.post(path("endless", "run"), json={"wait": False})).json()["run_id"]
    assert problem(await api.post(path("minutely", "runs", run_id, "cancel")))[0] == 404, "a run of another job"
    answer = await api.post(path("endless", "runs", run_id, "cancel"))
    assert (answer.status_code, answer.json()["run_id"]) == (202, run_id)
    run = await until_async(lambda: ended(api, "endless", run_id))
    assert (run["status"], run["error"]["type"]) == ("cancelled", "CancelledError")
    status, detail = problem(await api.post(path("endless", "runs", run_id, "cancel")))
    assert (status, "cancelled" in detail) == (409, True)
    assert problem(await api.post(path("endless", "runs", "nope", "cancel")))[0] == 404
    assert problem(await api.post(path("nope", "runs", run_id, "cancel")))[0] == 404


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
        assert (await until_async(lambda: ended(api, "thread", run_id)))["status"] == "timed_out"
        cancelled = await api.post(path("thread", "runs", run_id, "cancel"))
    finally:
        go_on.set()
    status, detail = problem(cancelled)
    assert (status, "timed_out" in detail) == (409, True)


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


@pytest.mark.parametrize("before", ["", "zzz", "019ca8c1-6c00-7000-8000-0123456789abx"])
async def test_a_cursor_that_is_none_is_refused(crons: Crons, api: AsyncClient, before: str) -> None:
    await crons.start()
    status, detail = problem(await api.get("/crons/minutely/runs", params={"before": before}))
    assert status == 422
    assert "before" in detail
