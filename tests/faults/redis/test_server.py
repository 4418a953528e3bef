"""A Redis server that dies, stalls, forgets or refuses: what becomes of ticks."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable

import pytest

from fastapi_crons import Run
from fastapi_crons.state import HistoryLimits
from fastapi_crons_redis import RedisStateBackend
from tests.faults.conftest import Report, on_time
from tests.faults.redis_server import HOST, RedisServer, connection_to, free_port, needs_redis
from tests.faults.watch import RECOVERS_IN, assert_no_body_twice, assert_quiet, assert_tokens_grow, watched
from tests.support import until

pytestmark = [pytest.mark.slow, needs_redis]

#: Jobs in threads, which nobody can end, that are due every six seconds, one after the other.
IN_THREADS = """
def in_thread(number, seconds):
    @crons.cron(f"* * * * * {number}/6", name=f"thread-{number}")
    def thread(context: JobContext):
        note("start", context)
        time.sleep(seconds)
        note("end", context)

for number, seconds in enumerate((0.8, 1.5, 2.2, 3.5, 4.5, 5.5)):
    in_thread(number, seconds)
"""


def test_a_server_that_is_killed_and_comes_back_with_all_it_knew_costs_no_tick(
    own_redis: RedisServer, report: Report
) -> None:
    with watched(own_redis.url) as watch:
        time.sleep(1)
        own_redis.kill()
        time.sleep(2)
        own_redis.start()
        sums, recovery = watch.ended(time.time())
        report("kill -9 of the server, restart, AOF always", sums, recovery, because="the lock store did not answer")
        assert recovery is not None
        assert recovery <= RECOVERS_IN + 1
        assert_quiet(watch.log())


@pytest.mark.full
def test_a_server_that_comes_back_empty_makes_no_tick_run_twice(report: Report) -> None:
    with RedisServer() as server, watched(server.url) as watch:
        time.sleep(1)
        server.kill()
        time.sleep(2)
        server.start()
        sums, recovery = watch.ended(time.time())
        # What had run is known to the truth only: the history of it is gone with the server. The lock store did not answer,
        # and then had lost its records.
        report("kill -9 of the server, restart, nothing persisted", sums, recovery, because="the lock store")
        assert recovery is not None
        assert recovery <= RECOVERS_IN + 1
        assert_quiet(watch.log())


@pytest.mark.full
def test_a_server_that_lost_its_last_second_doubles_no_tick_of_another_time(
    record_property: Callable[[str, object], None],
) -> None:
    with RedisServer(appendonly="everysec") as server, watched(server.url) as watch:
        time.sleep(1)
        kept, lost_since = (server.folder / "appendonly.aof").stat().st_size, time.time()
        time.sleep(1.2)
        server.kill()
        killed = time.time()
        # As when the power went: what the disk had not got is gone.
        os.truncate(server.folder / "appendonly.aof", kept)
        time.sleep(2)
        server.start()
        sums, recovery = watch.ended(time.time())
        record_property("fault", sums.row("power cut of the server, AOF everysec", recovery))
        assert [tick for _, tick in sums.doubled if not lost_since - 1 <= tick <= killed] == []
        assert sums.missed == []
        assert sums.overlapped == []
        assert recovery is not None
        assert recovery <= RECOVERS_IN + 1


@pytest.mark.full
def test_a_server_that_stalls_beyond_the_deadline_makes_no_run_of_ticks_out_of_grace(
    own_redis: RedisServer, report: Report
) -> None:
    with watched(own_redis.url, CRON_INSTANCE_TIMEOUT="14", CRON_MISFIRE_GRACE_TIME="3") as watch:
        own_redis.pause()
        time.sleep(7)
        own_redis.resume()
        sums, recovery = watch.ended(time.time())
        report("SIGSTOP of the server, 7 s", sums, recovery, because="the lock store did not answer")
        assert recovery is not None
        assert recovery <= RECOVERS_IN + 1
        assert watch.latest() <= 3 + 0.5
        assert_no_body_twice(watch)
        assert_quiet(watch.log())


@pytest.mark.full
def test_no_body_that_came_to_its_end_runs_again_after_a_stall(own_redis: RedisServer, report: Report) -> None:
    # A claim that was sent before or during the stall is granted at its end, by a store that last heard of its holder
    # longer ago than instances may be silent.
    with watched(own_redis.url, seconds=0.2) as watch:
        own_redis.pause()
        time.sleep(5.5)
        own_redis.resume()
        sums, _ = watch.ended(time.time(), 3)
        report("SIGSTOP of the server, 5.5 s, runs that end at once", sums)
        assert_no_body_twice(watch)
        assert_quiet(watch.log())


@pytest.mark.full
def test_runs_give_up_their_leases_while_the_server_is_silent_for_too_long(
    own_redis: RedisServer, report: Report
) -> None:
    with watched(own_redis.url, jobs=5, seconds=6, CRON_INSTANCE_TIMEOUT="4") as watch:
        assert len(watch.lines("start")) == 5
        own_redis.pause()
        paused = time.time()
        until(lambda: len(watch.lines("cancelled")) == 5, what="runs that were given up")
        given_up = time.time() - paused
        time.sleep(max(0.0, paused + 5.5 - time.time()))
        own_redis.resume()
        until(lambda: len(watch.lines("start")) >= 10, RECOVERS_IN + 1, "the runs' second attempts")
        # What was due meanwhile is written down when those have ended.
        until(lambda: len(watch.lines("start")) >= 15, 6 + RECOVERS_IN, "runs after them")
        sums, _ = watch.ended()
        report("SIGSTOP of the server, 5.5 s, in runs that take longer", sums)
        # Others may take the runs over 4 s after the last heartbeat, which was at most 1 s old.
        assert 2 <= given_up <= 4
        found = sorted(
            (run.started_ts, run.attempt, run.status) for runs, _ in watch.history().values() for run in runs
        )
        assert [row[1:] for row in found[:10]] == [(1, "interrupted")] * 5 + [(2, "completed")] * 5
        assert_quiet(watch.log())


@pytest.mark.parametrize(
    "seconds", [8, pytest.param(3, marks=pytest.mark.full), pytest.param(14, marks=pytest.mark.full)]
)
def test_runs_that_end_while_every_write_is_refused_count_and_are_not_run_again(
    own_redis: RedisServer, report: Report, seconds: float
) -> None:
    # In threads, which nobody can end: some end before it is in doubt whose their leases are, some after.
    with watched(own_redis.url, jobs=2, every=6, extra=IN_THREADS, CRON_INSTANCE_TIMEOUT="4") as watch:
        until(lambda: any(line.job.startswith("thread") for line in watch.lines("start")), what="threads")
        own_redis.cli("REPLICAOF", HOST, free_port())
        time.sleep(seconds)
        own_redis.cli("REPLICAOF", "NO", "ONE")
        time.sleep(12)
        sums, _ = watch.ended(time.time())
        report(f"every write refused for {seconds:g} s", sums)
        lines = [line for line in watch.lines("start") if line.job.startswith("thread")]
        starts = Counter((line.job, line.tick) for line in lines)
        assert starts.most_common(1)[0][1] == 1, "a function that came to its end was called again"
        assert {line.attempt for line in lines} == {1}
        assert "its process is gone" not in watch.log()
        assert_quiet(watch.log())


@pytest.mark.full
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_through_many_faults_on_one_host_nothing_that_ended_runs_again(
    own_redis: RedisServer, report: Report, seed: int
) -> None:
    chance = random.Random(seed)
    with watched(own_redis.url, 3, jobs=5, seconds=1.2, every=3, extra=IN_THREADS, CRON_INSTANCE_TIMEOUT="4") as watch:

        def freeze(seconds: float) -> None:
            process = chance.choice(watch.fleet.processes)
            process.send_signal(signal.SIGSTOP)
            time.sleep(seconds)
            process.send_signal(signal.SIGCONT)

        def stall(seconds: float) -> None:
            own_redis.pause()
            time.sleep(seconds)
            own_redis.resume()

        def refuse(seconds: float) -> None:
            own_redis.cli("REPLICAOF", HOST, free_port())
            time.sleep(seconds)
            own_redis.cli("REPLICAOF", "NO", "ONE")

        for _ in range(10):
            chance.choice((freeze, stall, refuse))(chance.uniform(0.5, 9))
            time.sleep(chance.uniform(0.5, 4))
        sums, _ = watch.ended(time.time(), 15)
        report(f"ten faults, seed {seed}", sums)
        assert_no_body_twice(watch)
        assert "its process is gone" not in watch.log()
        assert_quiet(watch.log())


@pytest.mark.full
def test_a_server_that_is_full_starts_nothing_and_says_so_seldom(own_redis: RedisServer, report: Report) -> None:
    async def read_while_full() -> list[Run]:
        state = RedisStateBackend.on(connection_to(own_redis.url))
        await state.open("default", HistoryLimits(10_000, 30))
        own_redis.cli("CONFIG", "SET", "maxmemory", "100kb")
        try:
            await asyncio.sleep(4)
            return await state.runs("job-0", limit=5)
        finally:
            await state.close()

    with watched(own_redis.url, jobs=20) as watch:
        full_since = time.time()
        assert asyncio.run(read_while_full())
        said = watch.log()
        starts = [line for line in watch.lines("start") if line.at > full_since + 1]
        own_redis.cli("CONFIG", "SET", "maxmemory", "0")
        sums, recovery = watch.ended(time.time())
        report("OOM", sums, recovery, because="OOM")
        assert recovery is not None
        assert recovery <= RECOVERS_IN + 1
        assert starts == []
        # The steps of a backoff that starts at 0.1 s: 8 at most in 4 s. Two processes.
        for what in ("the lock store does not answer, nothing is started", "the state store does not answer"):
            lines = [line for line in said.splitlines() if what in line and "OOM" in line]
            assert len(lines) <= 2 * 8 * (2 if "lock" in what else 1), said
        assert "the lock store does not answer, nothing is started" in said
        assert len([line for line in said.splitlines() if "OOM" in line]) <= 2 * (3 * 8 + 5)
        assert_no_body_twice(watch)
        assert_quiet(watch.log())


@on_time
@pytest.mark.full
def test_a_server_that_forgets_the_scripts_costs_no_tick(own_redis: RedisServer, report: Report) -> None:
    with watched(own_redis.url) as watch:
        for _ in range(8):
            own_redis.cli("SCRIPT", "FLUSH")
            time.sleep(0.5)
        sums, _ = watch.ended()
        report("SCRIPT FLUSH, twice a second", sums)
        assert sums.on_record == 0
        assert watch.latest() < 1
        assert "does not answer" not in watch.log()
        assert_quiet(watch.log())


@on_time
def test_ticks_go_on_after_all_records_were_deleted(own_redis: RedisServer, report: Report) -> None:
    with watched(own_redis.url) as watch:
        time.sleep(1.9 - time.time() % 1)  # so that the next claims are the first to find nothing
        own_redis.cli("FLUSHALL")
        flushed = time.time()
        sums, recovery = watch.ended(flushed, 5.0)
        report("FLUSHALL", sums, recovery, because="the lock store had lost its records")
        assert recovery is not None
        assert recovery <= 3  # for so long nothing is granted, until all instances have said what they handled
        assert watch.log().count("has lost its records") <= 2  # once for each process
        assert "has lost its records" in watch.log()
        assert_quiet(watch.log())


@pytest.mark.full
def test_runs_that_go_on_take_their_leases_back_after_all_records_were_deleted(
    own_redis: RedisServer, report: Report
) -> None:
    with watched(own_redis.url, jobs=8, seconds=5.5, CRON_LOCK_RENEWAL_INTERVAL="1") as watch:
        time.sleep(0.7)
        assert len(watch.lines("start")) == 8
        own_redis.cli("FLUSHALL")
        flushed = time.time()
        time.sleep(10)
        sums, _ = watch.ended()
        # What was on record before is gone with the rest.
        sums.missed = [(job, tick) for job, tick in sums.missed if tick > flushed]
        report("FLUSHALL while runs go on", sums)
        assert watch.lines("cancelled") == []
        assert "its process is gone" not in watch.log()
        assert {run.status for runs, _ in watch.history().values() for run in runs} == {"completed"}
        assert_tokens_grow(watch)
        assert_quiet(watch.log())
