"""What is due in the next hours, as the management API shows it."""

from __future__ import annotations

import pytest
from httpx2 import AsyncClient

from fastapi_crons import Crons
from fastapi_crons.testing import VirtualClock
from tests.integration.api.client import STRANGER, problem
from tests.support import nothing


async def test_what_is_due_over_all_jobs(crons: Crons, api: AsyncClient, clock: VirtualClock) -> None:
    crons.cron("30 2 * * *", name="nightly", tags=["night"], timezone="Europe/Berlin")(nothing)
    await crons.start()
    await crons.pause("nightly", actor="ops", note="the disk is full")
    plan = (await api.get("/plan", params={"hours": 3})).json()
    assert (plan["since"], plan["until"]) == ("2026-03-01T00:00:00Z", "2026-03-01T03:00:00Z")
    minutely, nightly = plan["jobs"]
    assert (minutely["count"], minutely["every"], minutely["last"]) == (180, 60, "2026-03-01T03:00:00Z")
    assert nightly["ticks"] == ["2026-03-01T01:30:00Z"]
    assert (nightly["standing"], nightly["paused"]["note"]) == ("paused", "the disk is full")
    assert nightly["notes"] == ["paused since 2026-03-01 01:00:00 CET by ops (the disk is full): its ticks are not run"]
    assert [plan[what] for what in ("too_many", "crowds", "clock_changes")] == [[], [], []]

    async def jobs(**asked: object) -> list[str]:
        return [job["job_name"] for job in (await api.get("/plan", params=asked)).json()["jobs"]]  # type: ignore[arg-type]

    assert await jobs(tag="night") == ["nightly"]
    assert await jobs(job="minutely", tag="night") == []
    assert await jobs(until="2026-03-01T01:30:00Z") == ["minutely", "nightly"]
    assert await jobs(until="2026-03-01T01:29:59Z") == ["minutely"]
    stranger = (await api.get("/plan", params={"tag": "night"}, headers=STRANGER)).json()
    assert (stranger["idle"], "full" in str(stranger)) == (0, False)


async def test_a_plan_ends_by_one_of_two_arguments(crons: Crons, api: AsyncClient) -> None:
    await crons.start()
    refused = await api.get("/plan", params={"hours": 3, "until": "2026-03-01T01:30:00Z"})
    assert problem(refused) == (422, "hours and until can't both be given: each says when the plan ends")


@pytest.mark.parametrize("hours", ["0", "-1", "744.1", "nan", "inf", "x"])
async def test_a_span_that_can_not_be_planned_is_refused(crons: Crons, api: AsyncClient, hours: str) -> None:
    await crons.start()
    status, detail = problem(await api.get("/plan", params={"hours": hours}))
    assert status == 422
    assert "hours" in detail
    assert problem(await api.get("/plan", params={"until": "2026-02-28T00:00:00Z"}))[0] == 422
    assert problem(await api.get("/plan", params={"job": "nope"}))[0] == 404
