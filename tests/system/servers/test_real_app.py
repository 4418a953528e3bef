"""The example of a real app under two workers that share SQLite files: each order that is confirmed is shipped once."""

from __future__ import annotations

import shutil
import sqlite3
import time
import urllib.error
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.support import until
from tests.system.conftest import ROOT
from tests.system.servers.server import Server

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


def _rows(query: str) -> list[Any]:
    with closing(sqlite3.connect("bookshop.db", timeout=10)) as connection:
        return connection.execute(query).fetchall()


@pytest.fixture(autouse=True)
def app(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "examples/real_app/bookshop", tmp_path / "bookshop")
    Path("app.py").write_text(APP)


def _order(server: Server, book: str) -> None:
    server.post("/orders", {"region": "eu", "customer": "ann", "book": book, "cents": 900})


def test_each_order_is_shipped_once_by_two_workers() -> None:
    server = Server("--workers", "2")
    try:
        until(lambda: server.output().count("Application startup complete") == 2)
        ordered = 0
        while ordered < 20 or len({run["instance_id"] for run in server.runs("orders.ship")}) < 2:
            assert ordered < 1000
            time.sleep(0.05)
            _order(server, f"book {ordered}")
            ordered += 1
        until(lambda: _rows("SELECT count(*) FROM orders WHERE status = 'paid'") == [(0,)])
        assert _rows("SELECT count(*), count(DISTINCT order_id) FROM parcels") == [(ordered, ordered)]
        runs = server.runs("orders.ship")
        ticks = [run["scheduled_time"] for run in runs]
        assert len(ticks) == len(set(ticks))
        # What the history says of a run is what the run has written.
        written = dict(_rows("SELECT run_id, count(*) FROM parcels GROUP BY run_id"))
        assert {run["id"]: run["result"] for run in runs if run["result"]} == written
        server.post("/api/crons/reports.bought_together/run", {})
        (together,) = server.runs("reports.bought_together")
        assert together["status"] == "completed"
        assert len(together["result"]) == 3
    finally:
        server.kill()
    assert "Traceback" not in server.output()


def test_an_order_that_can_not_be_kept_is_not_confirmed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOOKSHOP_DATABASE_URL", "sqlite+aiosqlite:///bookshop.db?timeout=0.1")
    server = Server()
    try:
        until(lambda: server.is_listening)
        with closing(sqlite3.connect("bookshop.db")) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(urllib.error.HTTPError) as refused:
                _order(server, "Emma")
            refused.value.close()
        assert refused.value.code == 500
        assert _rows("SELECT * FROM orders") == []
    finally:
        server.kill()
