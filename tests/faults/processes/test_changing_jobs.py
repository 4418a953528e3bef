"""Jobs that are removed and replaced in one of two processes that share a store, while they run."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import pytest

from tests.faults.conftest import Place, on_time, place_of
from tests.faults.fleet import Fleet, Line
from tests.faults.processes.fleets import attempts
from tests.faults.redis_server import needs_redis
from tests.support import until

pytestmark = [pytest.mark.slow, needs_redis]

#: `change-<pid>` says what a process is to do with its jobs. `<name>-2` is what a job is replaced with, under its own name.
CHANGING = """
from fastapi_crons import CronJob


def working(label, seconds):
    async def work(context: JobContext):
        note(label, context)
        await asyncio.sleep(seconds)
        note("end of " + label, context)
    work.__qualname__ = work.__name__ = label
    return work


for name, seconds in (("going", 0), ("staying", 0), ("long", 2.5)):
    crons.jobs.append(CronJob(working("old", seconds), "* * * * * *", name))


def change():
    path = f"change-{os.getpid()}"
    try:
        with open(path) as file:
            what = file.read()
    except FileNotFoundError:
        return
    for name in ("going", "long"):
        if what == "remove":
            crons.jobs.remove(name)
        else:
            crons.jobs.replace(CronJob(working("new", 0), "* * * * * *", name))
    os.rename(path, f"changed-{os.getpid()}")


async def watch():
    while True:
        change()
        await asyncio.sleep(0.02)


start_it, keeps = crons.start, []

async def start():
    await start_it()
    keeps.append(asyncio.create_task(watch()))

crons.start = start
"""


def change(pid: int, what: str) -> float:
    """Have a process change its jobs; returns when it has."""
    Path("change.new").write_text(what)
    Path("change.new").rename(f"change-{pid}")
    until(Path(f"changed-{pid}").exists, what="the change")
    return time.time()


def begun(fleet: Fleet, job: str, since: float = 0.0) -> list[Line]:
    """When runs of a job began, one after the other."""
    lines = [line for line in fleet.lines() if line.job == job and not line.event.startswith("end")]
    return sorted((line for line in lines if line.at >= since), key=lambda line: line.at)


def assert_each_tick_has_one_fate(fleet: Fleet, place: Place, job: str, since: float, until: float) -> None:
    """Every tick of [since, until) ran once, or is on record as missed or as one that a later run stands for."""
    ran = Counter(line.tick for line in begun(fleet, job))
    assert [tick for tick, times in ran.items() if times > 1] == []
    runs, missed = place.runs(job), place.missed(job)
    told = {
        tick for run in runs if run.missed_since_ts and run.tick_ts for tick in range(run.missed_since_ts, run.tick_ts)
    }
    told |= {tick for each in missed for tick in range(each.first_ts, each.last_ts + 1)}
    assert [tick for tick in range(int(since) + 1, int(until)) if not (tick in ran or tick in told)] == []
    assert {run.status for run in runs} <= {"completed"}


@on_time
@pytest.mark.parametrize("name", ["SQLite", pytest.param("Redis", marks=pytest.mark.full)])
@pytest.mark.parametrize("what", ["remove", "replace"])
def test_a_change_in_one_process_loses_and_doubles_no_tick(
    name: str, what: str, request: pytest.FixtureRequest
) -> None:
    place = place_of(name, request)
    with place.fleet(jobs=0, extra=CHANGING) as fleet:
        one, _other = fleet.start(2)
        since = time.time()
        fleet.wait_for("going", "old", pid=one.pid)
        running = fleet.wait_for("long", "old", pid=one.pid, since=since, seconds=40)
        changed = change(one.pid, what)
        ended = fleet.wait_for("long", "end of old", pid=one.pid, tick=running.tick)
        assert ended.at > changed, "what is under way finishes as it began"
        time.sleep(5)
        seen_until = time.time() - 1
        fleet.stop()
        for job in ("going", "staying", "long"):
            assert_each_tick_has_one_fate(fleet, place, job, since, seen_until)
        # A tick that was claimed before the change runs.
        after = [line for job in ("going", "long") for line in begun(fleet, job, changed + 1.5)]
        assert {line.job for line in after} == {"going", "long"}
        here = {line.event for line in after if line.pid == one.pid}
        assert here == (set() if what == "remove" else {"new"})
        assert {line.event for line in after if line.pid != one.pid} <= {"old"}
        assert {line.pid for line in begun(fleet, "staying", changed)} == {each.pid for each in fleet.processes}
        assert attempts(place, running.tick) == [(1, "completed")]


@on_time
@pytest.mark.full
def test_jobs_that_are_removed_while_the_store_is_away_do_not_run_when_it_is_back(
    request: pytest.FixtureRequest,
) -> None:
    place = place_of("Redis", request)
    assert place.redis is not None
    with place.fleet(jobs=0, extra=CHANGING) as fleet:
        one, _other = fleet.start(2)
        fleet.wait_for("going", "old", pid=one.pid)
        since = time.time() - 2
        place.redis.kill()
        time.sleep(2)
        changed = change(one.pid, "remove")
        time.sleep(3)
        place.redis.start()
        fleet.wait_for("going", "old", since=changed, seconds=40)
        time.sleep(4)
        seen_until = time.time() - 1
        fleet.stop()
        for job in ("going", "staying"):
            assert_each_tick_has_one_fate(fleet, place, job, since, seen_until)
        assert [line for job in ("going", "long") for line in begun(fleet, job, changed) if line.pid == one.pid] == []
