"""What has happened over all jobs, as the management API shows it."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi import FastAPI
from httpx2 import ASGITransport, AsyncClient

from fastapi_crons import Crons, get_cron_router
from fastapi_crons.testing import VirtualClock
from tests.integration.api.client import STRANGER, path, problem
from tests.support import nothing


def fail() -> None:
    raise ConnectionError("no route")


@pytest.fixture
def crons(crons: Crons) -> Crons:
    """With jobs that fail, too; one of them has the name of an endpoint."""
    crons.cron("*/2 * * * *", name="bad", tags=["often", "odd"])(fail)
    crons.cron("*/3 * * * *", name="runs")(fail)
    return crons


async def test_what_failed_in_a_span_over_all_jobs_page_by_page(
    crons: Crons, api: AsyncClient, clock: VirtualClock
) -> None:
    await crons.start()
    await clock.advance(crons, minutes=9)
    asked: dict[str, Any] = {"status": ["failed", "timed_out", "interrupted"], "limit": 2}
    found: list[Any] = []
    cursor: dict[str, str] = {}
    while True:
        page = (await api.get("/runs", params={**asked, **cursor})).json()
        found += page["runs"]
        if page["next"] is None:
            break
        cursor = {"before": page["next"]}
        await clock.advance(crons, minutes=1)
    ran = sorted(f"{run['scheduled_time'][14:16]} {run['job_name']}" for run in found)
    assert ran == ["02 bad", "03 runs", "04 bad", "06 bad", "06 runs", "08 bad", "09 runs"]
    assert [run["id"] for run in found] == sorted((run["id"] for run in found), reverse=True)
    assert found[0]["error"] == {"type": "ConnectionError", "message": "no route", "traceback": None}


async def test_runs_by_time_job_and_tag(crons: Crons, api: AsyncClient, clock: VirtualClock) -> None:
    await crons.start()
    await clock.advance(crons, minutes=6)

    async def ran(**asked: Any) -> list[str]:
        runs = (await api.get("/runs", params=asked)).json()["runs"]
        return sorted(f"{run['job_name']} {run['scheduled_time'][14:16]}" for run in runs)

    assert await ran(since="2026-03-01T00:05:00Z") == ["bad 06", "minutely 05", "minutely 06", "runs 06"]
    assert await ran(since="2026-03-01T01:02:00+01:00", until="2026-03-01T01:04:00+01:00") == [
        "bad 02",
        "minutely 02",
        "minutely 03",
        "runs 03",
    ]
    assert await ran(job=["bad", "runs"]) == ["bad 02", "bad 04", "bad 06", "runs 03", "runs 06"]
    assert await ran(tag=["often", "odd"]) == ["bad 02", "bad 04", "bad 06"]
    assert await ran(tag="nobody's") == []
    assert "there is no job named 'nope'" in problem(await api.get("/runs", params={"job": "nope"}))[1]
    for wrong in (
        {"limit": 501},
        {"before": "x"},
        {"status": "pending"},
        {"since": 1},
        {"until": "2026-03-01T00:00:00"},
    ):
        assert problem(await api.get("/runs", params=wrong))[0] == 422


async def test_a_run_of_any_job_by_its_short_id(crons: Crons, api: AsyncClient, clock: VirtualClock) -> None:
    await crons.start()
    await clock.advance(crons, minutes=2)
    (listed,) = (await api.get("/runs", params={"status": "failed"})).json()["runs"]
    run = (await api.get(f"/runs/{listed['id'][-8:]}")).json()
    assert run == (await api.get(path("bad", "runs", listed["id"]))).json()
    assert "in fail" in run["error"]["traceback"]
    stranger = (await api.get(f"/runs/{listed['id']}", headers=STRANGER)).json()
    assert stranger["error"] == {"type": "ConnectionError", "message": None, "traceback": None}
    shown = (await api.get("/runs", headers=STRANGER)).json()["runs"]
    assert [each["error"]["message"] for each in shown if each["error"]] == [None]
    assert problem(await api.get("/runs/ffffffff"))[0] == 404


@pytest.mark.parametrize("prefix", ["", "/crons", "/runs", "/a/b"])
async def test_under_any_prefix_no_job_takes_the_place_of_an_endpoint(
    crons: Crons, clock: VirtualClock, prefix: str
) -> None:
    for name in ("missed", "show"):
        crons.cron("0 0 1 1 *", name=name)(nothing)
    await crons.start()
    await clock.advance(crons, minutes=3)
    app = FastAPI()
    app.include_router(get_cron_router(crons), prefix=prefix)
    async with AsyncClient(transport=ASGITransport(app), base_url=f"http://localhost:8000{prefix}") as api:
        assert {run["job_name"] for run in (await api.get("/runs")).json()["runs"]} == {"minutely", "bad", "runs"}
        assert (await api.get(path("runs"))).json()["name"] == "runs"
        (run,) = (await api.get(path("runs", "runs"))).json()["runs"]
        assert (await api.get(path("runs", "runs", run["id"]))).json()["id"] == run["id"]
        assert (await api.get(f"/runs/{run['id']}")).json()["job_name"] == "runs"
        assert (await api.get(path("missed"))).json()["name"] == "missed"
