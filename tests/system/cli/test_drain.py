"""`drain`: two processes on one SQLite file, of which one is drained."""

from __future__ import annotations

import json
import os
from pathlib import Path
from subprocess import Popen

from tests.support import until
from tests.system.cli.commands import Start, call
from tests.system.conftest import ROOT

SHARED = """
import asyncio, os
from fastapi import FastAPI
from fastapi_crons import Crons

app = FastAPI()
crons = Crons(app)


@crons.cron("* * * * * *", name="tick")
async def tick(): ...


@crons.cron("0 0 1 1 *", name="long", timeout=600)
async def long(): ...


@crons.cron("* * * * * *", name="waits")
async def waits():
    open("waits", "w").close()
    while not os.path.exists("go-on"):
        await asyncio.sleep(0.1)
"""

OLDER = """
from fastapi import FastAPI
from fastapi_crons import CronConfig, Crons
from fastapi_crons.locking import DistributedLockManager
from tests.older_version import LockOfOlderVersion

app = FastAPI()
crons = Crons(app, lock_manager=DistributedLockManager(LockOfOlderVersion("crons.db"), CronConfig()))


@crons.cron("0 0 1 1 *", name="tick")
async def tick(): ...
"""


def scheduler(start: Start, name: str) -> Popen[str]:
    return start("start-scheduler", "--no-live", CRON_INSTANCE_ID=name, CRON_HEARTBEAT_INTERVAL="1")


def instances() -> dict[str, bool]:
    """The living instances, and whether they drain."""
    found = json.loads(call("status", "--json").stdout)["instances"]
    return {each["instance_id"]: each["draining"] for each in found}


def ticks_of(name: str | None = None) -> list[str]:
    found = json.loads(call("logs", "--job", "tick", "--json", "--limit", "500").stdout)
    return sorted(run["scheduled_time"] for run in found if name in (None, run["instance_id"]))


def test_an_instance_is_drained_while_the_other_one_goes_on(start: Start) -> None:
    Path("main.py").write_text(SHARED)
    scheduler(start, "worker-1")
    until(lambda: Path("waits").exists())
    scheduler(start, "worker-2")
    until(lambda: instances() == {"worker-1": False, "worker-2": False})
    unknown = call("drain", "worker-3")
    assert unknown.returncode == 1
    assert "no instance 'worker-3' is running; there are: worker-1, worker-2" in unknown.stderr
    left = call("drain", "worker-1", "--wait", "--timeout", "1", CRON_HEARTBEAT_INTERVAL="1")
    assert left.returncode == 3, left.stderr
    lines = left.stdout.splitlines()
    assert lines[0] == "Instance 'worker-1' is draining: it claims nothing more, until its process ends"
    assert lines[1].startswith("Still running: 'waits' (run ")
    assert lines[1].endswith("without limit")
    assert "Runs are left" in left.stderr
    assert "no other instance runs jobs" not in left.stderr
    Path("main.py").rename("main.txt")
    ((run,),) = (each["runs"] for each in json.loads(call("drain", "worker-1", "--json").stdout))
    assert (run["job_name"], run["ends_by"], run["limit"]) == ("waits", None, "unknown")
    Path("main.txt").rename("main.py")
    assert instances() == {"worker-1": True, "worker-2": False}
    assert ", draining" in call("status").stdout
    before = ticks_of("worker-1")
    until(lambda: len(ticks_of("worker-2")) > 5)
    assert ticks_of("worker-1") == before
    found = ticks_of()
    assert len(set(found)) == len(found)
    Path("go-on").touch()
    done = call("drain", "--wait", "--json", CRON_INSTANCE_ID="worker-1", CRON_HEARTBEAT_INTERVAL="1")
    assert done.returncode == 0, done.stderr
    assert [(each["instance_id"], each["draining"], each["runs"]) for each in json.loads(done.stdout)] == [
        ("worker-1", True, [])
    ]
    both = call("drain", "--wait", CRON_HEARTBEAT_INTERVAL="1")
    assert both.returncode == 0, both.stderr
    assert "note: no other instance runs jobs, so what is due waits until one starts" in both.stderr
    assert instances() == {"worker-1": True, "worker-2": True}
    assert both.stdout.splitlines()[-1] == "✅ Nothing runs there any more"


def test_what_can_not_be_drained_is_refused(start: Start) -> None:
    Path("main.py").write_text(SHARED)
    nothing_there = call("drain")
    assert nothing_there.returncode == 1
    assert "no instance of this host runs ticks; there are: none" in nothing_there.stderr
    assert call("drain", "--timeout", "3").returncode == 2
    assert not os.path.exists("go-on")


def test_an_instance_of_an_older_version_is_named(start: Start) -> None:
    Path("older.py").write_text(OLDER)
    where = {"CRON_INSTANCE_ID": "old", "CRON_HEARTBEAT_INTERVAL": "1", "PYTHONPATH": str(ROOT)}
    start("start-scheduler", "--no-live", "--app", "older:app", **where)
    until(lambda: instances() == {"old": False})
    refused = call("drain", "old", "--wait")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "can't drain old (fastapi-crons " in refused.stderr
    assert "it goes on as before, so its version is too old for that" in refused.stderr
