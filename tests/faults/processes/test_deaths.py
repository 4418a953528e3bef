"""Processes that die: what becomes of their ticks and of their runs."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import pytest

from tests.faults.conftest import Place, Report, on_time
from tests.faults.fleet import Line, long_job
from tests.faults.processes.fleets import ONCE, attempts
from tests.faults.redis_server import needs_redis
from tests.support import until

pytestmark = [pytest.mark.slow, needs_redis]


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
        seen_until = fleet.decided_until()
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
        seen_until = fleet.decided_until()
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
        until(lambda: Path("died").exists() and Path("died").read_text(), what="a process that dies")
        tick, pid = map(int, Path("died").read_text().split())
        again = fleet.wait_for("job-0", tick=tick, attempt=2)
        assert again.pid != pid
        assert again.at - tick < sqlite.takeover
        seen_until = fleet.decided_until()
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
        time.sleep(2.5)  # at least two ticks: one alone would only be late
        fleet.start(2)
        started = time.time()
        again = fleet.wait_for("long", tick=began.tick, attempt=2)
        assert again.at < (killed + place.takeover if place.elsewhere else started + 1)
        fleet.wait_for("long", "end", tick=began.tick, attempt=2)
        seen_until = fleet.decided_until()
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
        assert ended.wait(20) == 0, "it waits for its job, and not for the whole of its patience"
        assert attempts(sqlite, began.tick) == [(1, "completed" if patience == "30" else "cancelled")]
        following = fleet.wait_for("long", since=told)
        assert following.at - following.tick < 1
        seen_until = fleet.decided_until()
        fleet.stop()
        assert all(line.tick <= told for line in fleet.lines() if line.pid == ended.pid and line.event == "start")
        statuses = Counter(run.status for job in ("long", *(f"job-{n}" for n in range(10))) for run in sqlite.runs(job))
        assert statuses.keys() <= {"completed", "cancelled"}
        recovered = fleet.recovered_at(told)
        report(
            f"SIGTERM in the middle of a job, timeout {patience} s",
            fleet.sums(since, seen_until, sqlite.history(fleet)),
            recovered,
        )
        assert recovered == 0, "a tick after the signal was late"


TALKS = """
@crons.cron("* * * * * */3", name="long")
async def long(context: JobContext):
    note("start", context)
    for number in range(600):
        context.logger.info("step %d of %d", number, context.attempt)
        await asyncio.sleep(0.1)
"""


def test_kill_9_leaves_what_a_run_had_logged(place: Place) -> None:
    with place.fleet(jobs=1, extra=TALKS) as fleet:
        first = fleet.start()[0]
        began = fleet.wait_for("long", pid=first.pid)
        fleet.start()
        until(lambda: time.time() - began.at > 5)
        fleet.kill(first)
        run = next(run for run in place.runs("long") if (run.tick_ts, run.attempt) == (began.tick, 1))
        until(lambda: place.run(run.id).status == "interrupted")
        kept = place.run(run.id)
        assert kept.log_dropped == 0
        messages = [line.message for line in kept.log]
        assert messages == [f"step {number} of 1" for number in range(len(messages))]
        assert len(messages) > 10, "up to a few seconds before the end"
