"""Processes that are frozen or blocked: what becomes of their leases."""

from __future__ import annotations

import re
import signal
import time
from pathlib import Path

import pytest

from tests.faults.conftest import Report, place_of
from tests.faults.fleet import long_job
from tests.faults.processes.fleets import ONCE, attempts
from tests.faults.redis_server import needs_redis
from tests.support import until

pytestmark = [pytest.mark.slow, needs_redis]

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
        until(Path("blocked").exists, what="a job that blocks its process")
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
