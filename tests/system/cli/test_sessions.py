"""The example of a real app from the command line: what jobs write with a session is committed, or rolled back."""

from __future__ import annotations

import shutil
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from tests.support import until
from tests.system.cli.commands import Start, call, runs
from tests.system.conftest import ROOT

pytestmark = pytest.mark.slow

#: As the example has it, but shipping each second.
APP = """
from bookshop.app import create_app
from bookshop.orders.jobs import ship
from fastapi_crons import CronJob, Crons
from fastapi_crons.schedules import Every

app = create_app()
Crons.of_app(app).jobs.replace(CronJob(ship, Every(seconds=1), "orders.ship", timeout=60))
"""
PARCELS = "SELECT order_id, run_id FROM parcels ORDER BY order_id"


class Carrier:
    """Takes the first parcel; says 503 to the second, `refusals` times, after `delay` seconds."""

    def __init__(self) -> None:
        self.refusals = 0
        self.delay = 0.0
        self.asked: list[str] = []

    def status_for(self, path: str) -> int:
        self.asked.append(path)
        if path == "/parcels/1":
            return 201
        time.sleep(self.delay)
        self.refusals -= 1
        return 503 if self.refusals >= 0 else 201


@pytest.fixture
def carrier(monkeypatch: pytest.MonkeyPatch) -> Iterator[Carrier]:
    """A carrier that the app in the current folder is told of. Two orders are paid."""
    carrier = Carrier()

    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(carrier.status_for(self.path))
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    shutil.copytree(ROOT / "examples/real_app/bookshop", "bookshop")
    Path("main.py").write_text(APP)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("BOOKSHOP_CARRIER_URL", f"http://127.0.0.1:{server.server_port}")
        assert call("run-job", "orders.ship").returncode == 0  # makes the tables
        order = "INSERT INTO orders (region, customer, book, cents, status) VALUES ('eu', 'ann', 'Emma', 900, 'paid')"
        for _ in range(2):
            rows(order)
        yield carrier
        server.shutdown()


def rows(query: str) -> list[Any]:
    with closing(sqlite3.connect("bookshop.db", timeout=10)) as connection, connection:
        return connection.execute(query).fetchall()


def shipped() -> list[bool]:
    """Whether each order is, as the database says."""
    return [status == "shipped" for (status,) in rows("SELECT status FROM orders ORDER BY id")]


def test_what_a_run_by_hand_writes_is_committed(carrier: Carrier) -> None:
    answer = call("run-job", "orders.ship")
    assert answer.returncode == 0, answer.stderr
    assert shipped() == [True, True]
    run = runs("orders.ship")[-1]
    assert rows(PARCELS) == [(1, run["id"]), (2, run["id"])]


def test_a_run_by_hand_that_fails_is_rolled_back(carrier: Carrier) -> None:
    carrier.refusals = 1
    answer = call("run-job", "orders.ship")
    assert answer.returncode == 1
    assert "503" in answer.stderr
    assert carrier.asked == ["/parcels/1", "/parcels/2"]
    assert (shipped(), rows(PARCELS)) == ([False, False], [])


def test_a_run_by_hand_that_is_out_of_time_is_rolled_back(carrier: Carrier) -> None:
    carrier.delay = 5
    answer = call("run-job", "orders.ship", "--timeout", "2")
    assert answer.returncode == 1
    assert "timed out" in answer.stderr
    assert carrier.asked == ["/parcels/1", "/parcels/2"]
    assert (shipped(), rows(PARCELS)) == ([False, False], [])


def test_a_run_by_hand_that_is_interrupted_is_rolled_back(carrier: Carrier, start: Start) -> None:
    carrier.delay = 5
    process = start("run-job", "orders.ship")
    until(lambda: "/parcels/2" in carrier.asked)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert runs("orders.ship")[-1]["status"] == "cancelled"
    assert (shipped(), rows(PARCELS)) == ([False, False], [])


def test_a_standalone_scheduler_rolls_back_what_failed_and_commits_what_did_not(carrier: Carrier, start: Start) -> None:
    carrier.refusals = 1
    process = start("start-scheduler")
    until(lambda: shipped() == [True, True])
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 0
    ticks = [run for run in runs("orders.ship") if run["scheduled_time"]]
    assert {run["status"] for run in ticks} == {"completed", "failed"}
    (shipping,) = (run for run in ticks if run["result"] == 2)
    assert rows(PARCELS) == [(1, shipping["id"]), (2, shipping["id"])]
