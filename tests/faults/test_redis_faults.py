"""A Redis server that dies, stalls, forgets, refuses or fails over, and a network that breaks: what becomes of ticks."""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import redis.asyncio

from fastapi_crons import CronConfig, Crons, Run
from fastapi_crons.locking import DistributedLockManager
from fastapi_crons.state import HistoryLimits
from fastapi_crons_redis import RedisLockBackend, RedisStateBackend
from tests.faults.conftest import History, Report, on_time, redis_history
from tests.faults.fleet import Fleet, Line, Sums
from tests.faults.proxy import Proxy
from tests.faults.redis_server import HOST, RedisServer, Sentinel, connection_to, free_port, needs_redis
from tests.support import until

pytestmark = [pytest.mark.slow, needs_redis]

#: What the rules promise: a tick that is due so long (seconds) after the store's return runs on time.
RECOVERS_IN = 5.0
#: How long (seconds) a test looks on after the store's return.
LOOKS_ON = RECOVERS_IN + 2.5
#: What a lock store is asked when ticks are claimed, as it travels.
CLAIM = "\r\nclaim\r\n"
SECRET = "not-for-logs-5531"

#: A web app with one job, whose end point says how the scheduler is.
SERVED = """
import os
from fastapi import FastAPI
from fastapi_crons import Crons, get_cron_router

app = FastAPI()
crons = Crons(app)
app.include_router(get_cron_router(), prefix="/api")


@crons.cron("* * * * * *", name="job-0")
def job():
    with open("ran.txt", "a") as file:
        file.write("ran\\n")


@app.get("/")
def home():
    return "here"
"""


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


@pytest.fixture
def proxy(own_redis: RedisServer) -> Iterator[Proxy]:
    """A proxy in front of the private server."""
    with Proxy(own_redis.port) as running:
        yield running


class Watch:
    """A fleet that has got going, watched from then on."""

    def __init__(self, fleet: Fleet, url: str) -> None:
        self.fleet = fleet
        self.url = url
        self.since = time.time()
        self.seen_until = 0.0

    def ended(self, returned: float | None = None, looks_on: float = LOOKS_ON) -> tuple[Sums, float | None]:
        """Look on after the store's return, and end it all: what became of the ticks, and when they were in time again."""
        if returned is not None:
            time.sleep(max(0.0, returned + looks_on - time.time()))
        self.seen_until = time.time() - 1
        self.fleet.stop()
        recovery = None if returned is None else self.fleet.recovered_at(returned, until=self.seen_until)
        return self.fleet.sums(self.since, self.seen_until, self.history()), recovery

    def history(self) -> History:
        return redis_history(self.fleet, self.url)

    def log(self) -> str:
        return self.fleet.log.read_text()

    def lines(self, event: str) -> list[Line]:
        return [line for line in self.fleet.lines() if line.event == event]

    def latest(self) -> float:
        """How late (seconds) the latest start was."""
        return max(line.at - line.tick for line in self.lines("start") if self.since <= line.tick < self.seen_until)


@contextmanager
def watched(
    url: str,
    count: int = 2,
    *,
    history_url: str | None = None,
    jobs: int = 10,
    seconds: float = 0.0,
    job: Mapping[str, object] | None = None,
    every: int = 1,
    extra: str = "",
    **settings: str,
) -> Iterator[Watch]:
    """A fleet on a server, got going. History is read where `history_url` says."""
    options = {"jobs": jobs, "seconds": seconds, "job": job, "every": every, "extra": extra}
    with Fleet({"CRON_REDIS_URL": url, **settings}, **options) as fleet:  # type: ignore[arg-type]
        fleet.start(count)
        time.sleep(1.5)
        yield Watch(fleet, history_url or url)


def wait_for_recovery(watch: Watch, returned: float) -> None:
    """A server that is there again is used again: some tick due after its return has run."""
    until(lambda: any(line.tick > returned for line in watch.lines("start")), 15, "a run after the return")


def assert_no_body_twice(watch: Watch) -> None:
    """No tick runs again whose body has come to its end."""
    ended = Counter((line.job, line.tick) for line in watch.lines("end"))
    assert [tick for tick, number in ended.items() if number > 1] == []


def assert_quiet(log: str) -> None:
    """Faults of a store are said in lines of ours."""
    assert "Traceback" not in log, log[-4000:]
    assert SECRET not in log


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
        until(lambda: len(watch.lines("cancelled")) == 5, 10, "runs that were given up")
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
        until(lambda: any(line.job.startswith("thread") for line in watch.lines("start")), 10, "threads")
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


@on_time
@pytest.mark.full
def test_connections_that_are_reset_each_second_cost_no_tick(
    own_redis: RedisServer, proxy: Proxy, report: Report
) -> None:
    with watched(own_redis.url_at(proxy.port)) as watch:
        proxy.reset_every(1)
        time.sleep(8)
        proxy.reset_every(None)
        time.sleep(2)
        sums, _ = watch.ended()
        report("RST of all connections each second", sums)
        assert sums.on_record == 0
        assert watch.latest() < 1
        assert_quiet(watch.log())


def test_a_claim_whose_answer_is_lost_runs_its_tick_once(own_redis: RedisServer, proxy: Proxy, report: Report) -> None:
    with watched(own_redis.url_at(proxy.port)) as watch:
        proxy.drop_replies(5, to=CLAIM)
        until(lambda: proxy.dropped == 5, 10, "claims whose answers are lost")
        time.sleep(2)
        sums, _ = watch.ended()
        report("answers to claims lost", sums)
        assert sums.on_record == 0
        assert_no_body_twice(watch)
        assert_quiet(watch.log())


@pytest.mark.full
@pytest.mark.parametrize("operation", ["release", "write", "renew", "beat"])
def test_whatever_answer_is_lost_no_tick_is(
    own_redis: RedisServer, proxy: Proxy, report: Report, operation: str
) -> None:
    seconds = 1.5 if operation == "renew" else 0.0
    with watched(own_redis.url_at(proxy.port), jobs=5, seconds=seconds, CRON_LOCK_RENEWAL_INTERVAL="1") as watch:
        proxy.drop_replies(3, to=f"\r\n{operation}\r\n")
        until(lambda: proxy.dropped == 3, 15, "answers that are lost")
        time.sleep(2)
        sums, _ = watch.ended()
        report(f"answers to `{operation}` lost", sums)
        assert watch.lines("cancelled") == []
        assert sums.on_record == 0 or seconds
        assert_quiet(watch.log())


@on_time
@pytest.mark.full
def test_a_run_whose_outcome_cannot_be_written_is_not_run_again(own_redis: RedisServer, report: Report) -> None:
    own_redis.cli("ACL", "SETUSER", "app", "on", f">{SECRET}", "~*", "&*", "+@all")
    url = f"redis://app:{SECRET}@{HOST}:{own_redis.port}/0"
    retried = {"max_retries": 3, "retry_delay": 0.1}
    with watched(url, job=retried, history_url=own_redis.url) as watch:
        # From here on the user gets at the locks, and not at the history.
        own_redis.cli("ACL", "SETUSER", "app", "resetkeys", "~{crons:default}:lock:*")
        refused = time.time()
        time.sleep(5)
        own_redis.cli("ACL", "SETUSER", "app", "~*")
        allowed = time.time()
        time.sleep(7)
        sums, _ = watch.ended()
        report("history refused after the bodies, retries configured", sums)
        assert "the state store does not answer" in watch.log()
        # Jobs do not need the history: each ran on time, once, and what it was to say was written later.
        assert sums.on_record == 0
        assert watch.latest() < 1
        written = {(run.job, run.tick_ts) for runs, _ in watch.history().values() for run in runs}
        ran = {(line.job, line.tick) for line in watch.lines("end") if refused <= line.tick < allowed}
        assert ran
        assert ran <= written
        assert_quiet(watch.log())


@pytest.mark.full
def test_connections_that_went_silent_are_not_used_again(own_redis: RedisServer, proxy: Proxy, report: Report) -> None:
    with watched(own_redis.url_at(proxy.port), CRON_INSTANCE_TIMEOUT="14") as watch:
        proxy.silent = True
        time.sleep(1.5)
        # What is open now stays silent for good; new connections work.
        proxy.silent = False
        sums, recovery = watch.ended(time.time())
        report("half-open sockets", sums, recovery, because="the lock store")
        assert recovery is not None
        assert recovery <= RECOVERS_IN + 1
        assert_no_body_twice(watch)
        assert_quiet(watch.log())


@on_time
@pytest.mark.parametrize("every", [3, pytest.param(1, marks=pytest.mark.full)])
def test_ticks_start_in_time_over_a_way_that_takes_300_ms(
    own_redis: RedisServer, proxy: Proxy, report: Report, every: int
) -> None:
    proxy.delay = 0.3
    with watched(own_redis.url_at(proxy.port), every=every, history_url=own_redis.url) as watch:
        time.sleep(8 if every == 1 else 5)
        proxy.delay = 0
        sums, _ = watch.ended()
        report(f"300 ms each way, due every {every} s", sums)
        # In the first seconds two instances get to know each other, and may be in each other's way.
        assert sums.once >= sums.expected - (2 * watch.fleet.jobs if every == 1 else 0)
        assert watch.latest() < 1.5
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


@pytest.mark.parametrize(
    ("policy", "consequences"),
    [
        ("allkeys-lru", ["a tick can run twice or never", "history can go"]),
        ("volatile-lru", ["history can go"]),
        ("noeviction", []),
    ],
)
def test_a_server_that_may_drop_keys_is_warned_of_once_by_each_store(policy: str, consequences: list[str]) -> None:
    with RedisServer(maxmemory="100mb", maxmemory_policy=policy) as server, watched(server.url, 1) as watch:
        watch.fleet.stop()
        warnings = [line for line in watch.log().splitlines() if f"policy {policy}" in line]
        assert len(warnings) == len(consequences), watch.log()
        for warning, consequence in zip(warnings, consequences, strict=True):
            assert consequence in warning
            assert "set it to noeviction" in warning
            assert f"{HOST}:{server.port}" in warning


@pytest.mark.full
def test_a_server_that_is_a_replica_for_a_while_is_used_again_when_it_is_none(
    own_redis: RedisServer, report: Report
) -> None:
    with watched(own_redis.url) as watch:
        own_redis.cli("REPLICAOF", HOST, free_port())  # nobody is there: it keeps its data
        time.sleep(3)
        assert "read only" in watch.log().lower()
        own_redis.cli("REPLICAOF", "NO", "ONE")
        sums, recovery = watch.ended(time.time())
        report("READONLY for 3 s", sums, recovery, because="READONLY")
        assert recovery is not None
        assert recovery <= RECOVERS_IN + 1
        assert_no_body_twice(watch)
        assert_quiet(watch.log())


@pytest.mark.full
def test_a_failover_by_sentinels_is_followed(report: Report) -> None:
    with RedisServer(password=SECRET) as primary, RedisServer(password=SECRET, replica_of=primary) as replica:
        with Sentinel(primary) as sentinel:
            url = f"redis+sentinel://:{SECRET}@{HOST}:{sentinel.port}/primary"
            with watched(url, history_url=replica.url) as watch:
                time.sleep(1)
                primary.kill()
                until(lambda: sentinel.primary() == (HOST, replica.port), 15, "the failover", not_yet=redis.RedisError)
                until(
                    lambda: replica.cli("ROLE")[0] == "master",
                    15,
                    "a replica that is primary",
                    not_yet=redis.RedisError,
                )
                sums, recovery = watch.ended(time.time())
                report("failover by sentinels", sums, recovery, because="the lock store did not answer")
                assert recovery is not None
                assert recovery <= RECOVERS_IN + 1
                assert_quiet(watch.log())


@pytest.mark.full
def test_a_failover_to_a_replica_that_is_behind_doubles_no_tick_of_another_time(
    own_redis: RedisServer, record_property: Callable[[str, object], None]
) -> None:
    with RedisServer(replica_of=own_redis) as replica, Proxy(own_redis.port) as proxy:
        with watched(own_redis.url_at(proxy.port), jobs=5, history_url=replica.url) as watch:
            time.sleep(1)
            behind_since = time.time()
            returned = fail_over_to_one_behind(own_redis, replica, proxy, 1.5)
            sums, recovery = watch.ended(returned)
            record_property("fault", sums.row("failover, replica 1.5 s behind", recovery))
            assert [tick for _, tick in sums.doubled if not behind_since - 1 <= tick <= returned] == []
            assert sums.missed == []
            assert sums.overlapped == []
            assert recovery is not None
            assert recovery <= RECOVERS_IN + 1
            assert_tokens_grow(watch)
            assert_quiet(watch.log())


@pytest.mark.full
@pytest.mark.parametrize(("lost", "from_second"), [("release", 2.5), ("claim", 3.5)])
def test_a_lease_that_a_failover_lost_or_brought_back_holds_no_job_up(
    own_redis: RedisServer, record_property: Callable[[str, object], None], lost: str, from_second: float
) -> None:
    with RedisServer(replica_of=own_redis) as replica, Proxy(own_redis.port) as proxy:
        url = own_redis.url_at(proxy.port)
        with watched(url, jobs=5, seconds=3, history_url=replica.url, CRON_LOCK_RENEWAL_INTERVAL="1") as watch:
            # Runs start at a tick, end 3 s later, and the next ones start at the next tick.
            began = min(line.at for line in watch.lines("start"))
            time.sleep(began + from_second - time.time())
            returned = fail_over_to_one_behind(own_redis, replica, proxy, 1.2)
            after = time.time()
            time.sleep(3 + RECOVERS_IN + 1)
            sums, _ = watch.ended()
            record_property("fault", sums.row(f"failover that lost each {lost}, runs of 3 s", None))
            assert sums.missed == []
            assert [tick for _, tick in sums.doubled if not began + from_second - 1 <= tick <= returned] == []
            went_on = {line.job for line in watch.lines("start") if line.at > after}
            assert len(went_on) == 5, watch.log()[-2000:]
            # Where another instance began meanwhile, the run that lost its lease was told at its next renewal.
            ended = watch.lines("end") + watch.lines("cancelled")
            ends = {(line.job, line.tick, line.attempt, line.pid): line for line in ended}
            starts = watch.lines("start")
            for line in starts:
                end = ends[line.job, line.tick, line.attempt, line.pid]
                if [other for other in starts if other.job == line.job and line.at < other.at < end.at]:
                    assert end.event == "cancelled"
                    assert end.at < returned + 2.5
            assert_tokens_grow(watch)
            assert_quiet(watch.log())


def fail_over_to_one_behind(primary: RedisServer, replica: RedisServer, proxy: Proxy, seconds: float) -> float:
    """Have the proxy's clients end up at a replica that has not heard of the last seconds; returns when."""
    replica.cli("REPLICAOF", "NO", "ONE")
    time.sleep(seconds)
    primary.kill()
    proxy.target = (HOST, replica.port)
    proxy.reset_all()
    return time.time()


def assert_tokens_grow(watch: Watch) -> None:
    """A later run of a job has the larger token."""
    for number in range(watch.fleet.jobs):
        starts = [line for line in watch.lines("start") if line.job == f"job-{number}"]
        tokens = [line.token for line in sorted(starts, key=lambda line: line.at)]
        assert tokens == sorted(set(tokens))


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


def test_ticks_go_on_after_all_records_were_deleted(own_redis: RedisServer, report: Report) -> None:
    with watched(own_redis.url) as watch:
        time.sleep(1.9 - time.time() % 1)  # so that the next claims are the first to find nothing
        own_redis.cli("FLUSHALL")
        flushed = time.time()
        sums, recovery = watch.ended(flushed, 4.0)
        report("FLUSHALL", sums, recovery, because="the lock store had lost its records")
        assert recovery is not None
        assert recovery <= 1.5
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


UNUSABLE = {
    "a wrong password": "redis://app:{wrong}@{host}:{port}/0",
    "a database that is not there": "redis://app:{secret}@{host}:{port}/99",
    "TLS to a server without": "rediss://app:{secret}@{host}:{port}/0",
    "nobody at the port": "redis://app:{secret}@{host}:{closed}/0",
}


@pytest.mark.parametrize(
    "fault", [pytest.param(name, marks=[] if "password" in name else pytest.mark.full) for name in UNUSABLE]
)
def test_a_start_fails_with_one_line_that_names_host_and_user(own_redis: RedisServer, fault: str) -> None:
    own_redis.cli("ACL", "SETUSER", "app", "on", f">{SECRET}", "~*", "&*", "+@all")
    wrong, closed = f"{SECRET}-no-more", free_port()
    url = UNUSABLE[fault].format(wrong=wrong, secret=SECRET, host=HOST, port=own_redis.port, closed=closed)
    began = time.monotonic()
    said = Fleet({"CRON_REDIS_URL": url}, jobs=1).refused()
    assert time.monotonic() - began < 10
    assert SECRET not in said
    last = said.strip().splitlines()[-1]
    assert f"{HOST}:{closed if 'nobody' in fault else own_redis.port}" in last
    assert "'app'" in last
    assert last.startswith("fastapi_crons.errors.Store")


@pytest.mark.full
@pytest.mark.parametrize("fault", ["a wrong password", "nobody at the port"])
def test_an_app_serves_without_its_store_and_its_jobs_begin_when_it_is_there(fault: str) -> None:
    with RedisServer(password=SECRET) as server:
        if "password" in fault:
            server.cli("CONFIG", "SET", "requirepass", "another")
            server.password = "another"
        else:
            server.kill()
        with served(f"redis://:{SECRET}@{HOST}:{server.port}/0") as port:
            assert asked(port, "/") == (200, '"here"')
            status, health = asked(port, "/api/scheduler/health")
            assert status == 503
            assert json.loads(health)["status"] == "unhealthy"
            assert SECRET not in health
            assert not Path("ran.txt").exists()
            if "password" in fault:
                server.cli("CONFIG", "SET", "requirepass", SECRET)
                server.password = SECRET
            else:
                server.start()
            until(lambda: Path("ran.txt").exists(), RECOVERS_IN + 2, "a run after the store's return")
            status, health = asked(port, "/api/scheduler/health")
            assert (status, json.loads(health)["status"]) == (200, "ok"), health
        assert SECRET not in Path("served.log").read_text()


@contextmanager
def served(url: str) -> Iterator[int]:
    """uvicorn with `SERVED`, at a port; what it says goes to served.log."""
    Path("served_app.py").write_text(SERVED)
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "served_app:app", "--port", str(port)]
    env = {**os.environ, "CRON_REDIS_URL": url, "CRON_START_WITHOUT_STORE": "true"}
    with Path("served.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=env)
    try:
        until(lambda: answers(port), 15, "an app that serves")
        yield port
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) in (0, -signal.SIGTERM)
    finally:
        process.kill()
        process.wait()


def answers(port: int) -> bool:
    with suppress(OSError):
        return asked(port, "/")[0] == 200
    return False


def asked(port: int, path: str) -> tuple[int, str]:
    """Status and body of a GET."""
    try:
        with urllib.request.urlopen(f"http://{HOST}:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


@pytest.mark.full
def test_a_password_that_is_changed_and_put_back_is_like_a_server_that_was_away(report: Report) -> None:
    with RedisServer(appendonly="always", password=SECRET) as server, watched(server.url) as watch:
        server.cli("CONFIG", "SET", "requirepass", "another")
        server.password = "another"
        server.cli("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")  # whoever is in stays in else
        time.sleep(3)
        assert any(word in watch.log() for word in ("WRONGPASS", "invalid username-password"))
        server.cli("CONFIG", "SET", "requirepass", SECRET)
        server.password = SECRET
        sums, recovery = watch.ended(time.time())
        report("password rotated, put back after 3 s", sums, recovery, because="invalid username-password")
        assert recovery is not None
        assert recovery <= RECOVERS_IN + 1
        assert_quiet(watch.log())


@pytest.mark.full
def test_a_cluster_runs_each_tick_once(report: Report) -> None:
    with RedisServer(cluster=True, appendonly="always") as server:
        with watched(f"redis+cluster://{HOST}:{server.port}") as watch:
            time.sleep(3)
            server.kill()
            server.start()  # takes writes 2 s after its start
            sums, recovery = watch.ended(time.time())
            report("cluster, restarted", sums, recovery, because="the lock store did not answer")
            assert recovery is not None
            assert recovery <= RECOVERS_IN + 1
            assert_quiet(watch.log())


@pytest.mark.full
def test_keys_of_other_applications_are_not_looked_at(own_redis: RedisServer, report: Report) -> None:
    own_redis.cli("EVAL", "for n = 1, 10000 do redis.call('SET', 'theirs:' .. n, n) end", 0)
    with socket.create_connection((HOST, own_redis.port)) as monitor:
        monitor.sendall(b"MONITOR\r\n")
        with watched(own_redis.url) as watch:
            time.sleep(3)
            sums, _ = watch.ended()
        monitor.shutdown(socket.SHUT_WR)
        with monitor.makefile("rb") as answers_of_it:
            commands = re.findall(rb'\] "([a-zA-Z]+)"(?: "([^"]*)")?', answers_of_it.read())
    report("10 000 keys of others", sums)
    seen = {name.upper() for name, _ in commands}
    assert b"EVALSHA" in seen
    assert b"HSET" in seen  # what scripts do is shown, too
    assert seen.isdisjoint({b"KEYS", b"SCAN", b"RANDOMKEY", b"DBSIZE", b"FLUSHDB", b"FLUSHALL"})
    assert not [key for _, key in commands if key.startswith(b"theirs:")]
    assert int(own_redis.cli("EVAL", "return #redis.call('KEYS', 'theirs:*')", 0)) == 10_000


@on_time
@pytest.mark.full
def test_200_jobs_that_are_due_at_once_start_in_time_over_a_few_connections(
    own_redis: RedisServer, report: Report
) -> None:
    with watched(own_redis.url, 1, jobs=200) as watch:
        connections = []
        for _ in range(40):
            connections.append(len(own_redis.cli("CLIENT", "LIST").splitlines()))
            time.sleep(0.1)
        sums, _ = watch.ended()
        report("200 jobs due at once, one process", sums)
        assert sums.on_record == 0
        assert watch.latest() < 1
        assert max(connections) <= 14, connections  # four for each of three purposes, one that listens, and one of ours


@pytest.mark.full
async def test_a_thousand_manual_runs_share_a_small_client_of_the_users_own(own_redis: RedisServer) -> None:
    client = redis.asyncio.Redis.from_url(own_redis.url, max_connections=2)
    config = CronConfig(store_timeout=5)
    locks = DistributedLockManager(RedisLockBackend(client), config)
    crons = Crons(state_backend=RedisStateBackend(client), lock_manager=locks, config=config)
    ran = []

    @crons.cron("0 0 1 1 *", name="job-0", overlap="allow")
    async def job() -> None:
        ran.append(1)

    await crons.start()
    try:
        runs = await asyncio.gather(*(crons.run_job("job-0") for _ in range(1200)))
    finally:
        await crons.stop()
        await client.aclose()
    assert {run.status for run in runs} == {"completed"}
    assert len(ran) == 1200
