"""A backfill that one worker of a server works on, and that each of them shows and cancels."""

from __future__ import annotations

import json
import os
import signal
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.programs import run
from tests.support import until
from tests.system.servers.server import Server, truth

pytestmark = pytest.mark.slow

APP = """
import asyncio, os
from pathlib import Path
from fastapi import FastAPI, Request
from fastapi_crons import Crons, JobContext, get_cron_router

app = FastAPI()
crons = Crons(app)
app.include_router(get_cron_router(), prefix="/api")


@app.middleware("http")
async def say_who_answers(request: Request, call_next):
    answer = await call_next(request)
    answer.headers["x-pid"] = str(os.getpid())
    return answer


@crons.cron("0 0 * * *", name="daily")
async def daily(context: JobContext):
    with open("truth.txt", "a") as truth:
        truth.write(f"daily {context.tick:%d} {os.getpid()}\\n")
    while not Path("go").exists():
        await asyncio.sleep(0.05)
"""
SPAN = {"from": "2020-01-01T00:00:00Z", "to": "2020-01-04T00:00:00Z", "one_by_one": True}
BACKFILLS = "/api/crons/daily/backfills"


@pytest.fixture
def server() -> Iterator[Server]:
    Path("app.py").write_text(APP)
    server = Server("--workers", "2")
    try:
        until(lambda: server.output().count("Cron scheduler started with 1 job") == 2)
        yield server
    finally:
        server.kill()


def begin(server: Server) -> dict[str, Any]:
    """A backfill with its first run under way."""
    runs = len(truth("daily"))
    begun = server.post("/api/crons/daily/backfill", SPAN)
    until(lambda: len(truth("daily")) > runs)
    return dict(begun)


def by_each_worker(server: Server, path: str, agrees: Callable[[dict[str, Any]], bool]) -> None:
    """Ask until both workers have given an answer that agrees; in between there is none that does not know of it."""
    agreed: set[str] = set()

    def both() -> bool:
        with urllib.request.urlopen(f"{server.url}{path}", timeout=30) as answer:
            if agrees(json.load(answer)):
                agreed.add(answer.headers["x-pid"])
        return len(agreed) == 2

    until(both)


def test_each_worker_shows_how_far_it_is_and_cancels_it(server: Server) -> None:
    begun = begin(server)
    by_each_worker(server, f"{BACKFILLS}/{begun['id']}", lambda found: found["current_run"] is not None)
    # Whichever worker answers, it is cancelled with the run that is under way.
    asked = server.post(f"{BACKFILLS}/{begun['id']}/cancel", {})
    assert asked["cancel_asked"] is True
    by_each_worker(server, f"{BACKFILLS}/{begun['id']}", lambda found: found["status"] == "cancelled")
    (run,) = server.runs("daily")
    assert (run["status"], run["trigger"]) == ("cancelled", "again")
    found = server.get(f"{BACKFILLS}/{begun['id']}")
    assert (found["done"], found["failed"], found["left"], len(truth("daily"))) == (0, 1, 3, 1)


def test_one_whose_worker_is_killed_is_interrupted_and_what_is_left_is_begun_again(server: Server) -> None:
    begun = begin(server)
    ((_, pid),) = truth("daily")
    os.kill(int(pid), signal.SIGKILL)
    until(lambda: server.output().count("Cron scheduler started with 1 job") == 3, what="the worker in its place")
    by_each_worker(server, f"{BACKFILLS}/{begun['id']}", lambda found: found["status"] == "interrupted")
    Path("go").touch()
    until(lambda: [run["status"] for run in server.runs("daily")] == ["interrupted"])
    again = begin(server)
    by_each_worker(server, f"{BACKFILLS}/{again['id']}", lambda found: found["status"] == "completed")
    found = server.get(f"{BACKFILLS}/{again['id']}")
    assert (found["ran"], found["done"], found["failed"]) == (0, 4, 0)
    assert [tick for tick, _ in truth("daily")] == ["01", "01", "02", "03", "04"]


def test_the_command_shows_and_cancels_that_of_a_server(server: Server) -> None:
    begun = begin(server)
    (shown,) = json.loads(command("backfills", "daily", "--json"))
    assert (shown["id"], shown["status"], shown["left"]) == (begun["id"], "running", 4)
    assert "Cancelling it: instance" in command("backfills", "daily", "--cancel")
    until(lambda: json.loads(command("backfills", "daily", "--json"))[0]["status"] == "cancelled")
    assert [run["status"] for run in server.runs("daily")] == ["cancelled"]


def command(*words: str) -> str:
    program = [sys.executable, "-m", "fastapi_crons", *words, "--app", "app:crons"]
    return run(program, check=True).stdout
