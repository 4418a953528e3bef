"""Several workers of one server: what they share."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import until
from tests.system.servers.server import Server

pytestmark = pytest.mark.slow

APP = """
from fastapi import FastAPI
from fastapi_crons import Crons, get_cron_router

app = FastAPI()
crons = Crons(app)
app.include_router(get_cron_router(), prefix="/api")

@crons.cron("0 0 1 1 *", name="yearly")
async def yearly(): ...
"""


def test_workers_that_share_a_file_are_healthy() -> None:
    Path("app.py").write_text(APP)
    server = Server("--workers", "2")
    try:
        until(lambda: server.output().count("Cron scheduler started with 1 job") == 2)
        assert server.get("/api/scheduler/health")["status"] == "ok"
    finally:
        server.end()


AT_START = """
import os
from fastapi import FastAPI
from fastapi_crons import Crons
from fastapi_crons.schedules import AtStart

app = FastAPI()
crons = Crons(app)

@crons.cron(AtStart(), name="warm")
async def warm():
    with open("ran.txt", "a") as ran:
        ran.write(f"{os.getpid()}\\n")
"""


def test_a_job_at_the_start_runs_once_for_two_workers_and_again_when_they_are_started_again() -> None:
    Path("app.py").write_text(AT_START)
    ran = Path("ran.txt")
    ran.touch()
    _start_two_workers(lambda: len(ran.read_text().split()) == 1)
    _start_two_workers(lambda: len(ran.read_text().split()) == 2)


def _start_two_workers(has_run: Callable[[], bool]) -> None:
    server = Server("--workers", "2")
    try:
        until(lambda: server.output().count("Cron scheduler started with 1 job") == 2)
        until(has_run)
        time.sleep(2)  # what the other worker would do, it has done by now
        assert has_run()
        assert "ERROR" not in server.output()
    finally:
        server.end()
