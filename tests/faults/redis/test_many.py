"""Many jobs, runs and keys on one Redis server."""

from __future__ import annotations

import asyncio
import re
import socket
import time

import pytest
import redis.asyncio

from fastapi_crons import CronConfig, Crons
from fastapi_crons.locking import DistributedLockManager
from fastapi_crons_redis import RedisLockBackend, RedisStateBackend
from tests.faults.conftest import Report, on_time
from tests.faults.redis_server import HOST, RedisServer, needs_redis
from tests.faults.watch import watched

pytestmark = [pytest.mark.slow, needs_redis]


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
    config = CronConfig(store_timeout=30)
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
