"""The jobs of a group alone, in virtual time; and the whole app, made anew by each test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from fastapi.testclient import TestClient
from shop import mail
from shop.app import create_app
from shop.billing.jobs import invoices
from shop.billing.jobs import jobs as billing

from fastapi_crons import Crons
from fastapi_crons.state import MemoryStateBackend
from fastapi_crons.testing import VirtualClock


@pytest.fixture(autouse=True)
def _nothing_sent() -> None:
    mail.sent.clear()


@pytest.fixture
def clients() -> Iterator[list[TestClient]]:
    """Clients of two apps in one process. Their clock stands still, so no job runs but by hand."""
    with ExitStack() as stack:
        apps = [create_app(state_backend=MemoryStateBackend(), clock=VirtualClock()) for _ in range(2)]
        yield [stack.enter_context(TestClient(app)) for app in apps]


async def test_a_job_is_a_function() -> None:
    assert await invoices() == 1


async def test_a_group_in_a_scheduler_whose_time_is_the_tests() -> None:
    clock, history = VirtualClock("2026-03-30T12:00:00Z"), MemoryStateBackend()
    scheduler = Crons(state_backend=history, clock=clock)
    scheduler.include(billing)
    async with scheduler:
        await clock.advance(scheduler, days=2)
    assert [f"{run.tick:%d %H:%M}" for run in await history.runs("billing.invoices")] == ["01 00:00", "31 00:00"]
    (failed,) = await history.runs("billing.dunning")
    assert (failed.status, failed.attempt) == ("failed", 1)
    assert mail.sent[-1] == "billing.dunning failed: the list of debtors is empty"


def test_each_app_has_the_jobs_of_all_groups(clients: list[TestClient]) -> None:
    for client in clients:
        jobs = {job["name"]: job["tags"] for job in client.get("/api/crons").json()}
        assert jobs == {
            "billing.invoices": ["billing"],
            "billing.dunning": ["billing"],
            "berlin.count": ["berlin", "stock"],
            "tokyo.count": ["tokyo", "stock"],
        }


def test_what_one_app_does_is_not_in_the_history_of_another(clients: list[TestClient]) -> None:
    one, other = clients
    one.post("/api/crons/berlin.count/run")
    (run,) = one.get("/api/crons/berlin.count/runs").json()["runs"]
    assert run["result"] == "counted in berlin"
    assert other.get("/api/crons/berlin.count/runs").json()["runs"] == []
