"""A network that breaks between schedulers and a Redis server: what becomes of ticks."""

from __future__ import annotations

import time

import pytest

from tests.faults.conftest import Report, on_time
from tests.faults.proxy import Proxy
from tests.faults.redis_server import HOST, RedisServer, needs_redis
from tests.faults.watch import RECOVERS_IN, SECRET, assert_no_body_twice, assert_quiet, watched
from tests.support import until

pytestmark = [pytest.mark.slow, needs_redis]

#: What a lock store is asked when ticks are claimed, as it travels.
CLAIM = "\r\nclaim\r\n"


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
        until(lambda: proxy.dropped == 5, what="claims whose answers are lost")
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
        until(lambda: proxy.dropped == 3, what="answers that are lost")
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
