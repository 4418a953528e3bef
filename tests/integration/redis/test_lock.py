"""The Redis lock decides as the rule says, and works with servers of every kind."""

from __future__ import annotations

import asyncio
import json
import os
import platform
import re
from collections.abc import Iterator
from typing import Any

import pytest
import redis.asyncio

from fastapi_crons import CronConfig, Crons
from fastapi_crons.clock import SystemClock
from fastapi_crons.errors import ConfigurationError, StoreUnusableError
from fastapi_crons.locking import (
    ClaimRequest,
    Definition,
    DistributedLockManager,
    LeaseRef,
    LeaseTerms,
    LockBackend,
    Registered,
)
from fastapi_crons.locking.instance import Instance
from fastapi_crons.management.management import Management
from fastapi_crons.state import MemoryStateBackend
from fastapi_crons.testing import LockWalk
from fastapi_crons_redis import RedisLockBackend
from fastapi_crons_redis.scripts import LOCK_KEYS, lock_script
from tests.faults.redis_server import RedisServer, needs_redis
from tests.support import nothing

pytestmark = needs_redis

TERMS = LeaseTerms(100, 30)


@pytest.mark.leaves("lease", "instances that are made up leave the record at any moment")
@pytest.mark.timeout(300)
class TestWalk(LockWalk):
    walks = 50
    #: The script, which asks a key for the time: it stays the same while a walk sets the clock.
    script = lock_script().replace("redis.call('TIME')", "cjson.decode(redis.call('GET', 'walk:now'))")

    @pytest.fixture(autouse=True)
    def _server(self, redis_server: RedisServer) -> Iterator[None]:
        # A machine that is busy is not what a walk looks for.
        self.url = f"{redis_server.url}?socket_connect_timeout=60&socket_timeout=60"
        with redis.Redis.from_url(self.url) as self.clock:
            yield

    def make_store(self) -> LockBackend:
        return RedisLockBackend(self.url)

    def set_time(self, store: LockBackend, now: float) -> None:
        assert isinstance(store, RedisLockBackend)
        store._script = self.script
        self.clock.set("walk:now", json.dumps([str(int(now)), str(round(now % 1 * 1_000_000))]))


@pytest.mark.leaves("lease", "instances that are made up leave the record at any moment")
@pytest.mark.timeout(300)
class TestWalkOnACluster(LockWalk):
    walks = 10

    @pytest.fixture(autouse=True)
    def _server(self, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
        with RedisServer(tmp_path_factory.mktemp("cluster"), cluster=True) as server:
            self.url = (
                f"{server.url.replace('redis://', 'redis+cluster://')}?socket_connect_timeout=60&socket_timeout=60"
            )
            yield

    def make_store(self) -> LockBackend:
        return RedisLockBackend(self.url)

    def set_time(self, store: LockBackend, now: float) -> None:
        assert isinstance(store, RedisLockBackend)
        # A key for the time would lie in another slot.
        time = f"{{'{int(now)}', '{round(now % 1 * 1_000_000)}'}}"
        store._script = lock_script().replace("redis.call('TIME')", time)


async def test_a_client_is_used_as_it_is(redis_server: RedisServer) -> None:
    instance = Instance.of_this_process()
    for options in ({}, {"decode_responses": True}, {"protocol": 3}, {"max_connections": 1}):
        client = redis.asyncio.from_url(redis_server.url, **options)
        lock = RedisLockBackend(client)
        await lock.open(instance, "clients", TERMS, SystemClock())
        (registered,) = await lock.register([Definition("jöb", "* * * * *", "UTC", "m:f")])
        (result,) = await lock.claim([ClaimRequest("jöb", f"r{options}", None, "* * * * *", "UTC", force=True)])
        assert (result.outcome, result.last_handled) == ("granted", registered.last_handled)
        assert [found.instance.id for found in (await lock.beat()).instances] == [instance.id]
        await lock.close()
        assert await client.ping(), "a client that was handed in was closed"
        await client.aclose()


def test_a_client_without_asyncio_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"redis\.asyncio"):
        RedisLockBackend(redis.Redis())  # type: ignore[arg-type]


@pytest.mark.parametrize("fields", [9, 10])
async def test_a_record_of_an_earlier_version_gets_its_arguments_without_an_edit(
    redis_server: RedisServer, fields: int
) -> None:
    async with redis.asyncio.from_url(redis_server.url) as client:
        lock, key = RedisLockBackend(client), f"{{crons:former{fields}}}:lock:jobs"
        await lock.open(Instance.of_this_process(), f"former{fields}", TERMS, SystemClock())
        job = Definition("job", "* * * * *", "UTC", "m:f", arguments="5cd9b1e0")
        (first,) = await lock.register([job])
        record = json.loads(await client.hget(key, "job") or "")
        await client.hset(key, "job", json.dumps(record[:fields]))
        request = ClaimRequest("job", "r1", first.last_handled + 1, "* * * * *", "UTC", arguments="5cd9b1e0")
        (granted,) = await lock.claim([request])
        assert await lock.release([LeaseRef("job", "r1", granted.token)]) == [True]
        assert await lock.register([job]) == [Registered(first.last_handled + 1)]
        assert json.loads(await client.hget(key, "job") or "")[10] == "5cd9b1e0"
        assert not lock.damaged()
        await lock.leave()
        await lock.close()


async def test_a_server_that_forgets_scripts_is_told_again(redis_server: RedisServer) -> None:
    client = redis.asyncio.from_url(redis_server.url)
    lock = RedisLockBackend(client)
    await lock.open(Instance.of_this_process(), "flushed", TERMS, SystemClock())
    redis_server.cli("SCRIPT", "FLUSH")
    assert (await lock.register([Definition("job", "* * * * *", "UTC", "m:f")]))[0].last_handled
    await lock.close()
    await client.aclose()


async def test_all_keys_of_a_namespace_lie_in_one_slot_of_a_cluster(tmp_path: Any) -> None:
    with RedisServer(tmp_path / "cluster", cluster=True) as server:
        client = redis.asyncio.RedisCluster.from_url(server.url)
        lock = RedisLockBackend(client)
        await lock.open(Instance.of_this_process(), "fleet", TERMS, SystemClock())
        (registered,) = await lock.register([Definition("a{b}c", "* * * * *", "UTC", "m:f")])
        (result,) = await lock.claim([ClaimRequest("a{b}c", "r1", registered.last_handled + 1, "* * * * *", "UTC")])
        assert result.outcome == "granted"
        beside = lock.clone()
        assert beside is not None
        await beside.open(Instance.of_this_process(), "fleet", TERMS, SystemClock())
        assert len((await beside.beat()).instances) == 1
        await beside.close()
        slots = {server.cli("CLUSTER", "KEYSLOT", key) for key in server.cli("KEYS", "*")}
        assert len(slots) == 1
        await client.aclose()


async def test_a_newer_layout_works_as_long_as_it_lets_us(redis_server: RedisServer) -> None:
    client = redis.asyncio.from_url(redis_server.url)
    layout = "{crons:layouts}:lock:layout"
    lock = RedisLockBackend(client)
    await client.hset(layout, mapping={"version": 99, "compatible_from": 1})
    await lock.open(Instance.of_this_process(), "layouts", TERMS, SystemClock())
    assert await client.hget(layout, "version") == b"99"
    await client.hset(layout, "compatible_from", 99)
    with pytest.raises(StoreUnusableError, match="newer version"):
        await lock.open(Instance.of_this_process(), "layouts", TERMS, SystemClock())
    await client.aclose()


@pytest.mark.parametrize(
    "damage", [("compatible_from", "1e300"), ("compatible_from", "-1"), ("version", "zzz"), ("compatible_from", "2")]
)
async def test_a_damaged_layout_is_written_anew(redis_server: RedisServer, damage: tuple[str, str]) -> None:
    client = redis.asyncio.from_url(redis_server.url, decode_responses=True)
    layout, lock = "{crons:damaged}:lock:layout", RedisLockBackend(client)
    await client.hset(layout, mapping={"version": 1, "compatible_from": 1})
    await client.hset(layout, *damage)
    await lock.open(Instance.of_this_process(), "damaged", TERMS, SystemClock())
    assert await client.hgetall(layout) == {"version": "1", "compatible_from": "1"}
    await client.aclose()


@pytest.mark.parametrize("key", LOCK_KEYS)
async def test_a_key_of_another_kind_lasts_until_the_next_heartbeat_or_start(
    redis_server: RedisServer, key: str, caplog: pytest.LogCaptureFixture
) -> None:
    client = redis.asyncio.from_url(redis_server.url)
    namespace, lock = f"kind-{key}", RedisLockBackend(client)
    damaged = f"{{crons:{namespace}}}:lock:{key}"
    job = Definition("job", "* * * * *", "UTC", "m:f")
    me = Instance.of_this_process()
    for again in (lock.beat, lambda: lock.open(me, namespace, TERMS, SystemClock())):
        await lock.open(me, namespace, TERMS, SystemClock())
        await client.delete(damaged)
        await client.rpush(damaged, "not a hash")
        await again()
        await lock.register([job])
        claim = ClaimRequest("job", "run", None, job.schedule, job.timezone)
        (granted,) = await lock.claim([claim])
        assert granted.outcome == "granted"
        assert await lock.release([LeaseRef("job", "run", granted.token)]) == [True]
        await lock.beat()
    assert lock.damaged() == [f"lock store in Redis: key {damaged}"]
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    await client.aclose()


async def test_an_idle_instance_costs_the_store_only_its_heartbeat() -> None:
    with RedisServer() as server:
        client = redis.asyncio.from_url(server.url)
        config = CronConfig(heartbeat_interval=0.5)
        crons = Crons(
            state_backend=MemoryStateBackend(),
            lock_manager=DistributedLockManager(RedisLockBackend(client), config),
            config=config,
        )
        for number in range(1_000):
            crons.cron("0 0 1 1 *", name=f"job-{number}")(nothing)
        await crons.start()

        called: list[str] = []
        async with client.monitor() as monitor:
            async for seen in monitor.listen():
                script = re.match(r"(?i)evalsha .*? ([a-z]+) ", seen["command"])
                # The first heartbeat ends the start.
                if script is not None and (called or script[1] == "beat"):
                    called.append(script[1])
                if len(called) == 6:
                    break
        assert called == ["beat"] * 6
        await crons.stop()
        await client.aclose()


async def test_instances_are_seen_with_what_an_operator_wants_to_know(redis_server: RedisServer) -> None:
    client = redis.asyncio.from_url(redis_server.url)
    schedulers = []
    for name in ("worker-001", "worker-002"):
        config = CronConfig(namespace="seen", instance_id=name, heartbeat_interval=0.3)
        locks = DistributedLockManager(RedisLockBackend(client), config)
        schedulers.append(Crons(state_backend=MemoryStateBackend(), lock_manager=locks, config=config))
        await schedulers[-1].start()
    found = await Management(schedulers[0]).instances()
    assert [each.instance.id for each in found] == ["worker-001", "worker-002"]
    for each in found:
        assert each.instance.version
        assert each.instance.pid == os.getpid()
        assert each.instance.host == platform.node()
        assert abs(each.heartbeat_ts - SystemClock().now()) < 3
        assert each.running == 0
    for crons in schedulers:
        await crons.stop()
    await client.aclose()


def test_ten_thousand_ticks_at_once_need_no_more_than_a_few_connections(redis_server: RedisServer) -> None:
    async def main() -> None:
        client = redis.asyncio.from_url(redis_server.url, max_connections=3)
        config = CronConfig(namespace="many")
        locks = DistributedLockManager(RedisLockBackend(client), config)
        crons = Crons(state_backend=MemoryStateBackend(), lock_manager=locks, config=config)
        ran = 0

        async def job() -> None:
            nonlocal ran
            ran += 1

        for number in range(10_000):
            crons.cron("0 0 1 1 *", name=f"job-{number}")(job)
        await crons.start()
        runs = await asyncio.gather(*(crons.run_job(f"job-{number}") for number in range(500)))
        assert {run.status for run in runs} == {"completed"}
        assert len(await client.client_list()) <= 8
        await crons.stop()
        await client.aclose()

    asyncio.run(main())
