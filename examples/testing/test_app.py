"""What the jobs do, and when, without waiting: a night passes in milliseconds."""

from __future__ import annotations

from collections.abc import AsyncIterator

import app as orders_app
import pytest
from fastapi.testclient import TestClient

from fastapi_crons import CronConfig, Crons
from fastapi_crons.state import MemoryStateBackend
from fastapi_crons.testing import VirtualClock


@pytest.fixture(autouse=True)
def _nothing_left_over() -> None:
    for kept in (orders_app.orders, orders_app.sent, orders_app.alerts):
        kept.clear()


@pytest.fixture
def clock() -> VirtualClock:
    """The day before the clocks go forward in Berlin."""
    return VirtualClock("2026-03-28T00:00:00Z")


@pytest.fixture
def history() -> MemoryStateBackend:
    return MemoryStateBackend()


@pytest.fixture
async def scheduler(clock: VirtualClock, history: MemoryStateBackend) -> AsyncIterator[Crons]:
    """The app's jobs and hooks, in a scheduler whose time is the test's."""
    scheduler = Crons(state_backend=history, clock=clock, config=CronConfig(enabled=True))
    scheduler.jobs.extend(orders_app.crons.get_jobs())
    scheduler.plugins.register(orders_app.Alerts())
    await scheduler.start()
    yield scheduler
    await scheduler.stop()


async def test_invoices_go_out_once_a_night(scheduler: Crons, clock: VirtualClock, history: MemoryStateBackend) -> None:
    await clock.advance(scheduler, days=3)
    runs = await history.runs("send_invoices")
    # 02:30 in Berlin. On the 29th there is none: the job runs at 03:00, the first instant after the gap.
    assert [f"{run.tick:%d %H:%M}" for run in reversed(runs)] == ["28 01:30", "29 01:00", "30 00:30"]


async def test_every_order_is_sent(scheduler: Crons) -> None:
    orders_app.orders += ["tea", "milk"]
    run = await scheduler.run_job("send_invoices")
    assert (run.status, run.result) == ("completed", 2)
    assert orders_app.sent == ["tea", "milk"]


async def test_a_mail_server_that_is_away_for_a_minute_costs_no_invoice(
    scheduler: Crons, clock: VirtualClock, history: MemoryStateBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    back_at = clock.now() + 90 * 60 + 30  # half a minute after the tick

    def send(order: str) -> None:
        if clock.now() < back_at:
            raise ConnectionError("the mail server does not answer")
        orders_app.sent.append(order)

    monkeypatch.setattr(orders_app, "send", send)
    orders_app.orders.append("tea")
    await clock.advance(scheduler, hours=2)
    (run,) = await history.runs("send_invoices")
    assert (run.status, run.attempt) == ("completed", 2)
    assert orders_app.sent == ["tea"]
    assert orders_app.alerts == []


async def test_somebody_hears_of_an_error_that_stays(
    scheduler: Crons, clock: VirtualClock, history: MemoryStateBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    def send(order: str) -> None:
        raise ValueError(f"no address for {order}")

    monkeypatch.setattr(orders_app, "send", send)
    orders_app.orders.append("tea")
    await clock.advance(scheduler, hours=2)
    (run,) = await history.runs("send_invoices")
    # Not an OSError: not tried again.
    assert (run.status, run.attempt) == ("failed", 1)
    assert orders_app.alerts == ["send_invoices: no address for tea"]
    assert orders_app.orders == ["tea"]


async def test_after_a_pause_cleaning_goes_on_with_the_next_quarter(
    scheduler: Crons, clock: VirtualClock, history: MemoryStateBackend
) -> None:
    await scheduler.pause("clean_up", note="the disk is being moved")
    await clock.advance(scheduler, hours=1)
    await scheduler.resume("clean_up")
    await clock.advance(scheduler, minutes=15)
    assert len(await history.runs("clean_up")) == 1
    (missed,) = await history.missed("clean_up")
    assert (missed.reason, missed.count) == ("paused", 4)


def test_the_app_takes_orders_and_runs_no_job() -> None:
    with TestClient(orders_app.app) as client:
        assert client.post("/orders/tea").json() == 1
        jobs = client.get("/api/crons").json()
        assert {job["name"]: job["status"] for job in jobs} == {"send_invoices": "pending", "clean_up": "pending"}
        assert client.post("/api/crons/send_invoices/run").status_code == 503
    assert orders_app.sent == []
