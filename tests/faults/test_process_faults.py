"""Processes that die, freeze, fork or hang: what becomes of their ticks."""

from __future__ import annotations

import time

import pytest

from tests.faults.conftest import Report, redis_history
from tests.faults.fleet import Fleet
from tests.faults.redis_server import RedisServer, needs_redis

pytestmark = [pytest.mark.slow, needs_redis]


def test_a_killed_process_leaves_its_share_to_the_others(own_redis: RedisServer, report: Report) -> None:
    with Fleet({"CRON_REDIS_URL": own_redis.url}, jobs=50) as fleet:
        fleet.start(4)
        time.sleep(2)
        since = time.time()
        time.sleep(5)
        killed = fleet.kill(fleet.processes[0])
        time.sleep(6)
        until = time.time() - 1
        fleet.stop()
        sums = fleet.sums(since, until, redis_history(fleet, own_redis.url))
        report("kill -9 of one of four", sums, fleet.recovered_at(killed))
        before = fleet.sums(since, killed, {}).shares
        assert len(before) == 4
        assert all(0.20 <= share / sum(before.values()) <= 0.30 for share in before.values()), before
        after = fleet.sums(killed + 1, until, {}).shares
        assert len(after) == 3
