"""Processes that fork, and tasks that fail: what becomes of the scheduler."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.faults.conftest import Place, Report, place_of
from tests.faults.processes.fleets import ONCE, SAYS_HOW_IT_IS, health_of
from tests.faults.redis_server import needs_redis
from tests.support import until

pytestmark = [pytest.mark.slow, needs_redis]

FORKS = (
    ONCE
    + """
@crons.cron("* * * * * *", name="forks")
async def forks():
    if not once("forked"):
        return
    child = os.fork()
    if child:
        with open("child", "w") as file:
            file.write(str(child))
        return
    said = {}
    try:
        said["running"], said["health"] = crons.running, crons.health().status
        WHAT_THE_CHILD_DOES
    except BaseException as error:
        said["error"] = repr(error)
    with open("said.json.new", "w") as file:
        json.dump(said, file)
    os.rename("said.json.new", "said.json")
    os._exit(0)
"""
)


LOOKS = FORKS.replace(
    "WHAT_THE_CHILD_DOES",
    """
        async def use():
            await crons.stop()
            try:
                await crons.run_job("job-0")
            except Exception as error:
                said["run"] = str(error)
            await asyncio.sleep(2)
        asyncio.run(use())
""",
)


STARTS_ITS_OWN = FORKS.replace(
    "WHAT_THE_CHILD_DOES",
    """
        async def use():
            await crons.start()
            said["started"] = crons.running
            await asyncio.sleep(6)
            await crons.stop()
        asyncio.run(use())
""",
)


@pytest.mark.parametrize("name", ["SQLite", pytest.param("Redis", marks=pytest.mark.full)])
def test_a_child_that_was_forked_from_a_started_process_leaves_its_scheduler_alone(
    name: str, request: pytest.FixtureRequest, report: Report
) -> None:
    place = place_of(name, request)
    with place.fleet(jobs=5, extra=LOOKS) as fleet:
        fleet.start(2)
        since = time.time() + 1
        until(Path("said.json").exists, what="what the child says")
        child = int(Path("child").read_text())
        time.sleep(1)
        seen_until = fleet.decided_until()
        fleet.stop()
        said = json.loads(Path("said.json").read_text())
        assert said.pop("run").startswith("can't run job 'job-0': the scheduler is not running")
        assert said == {"running": False, "health": "unhealthy"}
        assert [line for line in fleet.lines() if line.pid == child] == []
        report(
            f"fork after start, {name}", fleet.sums(since, seen_until, place.history(fleet)), fleet.recovered_at(since)
        )


@pytest.mark.full
@pytest.mark.parametrize("name", ["SQLite", "Redis"])
def test_a_forked_child_that_starts_the_scheduler_is_refused_or_takes_part_and_breaks_nothing(
    name: str, request: pytest.FixtureRequest, report: Report
) -> None:
    place = place_of(name, request)
    with place.fleet(jobs=12, extra=STARTS_ITS_OWN) as fleet:
        (parent,) = fleet.start()
        since = time.time() + 1
        until(Path("child").exists, what="a child")
        time.sleep(2.5)
        parent.terminate()
        assert parent.wait(10) == 0
        fleet.start()
        until(Path("said.json").exists, what="what the child says")
        time.sleep(2)
        seen_until = fleet.decided_until()
        fleet.stop()
        if name == "SQLite":
            with sqlite_rows("PRAGMA integrity_check") as rows:
                assert rows == [("ok",)]
        said = json.loads(Path("said.json").read_text())
        assert said.get("started") or "fork" in said["error"], said
        child = int(Path("child").read_text())
        assert bool(said.get("started")) == any(line.pid == child for line in fleet.lines())
        report(f"fork after start, the child starts too, {name}", fleet.sums(since, seen_until, place.history(fleet)))


FAILS_ONCE = (
    ONCE
    + SAYS_HOW_IT_IS
    + """

from fastapi_crons.locking import SQLiteLockBackend
from fastapi_crons.state import SQLiteStateBackend

def fails():
    return armed() and once("failed")

def fail_at_a_wait(task):
    if task == "dispatch" and fails():
        raise seam.Unheard(task)

clock.hurried = "prune"
CALLS = {
    "record": (SQLiteStateBackend, "write"),
    "release": (SQLiteLockBackend, "release"),
    "prune": (SQLiteStateBackend, "prune"),
    "heartbeat": (SQLiteLockBackend, "beat"),
}
if options["fails"] == "dispatch":
    clock.on_wait = fail_at_a_wait
else:
    seam.fail_calls(*CALLS[options["fails"]], fails)
"""
)


@pytest.mark.full
@pytest.mark.parametrize("task", ["dispatch", "record", "release", "prune", "heartbeat"])
def test_a_task_that_fails_for_any_reason_goes_on_and_health_says_so(task: str, sqlite: Place, report: Report) -> None:
    with sqlite.fleet(jobs=1, extra=f"options['fails'] = {task!r}" + FAILS_ONCE) as fleet:
        (process,) = fleet.start()
        since = fleet.arm()
        until(Path("failed").exists, what=f"a failure of the {task} task")
        failed = time.time()
        if task in ("dispatch", "record"):  # whatever else a store raises counts as no answer

            def tells(status: str, findings: list[str]) -> bool:
                return status == "unhealthy" and any(f"the {task} task failed" in each for each in findings)

            health_of(process.pid, tells)
        time.sleep(max(0.0, failed + 4 - time.time()))
        seen_until = time.time() - 1
        with sqlite_rows("SELECT heartbeat_ts FROM lock_instance") as ((beaten,),):
            assert time.time() - beaten < 2.5
        fleet.stop()
        sums = fleet.sums(since, seen_until, sqlite.history(fleet))
        recovered = fleet.recovered_at(failed, until=seen_until)
        report(f"BaseException in the {task} task", sums, recovered)
        assert recovered < 2


@contextmanager
def sqlite_rows(sql: str) -> Iterator[list[tuple[Any, ...]]]:
    """What a query finds in the store's file."""
    with closing(sqlite3.connect("crons.db")) as connection:
        yield connection.execute(sql).fetchall()
