"""What the management API says of stores that fail, and to whom."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from contextlib import closing
from typing import Any

import pytest
from httpx2 import AsyncClient

from fastapi_crons import Crons
from fastapi_crons.state import MemoryStateBackend
from fastapi_crons.testing import VirtualClock
from tests.conftest import MakeCrons
from tests.integration.api.client import STRANGER, client_of, path, problem
from tests.support import nothing, until_async


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

    states = runs = run = missed = find_runs = find_missed = find_ids = figures = _fail


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
            "/runs",
            "/missed",
            "/stats",
            "/scheduler",
        ):
            answer = await api.get(where)
            assert problem(answer)[0] == 503
            assert "hunter2" not in answer.text
            assert answer.headers["cache-control"] == "no-store"


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
