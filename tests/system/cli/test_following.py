"""`logs NAME --follow`: what another process's runs log, as they log it."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from subprocess import Popen

from tests.support import until
from tests.system.cli.commands import Start, call

TALKS = """
import asyncio, os
from fastapi import FastAPI
from fastapi_crons import Crons, JobContext

app = FastAPI()
crons = Crons(app)


@crons.cron("0 0 1 1 *", name="talks")
async def talks(context: JobContext):
    context.logger.info("begun\\nwith two lines")
    while not os.path.exists("go-on"):
        await asyncio.sleep(0.1)
    context.logger.warning("done")
    if os.path.exists("fail"):
        raise ValueError("no reports")


@crons.cron("0 0 1 1 *", name="silent")
async def silent(): ...
"""


def lines_of(process: Popen[str]) -> Iterator[str]:
    """What it prints, without times."""
    assert process.stdout is not None
    for line in process.stdout:
        yield re.sub(r"^( *)\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ", r"\1", line.rstrip("\n"))


def begun(start: Start) -> Popen[str]:
    """Another process that runs the job, and what it is running is on record."""
    process = start("run-job", "talks")
    until(lambda: "running" in call("logs", "talks").stdout)
    return process


def test_lines_of_a_run_elsewhere_and_of_those_that_follow_come_as_they_are_logged(start: Start) -> None:
    Path("main.py").write_text(TALKS)
    begun(start)
    following = start("logs", "talks", "--follow", PYTHONUNBUFFERED="1")
    lines = lines_of(following)
    assert next(lines).split()[:3] == ["running", "-", "talks"]
    assert next(lines) == "    INFO fastapi_crons.job: begun"
    assert next(lines) == "        | with two lines"
    Path("go-on").touch()
    assert next(lines) == "    WARNING fastapi_crons.job: done"
    assert next(lines).split()[0] == "completed"
    call("run-job", "silent")
    call("run-job", "talks")
    assert next(lines).split()[:3] == ["running", "-", "talks"]
    assert [next(lines) for _ in range(3)] == [
        "    INFO fastapi_crons.job: begun",
        "        | with two lines",
        "    WARNING fastapi_crons.job: done",
    ]
    assert next(lines).split()[0] == "completed"
    following.send_signal(signal.SIGINT)
    assert following.wait(30) == 0


def test_one_run_is_followed_to_its_end_and_the_exit_code_says_how_it_ended(start: Start) -> None:
    Path("main.py").write_text(TALKS)
    begun(start)
    (run,) = json.loads(call("logs", "talks", "--json").stdout)
    following = start("logs", "--run", run["id"][-8:], "--follow", PYTHONUNBUFFERED="1")
    lines = lines_of(following)
    assert next(lines).split()[0] == "running"
    Path("go-on").touch()
    assert "completed" in [line.split()[0] for line in lines]
    assert following.wait(30) == 0


def test_one_run_is_followed_in_json(start: Start) -> None:
    Path("main.py").write_text(TALKS)
    begun(start)
    (run,) = json.loads(call("logs", "talks", "--json").stdout)
    following = start("logs", "--run", run["id"], "--follow", "--json")
    assert following.stdout is not None
    first = following.stdout.readline()
    Path("fail").touch()
    Path("go-on").touch()
    objects = [json.loads(line) for line in (first, *following.stdout)]
    assert following.wait(30) == 1, "it failed"
    assert [each["status"] for each in objects if "status" in each] == ["running", "failed"]
    assert [(each["run_id"], each["number"], each["message"][:5]) for each in objects if "status" not in each] == [
        (run["id"], 1, "begun"),
        (run["id"], 2, "done"),
    ]
