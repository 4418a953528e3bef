"""Jobs with `run_in="process"`, however the app is started: each has to find its function again in a child."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import until

pytestmark = pytest.mark.slow

TASKS = """
import os, pathlib

def write(name):
    with open("ran.txt", "a") as file:
        file.write(f"{name} {os.getpid()} {os.getppid()}\\n")

def imported(name="imported"):
    write(name)
"""
#: One function of a module, and one of the module that is served or started.
MAIN = """
import sys
import uvicorn
from fastapi import FastAPI
from fastapi_crons import Crons
from tasks import imported, write

app = FastAPI()
crons = Crons(app)
crons.cron("* * * * * *", run_in="process")(imported)


@crons.cron("* * * * * *", run_in="process", kwargs={"name": "in_main"})
async def in_main(name):
    write(name)


if __name__ == "__main__":
    uvicorn.run("main:app" if sys.argv[1] == "name" else app, host="127.0.0.1", port=int(sys.argv[2]))
"""
GUNICORN = ["--workers", "2", "--worker-class", "uvicorn_worker.UvicornWorker", "--no-control-socket"]
STARTED = {
    "uvicorn": ["-m", "uvicorn", "main:app", "--port", "{port}"],
    "uvicorn's workers": ["-m", "uvicorn", "main:app", "--port", "{port}", "--workers", "2"],
    "a script that serves its name": ["main.py", "name", "{port}"],
    "a script that serves its app": ["main.py", "app", "{port}"],
    "start-scheduler": ["-m", "fastapi_crons", "start-scheduler", "--app", "main:app"],
    "gunicorn": ["-m", "gunicorn", "main:app", "--bind", "127.0.0.1:{port}", *GUNICORN],
}


@pytest.fixture(autouse=True)
def _modules() -> None:
    Path("tasks.py").write_text(TASKS)
    Path("main.py").write_text(MAIN)


def _ran() -> list[tuple[str, int, int]]:
    """What ran, each with its process and the parent of that."""
    lines = Path("ran.txt").read_text().splitlines() if Path("ran.txt").exists() else []
    return [(name, int(pid), int(parent)) for name, pid, parent in map(str.split, lines)]


@pytest.mark.parametrize("how", STARTED)
def test_a_job_runs_in_a_process_of_its_own(how: str) -> None:
    if how == "gunicorn" and importlib.util.find_spec("gunicorn") is None:
        pytest.skip("gunicorn is not installed")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, *(word.format(port=port) for word in STARTED[how])]
    log = Path("server.log")
    with log.open("w") as file:
        server = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
    try:
        until(lambda: server.poll() is not None or {name for name, _, _ in _ran()} == {"imported", "in_main"})
        assert server.poll() is None, log.read_text()
        parents = {parent for _, _, parent in _ran()}
        assert not parents & {pid for _, pid, _ in _ran()}
        assert os.getpid() not in parents
    finally:
        server.terminate()
        server.wait(30)
    assert "Traceback" not in log.read_text()
    # A child ends with the process whose job it ran.
    until(lambda: not any(_lives(pid) for _, pid, _ in _ran()))


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("job", ["imported", "in_main"])
def test_a_run_by_hand_is_in_a_process_of_its_own(job: str) -> None:
    command = [sys.executable, "-m", "fastapi_crons", "run-job", job, "--app", "main:app", "--set", "name=by-hand"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    ((name, pid, parent),) = _ran()
    assert name == "by-hand"
    assert pid != parent != os.getpid()
