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
    for endpoint in ("/runs", "/missed"):
        span = {"since": "2026-03-02T00:00:00Z", "until": "2026-03-02T00:00:00Z"}
        assert problem(await api.get(endpoint, params=span)) == (
            422,
            "until can't be 2026-03-02T00:00:00+00:00: give a time after that of since, 2026-03-02T00:00:00+00:00",
        )


async def test_a_run_belongs_to_each_span_in_which_it_was_under_way(
    crons: Crons, api: AsyncClient, clock: VirtualClock
) -> None:
    @crons.cron("10 0 * * *")
    async def long() -> None:
        await clock.sleep(7_200)
        raise ConnectionError

    async def statuses(**asked: str) -> list[str]:
        return [run["status"] for run in (await api.get("/runs", params={"job": "long", **asked})).json()["runs"]]

    await crons.start()
    await clock.advance(crons, hours=1)
    assert await statuses(since="2026-03-01T00:50:00Z", until="2026-03-01T01:00:00Z") == ["running"]
    await clock.advance(crons, hours=2)
    failed_at = "2026-03-01T02:10:00Z"
    assert await statuses(since=failed_at, status="failed") == ["failed"]
    assert await statuses(since="2026-03-01T01:00:00Z", until="2026-03-01T01:05:00Z") == ["failed"]
    assert await statuses(since="2026-03-01T02:10:01Z") == []
    assert await statuses(until="2026-03-01T00:10:00Z") == []


@pytest.mark.parametrize("time", ["2026-03-01T01:05:00+01:00", "2026-03-01 01:05+01:00", "2026-03-01T01:05:00.0+0100"])
async def test_a_plus_that_is_not_encoded_is_one_all_the_same(
    crons: Crons, api: AsyncClient, clock: VirtualClock, time: str
) -> None:
    await crons.start()
    await clock.advance(crons, minutes=6)
    runs = (await api.get(f"/runs?since={time}")).json()["runs"]
    assert {run["scheduled_time"][14:16] for run in runs} == {"05", "06"}
    # Without an offset it is refused: the time of day is none.
    assert problem(await api.get("/runs?since=2026-03-01 01:05"))[0] == 422


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


async def test_what_was_missed_and_what_is_overdue(crons: Crons, api: AsyncClient, clock: VirtualClock) -> None:
    await crons.start()
    await crons.pause("minutely", note="deploy")
    await crons.pause("bad", note="no money")
    await clock.advance(crons, minutes=6, seconds=30)
    await crons.resume("minutely")
    await clock.advance(crons, seconds=5)
    page = (await api.get("/missed")).json()
    (record,), (waiting,) = page["missed"], page["unhandled"]
    assert (record["job_name"], record["count"], record["reason"]) == ("minutely", 6, "paused")
    assert (record["first"], record["last"]) == ("2026-03-01T00:01:00Z", "2026-03-01T00:06:00Z")
    assert record["explanation"] == "the job was paused: since 2026-03-01 00:00:00 UTC: deploy"
    assert (record["instance_id"], page["next"], page["unhandled_jobs"]) == ("worker-001", None, 1)
    assert (waiting["job_name"], waiting["count"], waiting["fate"]) == ("bad", 3, "paused")
    assert waiting["explanation"].endswith(": no money; it was due during the pause, and is not run.")
    assert record["made_up"] == 0
    stranger = (await api.get("/missed", headers=STRANGER)).json()
    assert stranger["missed"][0]["explanation"] == "the job was paused"
    assert "money" not in stranger["unhandled"][0]["explanation"]
    later = (await api.get("/missed", params={"since": "2026-03-01T00:06:30Z"})).json()
    assert (later["missed"], later["unhandled"]) == ([], [])
    odd = (await api.get("/missed", params={"tag": ["odd"], "limit": 1})).json()
    assert (odd["missed"], [each["job_name"] for each in odd["unhandled"]]) == ([], ["bad"])
    assert "there is no job named 'nope'" in problem(await api.get("/missed", params={"job": "nope"}))[1]


async def test_what_was_made_up_for(crons: Crons, api: AsyncClient, clock: VirtualClock) -> None:
    await crons.start()
    await crons.pause("minutely")
    await clock.advance(crons, minutes=2, seconds=30)
    await crons.resume("minutely")
    for minute, left in ((1, 1), (2, 0)):
        await crons.run_job("minutely", tick=clock.datetime.replace(minute=minute, second=0, microsecond=0))
        assert [each["made_up"] for each in (await api.get("/missed")).json()["missed"]] == [minute]
        assert len((await api.get("/missed", params={"open": True})).json()["missed"]) == left


async def test_missed_ticks_page_by_page(crons: Crons, api: AsyncClient, clock: VirtualClock) -> None:
    await crons.start()
    await crons.pause("bad")
    for _ in range(3):
        await crons.pause("minutely")
        await clock.advance(crons, minutes=2)
        await crons.resume("minutely")
        await clock.advance(crons, minutes=2)
    page = (await api.get("/missed", params={"limit": 2})).json()
    rest = (await api.get("/missed", params={"limit": 2, "before": page["next"]})).json()
    assert [each["first"][14:16] for each in (*page["missed"], *rest["missed"])] == ["09", "05", "01"]
    assert (rest["next"], len(page["unhandled"]), rest["unhandled"]) == (None, 1, [])


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


async def test_stats_of_jobs_and_of_their_days(crons: Crons, api: AsyncClient, clock: VirtualClock) -> None:
    await crons.start()
    await clock.advance(crons, minutes=9)
    answer = (await api.get("/stats", params={"tag": "odd", "days": 2, "by_day": "true"})).json()
    today = clock.datetime.date().isoformat()
    (bad,) = answer["jobs"]
    assert (answer["until"], bad["job_name"], len(bad["days"])) == (today, "bad", 2)
    figures = {"runs": 4, "failed": 4, "missed": 0, "p50": None, "p95": None, "longest": None}
    assert bad["days"][-1] == {"day": today, **figures}
    assert {name: bad[name] for name in figures} == figures
    brief = (await api.get("/stats", params={"job": ["runs", "bad"]})).json()
    assert [(job["job_name"], job["runs"], job["days"]) for job in brief["jobs"]] == [("runs", 3, []), ("bad", 4, [])]
    assert problem(await api.get("/stats", params={"job": "none"}))[0] == 404
    assert problem(await api.get("/stats", params={"days": 0}))[0] == 422
    (job,) = (await api.get("/crons", params={"tag": "odd"})).json()
    assert (job["status"], job["failures"], job["last_success"]) == ("failed", 4, None)


async def test_what_became_of_the_latest_ticks(crons: Crons, api: AsyncClient, clock: VirtualClock) -> None:
    await crons.start()
    assert (await api.get("/crons/bad/ticks")).json() == {"job_name": "bad", "ticks": []}
    await clock.advance(crons, minutes=5)
    await crons.pause("bad")
    await clock.advance(crons, minutes=2)
    found = (await api.get("/crons/bad/ticks", params={"last": 2})).json()["ticks"]
    assert [(tick["time"], tick["fate"], tick["status"]) for tick in found] == [
        ("2026-03-01T00:04:00Z", "ran", "failed"),
        ("2026-03-01T00:06:00Z", "paused", None),
    ]
    assert (await api.get(f"/crons/bad/runs/{found[0]['run_id']}")).json()["scheduled_time"] == found[0]["time"]
    for last in ("0", "501", "x"):
        assert (await api.get("/crons/bad/ticks", params={"last": last})).status_code == 422
    assert (await api.get("/crons/none/ticks")).status_code == 404
