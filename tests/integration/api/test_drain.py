"""Drain through the management API: the answering instance, another one, and who is refused."""

from __future__ import annotations

from importlib.metadata import version

from fastapi import FastAPI
from fastapi.testclient import TestClient
from httpx2 import AsyncClient

from fastapi_crons import CronConfig, Crons
from fastapi_crons.locking import DistributedLockManager
from fastapi_crons.state import SQLiteStateBackend
from fastapi_crons.testing import VirtualClock
from tests.integration.api.client import STRANGER, path, problem
from tests.older_version import LockOfOlderVersion
from tests.support import nothing


async def test_the_answering_instance_drains_and_shows_what_runs(
    crons: Crons, api: AsyncClient, clock: VirtualClock
) -> None:
    @crons.cron("0 0 1 1 *", name="long", timeout=600)
    async def long() -> None:
        await clock.sleep(60)

    await crons.start()
    run = (await api.post(path("long", "run"), json={"wait": False})).json()
    await clock.advance(crons, seconds=1)
    answer = await api.post("/scheduler/drain")
    (drained,) = answer.json()
    (left,) = drained["runs"]
    assert (answer.status_code, drained["instance_id"], drained["draining"]) == (202, "worker-001", True)
    assert (left["job_name"], left["run_id"], left["limit"]) == ("long", run["run_id"], "limited")
    assert (left["start_time"], left["ends_by"]) == ("2026-03-01T00:00:00Z", "2026-03-01T00:10:00Z")
    found = (await api.get("/scheduler")).json()
    assert [(each["draining"], each["runs_jobs"]) for each in found["instances"]] == [(True, False)]
    assert found["health"]["status"] == "degraded"
    assert (await api.get("/scheduler/health")).status_code == 200
    assert "this instance is draining" in problem(await api.post(path("long", "run")))[1]
    await clock.advance(crons, seconds=70)
    (drained,) = (await api.post("/scheduler/drain", json={"instance": "worker-001"})).json()
    assert drained["runs"] == []
    assert (await api.get(path("long", "runs", run["run_id"]))).json()["status"] == "completed"
    assert (await api.get(path("minutely"))).json()["status"] == "pending", "its ticks were left alone"


async def test_unknown_instances_and_strangers_are_refused(crons: Crons, api: AsyncClient) -> None:
    await crons.start()
    status, why = problem(await api.post("/scheduler/drain", json={"instance": "worker-2"}))
    assert (status, why) == (404, "can't drain: no instance 'worker-2' is running; there are: worker-001")
    assert (await api.post("/scheduler/drain", headers=STRANGER)).status_code == 403
    assert crons.health().status == "ok"


def test_another_instance_drains_and_one_of_an_older_version_is_named(two_instances: list[TestClient]) -> None:
    asker, _ = two_instances
    config = CronConfig(instance_id="worker-003", heartbeat_interval=0.1, instance_timeout=30)
    app = FastAPI()
    crons = Crons(
        app, SQLiteStateBackend("jobs.db"), DistributedLockManager(LockOfOlderVersion("jobs.db"), config), config
    )
    crons.cron("0 0 1 1 *", name="endless")(nothing)
    with TestClient(app):
        (drained,) = asker.post("/api/scheduler/drain", json={"instance": "worker-002"}).json()
        assert (drained["instance_id"], drained["draining"]) == ("worker-002", True)
        refused = asker.post("/api/scheduler/drain", json={"instance": "worker-003"})
        assert refused.status_code == 409
        assert refused.json()["detail"].startswith(
            f"can't drain worker-003 (fastapi-crons {version('fastapi-crons-core')}): it goes on as before, so its version is "
            "too old for that, or its lock store passes no requests on; send it SIGTERM"
        )
