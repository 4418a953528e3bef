"""A scheduler that holds jobs and is attached to nothing says so where its process serves, and nowhere else."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.programs import run

pytestmark = pytest.mark.slow

UNATTACHED = """
from fastapi import FastAPI
from fastapi_crons import Crons, get_cron_router
crons = Crons()
app = FastAPI()
app.include_router(get_cron_router(), prefix="/api")


@crons.cron("0 0 1 1 *", name="yearly")
def yearly(): ...
"""
ATTACHED = UNATTACHED + "\nCrons(app)\n"
IN_LIFESPAN = UNATTACHED.replace(
    "app = FastAPI()",
    """
from contextlib import asynccontextmanager

@asynccontextmanager
async def lifespan(app):
    async with crons:
        yield

app = FastAPI(lifespan=lifespan)
""",
)
#: Serves for a moment, and says what is logged; the real delay is ten seconds.
SERVE = """
import sys, threading, time, urllib.error, urllib.request, uvicorn
import fastapi_crons.scheduler.serving as serving
serving.SERVES_AFTER = float(sys.argv[2])
server = uvicorn.Server(uvicorn.Config("main:app", port=int(sys.argv[1])))
def end():
    while not server.started:
        time.sleep(0.05)
    if len(sys.argv) > 3:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{sys.argv[1]}{sys.argv[3]}").read()
        except urllib.error.HTTPError:
            pass
    time.sleep(1.5)
    server.should_exit = True
threading.Thread(target=end, daemon=True).start()
server.run()
"""
SAID = "the scheduler made at main.py, line 4 has 1 job, but nothing starts it, so no job runs"


def _served(app: str, *arguments: str) -> str:
    Path("main.py").write_text(app)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    command = [sys.executable, "-c", SERVE, port, *arguments]
    return run(command, timeout=60, check=True).stderr


def test_it_is_said_when_the_process_has_served_for_a_while() -> None:
    assert _served(UNATTACHED, "0.2").count(SAID) == 1


def test_it_is_said_at_the_first_request_to_its_management_api() -> None:
    assert SAID in _served(UNATTACHED, "60", "/api/scheduler")


@pytest.mark.parametrize("app", [ATTACHED, IN_LIFESPAN])
def test_nothing_is_said_of_one_that_an_app_or_a_lifespan_starts(app: str) -> None:
    log = _served(app, "0.2")
    assert "Cron scheduler started with 1 job" in log
    assert "nothing starts it" not in log


def test_nothing_is_said_and_no_thread_is_made_where_nothing_serves() -> None:
    Path("main.py").write_text(UNATTACHED)
    look = "import main, threading; print(threading.active_count())"
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, timeout=60, check=True)
    assert (done.stdout, done.stderr.count("nothing starts it")) == ("1\n", 0)
