"""Backfills through the management API: begun, watched, cancelled, refused."""

from __future__ import annotations

from typing import Any

from httpx2 import AsyncClient

from fastapi_crons import Crons
from fastapi_crons.testing import VirtualClock
from tests.integration.api.client import STRANGER, path, problem

SPAN = {"from": "2026-02-28T20:00:00Z", "to": "2026-02-28T23:00:00Z"}


async def test_a_backfill_is_begun_watched_and_cancelled(crons: Crons, api: AsyncClient, clock: VirtualClock) -> None:
    @crons.cron("0 * * * *", name="job")
    async def job() -> None:
        await clock.sleep(60)

    await crons.start()
    planned = (await api.post(path("job", "backfill"), json={**SPAN, "dry_run": True})).json()
    assert (planned["id"], planned["status"], planned["ticks"], planned["runs"]) == (None, None, 4, 1)
    answer = await api.post(path("job", "backfill"), json={**SPAN, "one_by_one": True, "note": "the disk was full"})
    begun = answer.json()
    assert (answer.status_code, begun["status"], begun["runs"], begun["left"]) == (202, "running", 4, 4)
    assert (begun["from"], begun["note"]) == (SPAN["from"], "the disk was full")
    await clock.advance(crons, seconds=90)

    async def asked() -> Any:
        return (await api.get(path("job", "backfills", begun["id"]))).json()

    going_on = await asked()
    assert (going_on["done"], going_on["left"]) == (1, 3)
    run = (await api.get(path("job", "runs", going_on["current_run"]))).json()
    assert (run["trigger"], run["scheduled_time"], run["note"]) == (
        "again",
        "2026-02-28T21:00:00Z",
        "the disk was full",
    )
    assert problem(await api.post(path("job", "backfill"), json=SPAN))[0] == 409
    cancelled = await api.post(path("job", "backfills", begun["id"], "cancel"))
    assert cancelled.status_code == 202
    await clock.advance(crons, seconds=10)
    ended = await asked()
    assert (ended["status"], ended["done"], ended["failed"], ended["left"]) == ("cancelled", 1, 1, 2)
    assert [each["id"] for each in (await api.get(path("job", "backfills"))).json()] == [begun["id"]]
    assert problem(await api.post(path("job", "backfills", begun["id"], "cancel")))[0] == 409
    on = (await api.post(path("job", "backfill"), json={**SPAN, "one_by_one": True})).json()
    assert (on["ran"], on["runs"]) == (1, 3), "what was cancelled is run again"


async def test_what_can_not_be_used_is_refused(crons: Crons, api: AsyncClient, clock: VirtualClock) -> None:
    crons.cron("* * * * *", name="job")(lambda: None)
    await crons.start()
    for body, why in (
        ({"from": SPAN["to"], "to": SPAN["from"]}, "ends before it begins"),
        ({"from": "2026-02-01T00:00:00Z", "to": SPAN["to"]}, "10000 is the most"),
        ({"from": "2026-02-28T20:00:00", "to": SPAN["to"]}, "timezone"),
        ({"from": SPAN["from"]}, "to"),
    ):
        status, detail = problem(await api.post(path("job", "backfill"), json=body))
        assert (status, why in detail) == (422, True), detail
    assert problem(await api.get(path("job", "backfills", "nope")))[0] == 404
    assert problem(await api.post(path("nope", "backfill"), json=SPAN))[0] == 404
    assert problem(await api.post(path("job", "backfill"), json=SPAN, headers=STRANGER))[0] == 403
