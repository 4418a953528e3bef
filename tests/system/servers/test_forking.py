"""Jobs that fork: their children have no signal handlers of ours, and what is sent to them does not reach their parent."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import until
from tests.system.servers.server import Server

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing is forked here"),
]

APP = """
import json, multiprocessing, os, signal, time
from fastapi import FastAPI
from fastapi_crons import Crons, get_cron_router

app = FastAPI()
crons = Crons(app)
app.include_router(get_cron_router(), prefix="/api")
context = multiprocessing.get_context("fork")


def squared(number):
    return number * number


def children():
    codes = []
    for how in (signal.SIGTERM, signal.SIGINT):
        # Some are told before they have begun in earnest.
        for patience in (0, 0, 0, 0.2):
            child = context.Process(target=time.sleep, args=(60,))
            child.start()
            time.sleep(patience)
            # Python drops an interrupt that arrives while it runs the callbacks of os.register_at_fork.
            for attempt in range(6):
                os.kill(child.pid, how)
                child.join(30)
                if child.exitcode is not None:
                    break
            codes.append(child.exitcode)
    with context.Pool(2) as pool:
        squares = pool.map(squared, range(4))
    with open("forked.txt", "a") as file:
        file.write(json.dumps([os.getpid(), codes, squares]) + "\\n")
    return squares


@crons.cron("*/2 * * * * *", name="in a thread")
def in_a_thread():
    return children()


@crons.cron("1-59/2 * * * * *", name="on the loop")
async def on_the_loop():
    return children()
"""


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "app.py").write_text(APP)


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []

    def begin(*command: str) -> subprocess.Popen[bytes]:
        with Path("server.log").open("a") as log:
            started.append(subprocess.Popen([sys.executable, "-m", *command], stdout=log, stderr=subprocess.STDOUT))
        return started[-1]

    yield begin
    for process in started:
        if process.poll() is None:
            process.kill()
            process.wait(30)


def _forked() -> list[tuple[int, list[int], list[int]]]:
    lines = Path("forked.txt").read_text().splitlines() if Path("forked.txt").exists() else []
    return [tuple(json.loads(line)) for line in lines]


def _check(pid: int) -> None:
    for by, codes, squares in _forked():
        assert (by, squares) == (pid, [0, 1, 4, 9]), "a child runs no jobs of its parent"
        # An interrupt ends a child with a traceback, or before it has set that up.
        assert set(codes[:4]) == {-signal.SIGTERM}
        assert set(codes[4:]) <= {1, -signal.SIGINT}


def test_a_standalone_scheduler_goes_on_and_hears_what_is_meant_for_it(
    start: Callable[..., subprocess.Popen[bytes]],
) -> None:
    process = start("fastapi_crons", "start-scheduler")
    until(lambda: len(_forked()) >= 4 or process.poll() is not None, 60)
    assert process.poll() is None, Path("server.log").read_text()
    _check(process.pid)
    process.send_signal(signal.SIGTERM)
    assert process.wait(40) == 0
    assert "Cron scheduler stopped" in Path("server.log").read_text()


@pytest.mark.parametrize("job", ["in a thread", "on the loop"])
def test_a_run_by_hand_is_not_cancelled_by_what_its_children_are_told(
    start: Callable[..., subprocess.Popen[bytes]], job: str
) -> None:
    process = start("fastapi_crons", "run-job", job)
    assert process.wait(60) == 0, Path("server.log").read_text()
    _check(process.pid)


def test_a_server_goes_on_and_hears_what_is_meant_for_it() -> None:
    server = Server()
    try:
        until(lambda: len(_forked()) >= 4, 60)
        assert {run["status"] for job in ("in%20a%20thread", "on%20the%20loop") for run in server.runs(job)} <= {
            "completed",
            "running",
        }
        _check(server.process.pid)
        server.end()
        assert "Cron scheduler stopped" in server.output()
    finally:
        server.kill()
