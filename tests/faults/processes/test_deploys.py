"""Processes that differ - in their code, their jobs, their schedules - and share one store."""

from __future__ import annotations

import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.faults.conftest import Place, Report, on_time, place_of
from tests.faults.fleet import Fleet, long_job
from tests.faults.processes.fleets import SAYS_HOW_IT_IS, health_of
from tests.faults.redis_server import needs_redis
from tests.support import until
from tests.system.servers.server import Server

pytestmark = [pytest.mark.slow, needs_redis]


def shared(function: str) -> str:
    """An app of its own, which has the job `shared` and runs another function under that name."""
    return (
        SAYS_HOW_IT_IS
        + f"""
@crons.cron("* * * * * *", name="shared")
async def {function}(context: JobContext):
    note("start", context)
"""
    )


@pytest.mark.parametrize("name", ["SQLite", pytest.param("Redis", marks=pytest.mark.full)])
def test_two_apps_that_give_a_name_to_different_functions_are_told_of_each_other(
    name: str, request: pytest.FixtureRequest
) -> None:
    place = place_of(name, request)
    with place.fleet(jobs=2, extra=shared("mine")) as mine, place.fleet(jobs=2, extra=shared("theirs")) as theirs:
        (first,) = mine.start()
        mine.wait_for("shared")
        (second,) = theirs.start()

        def names_it(status: str, findings: list[str]) -> bool:
            return status == "degraded" and any("another function" in each and "'shared'" in each for each in findings)

        health_of(second.pid, names_it)
        told = "'shared' is __main__:theirs here and __main__:mine in another running instance"
        assert told in mine.log.read_text()
        health_of(first.pid, names_it)


@pytest.mark.full
def test_a_function_that_was_renamed_since_the_last_start_is_no_lasting_concern(sqlite: Place) -> None:
    with sqlite.fleet(jobs=0, extra=shared("mine")) as before:
        before.start()
        before.wait_for("shared")
        before.stop()
    with sqlite.fleet(jobs=0, extra=shared("theirs")) as after:
        (process,) = after.start()
        # Two heartbeats later the functions of all instances have been compared.
        after.wait_for("shared", since=time.time() + 2.5)
        Path(f"health-{process.pid}.json").unlink()
        health_of(process.pid, lambda status, _: status == "ok")


@on_time
def test_four_workers_of_a_plain_server_run_every_tick_once_with_nothing_configured() -> None:
    Path("app.py").write_text(QUICK_START)
    server = Server("--workers", "4")
    try:
        until(lambda: Path("truth.txt").exists(), what="the first tick")
        # Until all four have started.
        until(lambda: server.output().count("Cron scheduler started with 5 jobs") == 4, what="four workers")
        since = time.time() + 1
        time.sleep(6)
        seen_until = time.time() - 1
        assert server.end() in (0, -signal.SIGTERM)
    finally:
        server.kill()
    ran = Counter(tuple(line.split()[:2]) for line in Path("truth.txt").read_text().splitlines())
    assert [key for key, times in ran.items() if times > 1] == []
    ticks = range(int(since), int(seen_until))
    assert [(f"job-{n}", tick) for n in range(5) for tick in ticks if not ran[f"job-{n}", str(tick)]] == []
    pids = {line.split()[2] for line in Path("truth.txt").read_text().splitlines()}
    assert len(pids) > 1, "they share the ticks"


QUICK_START = """
import os, time
from fastapi import FastAPI
from fastapi_crons import Crons, get_cron_router

app = FastAPI(title="My App with Cron Jobs")
crons = Crons(app)
app.include_router(get_cron_router(), prefix="/api")

def add(number):
    @crons.cron("* * * * * *", name=f"job-{number}")
    async def job(context):
        with open("truth.txt", "a") as file:
            file.write(f"job-{number} {int(context.tick.timestamp())} {os.getpid()}\\n")

for number in range(5):
    add(number)
"""


EVEN, ODD = "* * * * * */2", "* * * * * 1-59/2"


@on_time
@pytest.mark.full
@pytest.mark.parametrize("name", ["SQLite", "Redis across hosts"])
def test_a_schedule_that_is_deployed_by_a_rolling_restart_and_rolled_back_fires_nothing_at_once_and_nothing_twice(
    name: str, request: pytest.FixtureRequest
) -> None:
    place = place_of(name, request)
    with place.fleet(jobs=5, expr=EVEN) as old, place.fleet(jobs=5, expr=ODD) as new:
        changed = []

        def replace(one: Fleet, by: Fleet) -> None:
            # At another moment of the two seconds each time.
            time.sleep(0.37)
            one.processes[0].terminate()
            assert one.processes.pop(0).wait(10) == 0
            changed.append(time.time())
            by.start()

        old.start(3)
        time.sleep(2)
        began = time.time()
        for _ in range(3):
            replace(old, new)
        deployed = time.time()
        time.sleep(3)
        for _ in range(3):
            replace(new, old)
        rolled_back = time.time()
        time.sleep(3)
        ended = time.time()
        old.stop()
        history = place.history(old)
        starts = [line for line in old.lines() if line.event == "start"]
        assert [line for line in starts if not 0 <= line.at - line.tick < 1] == [], "something fired at once"
        assert len({(line.job, line.tick) for line in starts}) == len(starts), "a tick ran twice"
        for number in range(5):
            ticks = {line.tick for line in starts if line.job == f"job-{number}"}
            # Once a definition was registered, and its instance has said that it started, it alone is in force.
            for since, seen_until, rest in (
                (began - 2, changed[0], 0),
                (deployed, changed[3], 1),
                (rolled_back, ended, 0),
            ):
                due = {tick for tick in range(int(since) + 1, int(seen_until)) if tick % 2 == rest}
                assert due <= ticks, f"a tick of the rule in force was lost: {due - ticks}"
                assert not {tick for tick in ticks if since + 1 < tick < seen_until and tick % 2 != rest}
            runs, missed = history[f"job-{number}"]
            assert {row.reason for row in missed} <= {"schedule_changed"}
            assert [run for run in runs if run.missed_ticks] == []
            # What the rule in force had due in each gap ran, or is on record.
            gone = {tick for row in missed for tick in range(row.first_ts, row.last_ts + 1)}
            for since, seen_until, rest in ((began, deployed, 0), (changed[3], rolled_back, 1)):
                first_of_other = min(t for t in (*ticks, int(seen_until) + 1) if t > since and t % 2 != rest)
                due = {tick for tick in range(int(since) + 1, first_of_other - 1) if tick % 2 == rest}
                assert due <= ticks | gone, "a tick of the rule before was lost"


@on_time
@pytest.mark.parametrize("name", ["SQLite", pytest.param("Redis across hosts", marks=pytest.mark.full)])
def test_instances_with_other_lists_of_jobs_each_run_what_they_know(
    name: str, request: pytest.FixtureRequest, report: Report
) -> None:
    place = place_of(name, request)
    # Who takes a job that both know is not said; the one of its own is always its own.
    own_job = long_job(every="*", seconds=0)
    with place.fleet(jobs=10) as all_jobs, place.fleet(jobs=5, extra=own_job) as half:
        all_jobs.start(2)
        half.start(1)
        since = time.time() + 1
        time.sleep(5)
        seen_until = time.time() - 1
        half.stop()
        all_jobs.stop()
        sums = all_jobs.sums(since, seen_until, place.history(all_jobs))
        recovered = all_jobs.recovered_at(since)
        report(f"other lists of jobs, {name}", sums, recovered)
        assert recovered == 0, "a tick was late by more than a second"
        pid = half.processes[0].pid
        assert {line.pid for line in half.lines() if line.job == "long"} == {pid}
        assert {line.job for line in half.lines() if line.pid == pid} <= {"long", *(f"job-{n}" for n in range(5))}
