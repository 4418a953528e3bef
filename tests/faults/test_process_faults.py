"""Processes that die, freeze, fork or hang: what becomes of their ticks."""

from __future__ import annotations

import json
import re
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.faults.conftest import Place, Report, on_time, place_of
from tests.faults.fleet import Fleet, Line, long_job
from tests.faults.redis_server import needs_redis
from tests.support import until
from tests.system.server import Server

pytestmark = [pytest.mark.slow, needs_redis]

#: For jobs that do something in one process only, and once.
ONCE = """
def once(name):
    try:
        os.close(os.open(name, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True
"""


@pytest.fixture
def sqlite(request: pytest.FixtureRequest) -> Place:
    return place_of("SQLite", request)


def attempts(place: Place, tick: int, job: str = "long") -> list[tuple[int, str]]:
    """The runs of a tick on record: attempt and status."""
    return [(run.attempt, run.status) for run in place.runs(job) if run.tick_ts == tick]


def in_order(lines: list[Line]) -> list[int]:
    """The fencing tokens of a job's starts, in the order of the starts."""
    return [line.token for line in sorted(lines, key=lambda line: line.at) if line.event == "start"]


@pytest.mark.full
def test_processes_share_the_ticks_evenly_and_the_others_take_what_a_killed_one_leaves(
    sqlite: Place, report: Report
) -> None:
    place = sqlite
    with place.fleet(jobs=50) as fleet:
        fleet.start(4)
        time.sleep(2)
        since = time.time()
        time.sleep(10)
        killed = fleet.kill(fleet.processes[0])
        time.sleep(4)
        seen_until = time.time() - 1
        fleet.stop()
        sums = fleet.sums(since, seen_until, place.history(fleet))
        report("kill -9 of one of four, 50 jobs, SQLite", sums, fleet.recovered_at(killed))
        before = fleet.sums(since, killed, {}).shares
        assert len(before) == 4
        assert all(0.20 <= share / sum(before.values()) <= 0.30 for share in before.values()), before
        after = fleet.sums(killed + 1, seen_until, {}).shares
        assert len(after) == 3


@on_time
@pytest.mark.full
def test_a_run_that_is_cut_off_by_kill_9_runs_again_in_another_process(place: Place, report: Report) -> None:
    with place.fleet(jobs=6, extra=long_job("*/3", 1.8)) as fleet:
        # The one that dies came last: the others have heard of it by heartbeats only.
        (*_, last) = [fleet.start()[0] for _ in range(2)]
        since = time.time() + 1
        began = fleet.wait_for("long", since=since, pid=last.pid)
        time.sleep(0.3)
        killed = fleet.kill(last)
        again = fleet.wait_for("long", tick=began.tick, attempt=2)
        assert again.pid != began.pid
        assert again.at - killed < place.takeover
        fleet.wait_for("long", "end", tick=began.tick, attempt=2)
        following = fleet.wait_for("long", since=again.at)
        assert following.at - following.tick < 1
        time.sleep(1)
        seen_until = time.time()
        fleet.stop()
        assert attempts(place, began.tick) == [(1, "interrupted"), (2, "completed")]
        cut_off = next(run for run in place.runs("long") if run.tick_ts == began.tick)
        assert cut_off.ended_ts is not None
        assert cut_off.ended_ts - killed < place.takeover
        sums = fleet.sums(since, seen_until, place.history(fleet))
        report(f"kill -9 inside a job, {place.name}", sums, again.at - killed)
        assert fleet.recovered_at(killed) < place.takeover
        tokens = in_order([line for line in fleet.lines() if line.job == "long"])
        assert tokens == sorted(set(tokens))


DIES_BEFORE_THE_BODY = (
    ONCE
    + """
from datetime import datetime

@crons.add_before_run_hook
async def die(job, context):
    tick = int(datetime.fromisoformat(context["scheduled_time"]).timestamp())
    if job == "job-0" and armed() and once("died"):
        with open("died", "w") as file:
            file.write(f"{tick} {os.getpid()}")
        os.kill(os.getpid(), signal.SIGKILL)
"""
)


def test_a_tick_whose_process_dies_between_claim_and_body_is_recorded_and_runs_in_another(
    sqlite: Place, report: Report
) -> None:
    with sqlite.fleet(jobs=5, extra=DIES_BEFORE_THE_BODY) as fleet:
        fleet.start(2)
        since = fleet.arm()
        until(lambda: Path("died").exists() and Path("died").read_text(), 20, "a process that dies")
        tick, pid = map(int, Path("died").read_text().split())
        again = fleet.wait_for("job-0", tick=tick, attempt=2)
        assert again.pid != pid
        assert again.at - tick < sqlite.takeover
        time.sleep(2)
        seen_until = time.time()
        fleet.stop()
        assert attempts(sqlite, tick, "job-0") == [(1, "interrupted"), (2, "completed")]
        assert not any((line.job, line.tick, line.attempt) == ("job-0", tick, 1) for line in fleet.lines())
        report("kill -9 between claim and body", fleet.sums(since, seen_until, sqlite.history(fleet)), again.at - tick)


@on_time
@pytest.mark.full
def test_after_the_death_of_all_processes_the_next_ones_go_on_and_run_again_what_was_cut_off(
    place: Place, report: Report
) -> None:
    with place.fleet(jobs=6, extra=long_job()) as fleet:
        fleet.start(2)
        since = time.time() + 1
        began = fleet.wait_for("long", since=since)
        time.sleep(0.3)
        killed = [fleet.kill(process) for process in fleet.processes][-1]
        time.sleep(1.5)
        fleet.start(2)
        started = time.time()
        again = fleet.wait_for("long", tick=began.tick, attempt=2)
        assert again.at < (killed + place.takeover if place.elsewhere else started + 1)
        fleet.wait_for("long", "end", tick=began.tick, attempt=2)
        time.sleep(1)
        seen_until = time.time()
        fleet.stop()
        assert attempts(place, began.tick) == [(1, "interrupted"), (2, "completed")]
        sums = fleet.sums(since, seen_until, place.history(fleet))
        report(
            f"kill -9 of all, restarted, {place.name}",
            sums,
            fleet.recovered_at(killed, lateness=2),
            because="no instance ran the job until",
        )
        late = [line.at - line.tick for line in fleet.lines() if line.job != "long" and line.tick > started]
        assert max(late) < 1
        covering = [run for run in place.runs("job-0") if run.missed_ticks]
        assert covering, "the ticks of the downtime are named by the run that stands for them"


IN_ONE_SLEEP = """
@crons.cron("* * * * * */4", name="long")
async def long(context: JobContext):
    note("start", context)
    try:
        await asyncio.sleep(2.5)
    except asyncio.CancelledError:
        note("cancelled", context)
        raise
    note("end", context)
    return "the outcome"
"""


@pytest.mark.full
@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("Redis across hosts", long_job(seconds=30)),
        ("Redis across hosts", IN_ONE_SLEEP),
        ("SQLite across hosts", long_job(seconds=30)),
    ],
    ids=["Redis, works on", "Redis, has just ended", "SQLite, works on"],
)
def test_a_process_that_was_frozen_for_too_long_gives_up_what_another_host_has_taken_over(
    name: str, body: str, request: pytest.FixtureRequest, report: Report
) -> None:
    place, works_on = place_of(name, request), body != IN_ONE_SLEEP
    with place.fleet(jobs=6, extra=body, settings={"CRON_SHUTDOWN_TIMEOUT": "0.1"}) as fleet:
        fleet.start(2)
        since = time.time() + 1
        began = fleet.wait_for("long")
        time.sleep(0.3)
        frozen = fleet.by_pid(began.pid)
        frozen.send_signal(signal.SIGSTOP)
        stopped = time.time()
        again = fleet.wait_for("long", tick=began.tick, attempt=2)
        assert 4 < again.at - stopped < place.takeover
        assert again.token > began.token
        time.sleep(0.3)
        resumed = time.time()
        frozen.send_signal(signal.SIGCONT)
        if works_on:
            cancelled = fleet.wait_for("long", "cancelled", tick=began.tick)
            assert cancelled.at - resumed < (1 if place.redis is not None else 2)
            time.sleep(3)
        else:
            fleet.wait_for("long", "end", tick=began.tick, attempt=2)
            following = fleet.wait_for("long", since=again.at)
            assert following.token > again.token
            time.sleep(2)
        assert attempts(place, began.tick) == [(1, "interrupted"), (2, "running" if works_on else "completed")]
        seen_until = time.time() - 1
        fleet.stop()
        assert attempts(place, began.tick)[0] == (1, "interrupted")
        starts = [line for line in fleet.lines() if line.pid == frozen.pid and line.at > resumed]
        starts = [line for line in starts if line.event == "start"]
        assert starts, "it takes part again"
        assert [line for line in starts if line.at - line.tick > 1.5 or line.attempt > 1] == []
        sums = fleet.sums(since, seen_until, place.history(fleet))
        report(f"SIGSTOP for {resumed - stopped:.0f} s, then SIGCONT, {name}", sums, again.at - stopped)


@pytest.mark.full
@pytest.mark.parametrize("name", ["SQLite", "Redis"])
def test_nobody_on_the_same_host_takes_over_from_a_process_that_is_frozen(
    name: str, request: pytest.FixtureRequest, report: Report
) -> None:
    place = place_of(name, request)
    with place.fleet(jobs=6, extra=long_job("*/2", 1.2)) as fleet:
        (*_, frozen) = [fleet.start()[0] for _ in range(2)]
        since = time.time() + 1
        began = fleet.wait_for("long", since=since, pid=frozen.pid)
        time.sleep(0.4)
        frozen.send_signal(signal.SIGSTOP)
        stopped = time.time()
        time.sleep(8)
        assert [line for line in fleet.lines() if line.job == "long" and line.at > stopped] == []
        assert [line for line in fleet.lines() if line.job == "job-0" and line.at > stopped + 2], "others go on"
        frozen.send_signal(signal.SIGCONT)
        resumed = time.time()
        following = fleet.wait_for("long", since=resumed)
        time.sleep(1)
        seen_until = time.time()
        fleet.stop()
        assert following.token > began.token
        report(f"SIGSTOP for 8 s on one host, {name}", fleet.sums(since, seen_until, place.history(fleet)))
        # Its leases were in doubt when it went on: the store knew them as its own, so nothing was cancelled.
        assert attempts(place, began.tick) == [(1, "completed")]
        assert [line for line in fleet.lines() if line.event == "cancelled"] == []
        assert {line.pid for line in fleet.lines() if line.job == "long" and line.tick == began.tick} == {frozen.pid}


@on_time
@pytest.mark.parametrize("patience", ["30", pytest.param("0.3", marks=pytest.mark.full)], ids=["patient", "impatient"])
def test_a_process_that_is_told_to_end_leaves_nothing_running_and_its_ticks_to_the_others(
    patience: str, sqlite: Place, report: Report
) -> None:
    with sqlite.fleet(jobs=10, extra=long_job("*/3", 2.2), settings={"CRON_SHUTDOWN_TIMEOUT": patience}) as fleet:
        fleet.start(3)
        since = time.time() + 1
        began = fleet.wait_for("long", since=since)
        time.sleep(max(0.0, began.tick + 1 - time.time()))  # in the middle of the claims of the next tick
        ended = fleet.by_pid(began.pid)
        ended.terminate()
        told = time.time()
        assert ended.wait(10) == 0
        took = time.time() - told
        assert took < (3 if patience == "30" else 2.3)
        assert attempts(sqlite, began.tick) == [(1, "completed" if patience == "30" else "cancelled")]
        following = fleet.wait_for("long", since=told)
        assert following.at - following.tick < 1
        seen_until = time.time() - 1
        fleet.stop()
        assert all(line.at < told + 0.2 for line in fleet.lines() if line.pid == ended.pid and line.event == "start")
        statuses = Counter(run.status for job in ("long", *(f"job-{n}" for n in range(10))) for run in sqlite.runs(job))
        assert statuses.keys() <= {"completed", "cancelled"}
        recovered = fleet.recovered_at(told)
        report(
            f"SIGTERM in the middle of a job, timeout {patience} s",
            fleet.sums(since, seen_until, sqlite.history(fleet)),
            recovered,
        )
        assert recovered == 0, "a tick after the signal was late"


BLOCKS = (
    ONCE
    + """
import ctypes

@crons.cron("* * * * * *", name="long")
async def long(context: JobContext):
    note("start", context)
    if armed() and once("blocked"):
        BLOCK
    note("end", context)
"""
)
ONLY_THE_LOOP = BLOCKS.replace("BLOCK\n", "time.sleep(8)\n")
THE_WHOLE_INTERPRETER = BLOCKS.replace("BLOCK\n", "ctypes.PyDLL(None).sleep(SECONDS)\n")


@pytest.mark.full
@pytest.mark.parametrize(
    ("name", "body", "seconds"),
    [
        ("Redis across hosts", ONLY_THE_LOOP, 8),
        ("SQLite", THE_WHOLE_INTERPRETER, 8),
        ("Redis across hosts", THE_WHOLE_INTERPRETER, 4),
    ],
    ids=["loop, Redis across hosts", "interpreter, SQLite", "interpreter, Redis across hosts"],
)
def test_a_process_that_a_job_blocks_keeps_its_leases(
    name: str, body: str, seconds: int, request: pytest.FixtureRequest, report: Report
) -> None:
    place = place_of(name, request)
    with place.fleet(jobs=6, extra=body.replace("SECONDS", str(seconds))) as fleet:
        fleet.start(2)
        since = fleet.arm()
        until(Path("blocked").exists, 15, "a job that blocks its process")
        blocked = next(line for line in reversed(fleet.lines()) if line.job == "long" and line.event == "start")
        ended = fleet.wait_for("long", "end", tick=blocked.tick, pid=blocked.pid)
        assert ended.at - blocked.at > seconds - 0.1
        fleet.wait_for("long", since=ended.at)
        time.sleep(1.5)
        seen_until = time.time() - 1
        fleet.stop()
        starts = [line for line in fleet.lines() if line.job == "long" and line.event == "start"]
        assert [line for line in starts if line.tick == blocked.tick] == [blocked]
        assert [line for line in starts if blocked.at < line.at < ended.at] == []
        assert attempts(place, blocked.tick) == [(1, "completed")]
        if body == ONLY_THE_LOOP:
            assert re.search(r"the event loop has been blocked for \d seconds by job 'long'", fleet.log.read_text())
        sums = fleet.sums(since, seen_until, place.history(fleet))
        what = "event loop blocked" if body == ONLY_THE_LOOP else "GIL held"
        report(f"{what} for {seconds} s, {name}", sums, fleet.recovered_at(blocked.at))


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
        until(Path("said.json").exists, 15, "what the child says")
        child = int(Path("child").read_text())
        time.sleep(1)
        seen_until = time.time() - 1
        fleet.stop()
        said = json.loads(Path("said.json").read_text())
        assert said.pop("run").startswith("can't run job 'job-0': the scheduler has not started")
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
        until(Path("child").exists, 10, "a child")
        time.sleep(2.5)
        parent.terminate()
        assert parent.wait(10) == 0
        fleet.start()
        until(Path("said.json").exists, 15, "what the child says")
        time.sleep(2)
        seen_until = time.time() - 1
        fleet.stop()
        if name == "SQLite":
            with sqlite_rows("PRAGMA integrity_check") as rows:
                assert rows == [("ok",)]
        said = json.loads(Path("said.json").read_text())
        assert said.get("started") or "fork" in said["error"], said
        child = int(Path("child").read_text())
        assert bool(said.get("started")) == any(line.pid == child for line in fleet.lines())
        report(f"fork after start, the child starts too, {name}", fleet.sums(since, seen_until, place.history(fleet)))


SAYS_HOW_IT_IS = """
start_it, keeps = crons.start, []

async def start():
    await start_it()
    keeps.append(asyncio.create_task(say()))

async def say():
    path = f"health-{os.getpid()}"
    while True:
        with open(f"{path}.new", "w") as file:
            json.dump([crons.health().status, crons.health().findings], file)
        os.rename(f"{path}.new", f"{path}.json")
        await asyncio.sleep(0.2)

crons.start = start
"""


def health_of(pid: int, fits: Callable[[str, list[str]], bool]) -> None:
    """Wait until a process's own view of its health fits."""
    path = Path(f"health-{pid}.json")
    until(lambda: path.exists() and fits(*json.loads(path.read_text())), 10, f"the health of {pid} {path}")


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
def test_a_task_of_the_scheduler_that_fails_for_any_reason_goes_on_and_health_says_so(
    task: str, sqlite: Place, report: Report
) -> None:
    with sqlite.fleet(jobs=1, extra=f"options['fails'] = {task!r}" + FAILS_ONCE) as fleet:
        (process,) = fleet.start()
        since = fleet.arm()
        until(Path("failed").exists, 15, f"a failure of the {task} task")
        failed = time.time()
        if task != "heartbeat":

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


def test_four_workers_of_a_plain_server_run_every_tick_once_with_nothing_configured() -> None:
    Path("app.py").write_text(QUICK_START)
    server = Server("--workers", "4")
    try:
        until(lambda: Path("truth.txt").exists(), 20, "the first tick")
        # Until all four have started.
        until(lambda: server.output().count("Cron scheduler started with 5 jobs") == 4, 20, "four workers")
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
