"""Replicas, sentinels and clusters of Redis: what becomes of ticks where another server takes over."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
import redis.asyncio

from tests.faults.conftest import Report
from tests.faults.proxy import Proxy
from tests.faults.redis_server import HOST, RedisServer, Sentinel, free_port, needs_redis
from tests.faults.watch import (
    RECOVERS_IN,
    SECRET,
    assert_no_body_twice,
    assert_quiet,
    assert_tokens_grow,
    watched,
)
from tests.support import until

pytestmark = [pytest.mark.slow, needs_redis]


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
                until(lambda: sentinel.primary() == (HOST, replica.port), what="the failover", not_yet=redis.RedisError)
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
