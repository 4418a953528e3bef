"""Two schedulers on one Redis server: what is asked of one reaches the other at once, whatever its heartbeat."""

from __future__ import annotations

import asyncio
import secrets
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable
from itertools import pairwise
from pathlib import Path

import pytest
import pytest_asyncio
import trustme
from pydantic import SecretStr
from redis.asyncio import RedisCluster, SSLConnection
from redis.asyncio.sentinel import SentinelConnectionPool

from fastapi_crons import CronConfig, Crons, Run
from fastapi_crons.locking import DistributedLockManager
from fastapi_crons.management.management import Management
from fastapi_crons.schedules import AtStart, Every
from fastapi_crons.testing import reset
from fastapi_crons_redis import RedisLockBackend, RedisStateBackend
from fastapi_crons_sqlite import SQLiteLockBackend
from tests.faults.redis_server import RedisServer, connection_to, needs_redis
from tests.support import nothing, until_async

pytestmark = needs_redis


@pytest_asyncio.fixture
async def two(redis_server: RedisServer) -> AsyncIterator[list[Crons]]:
    """Two schedulers with the same jobs, whose heartbeats are a minute apart."""
    namespace, made = secrets.token_hex(6), []
    for name in ("one", "other"):
        reset()
        config = CronConfig(namespace=namespace, instance_id=name, heartbeat_interval=60)
        lock = RedisLockBackend.on(connection_to(redis_server.url))
        state = RedisStateBackend.on(connection_to(redis_server.url))
        crons = Crons(state_backend=state, lock_manager=DistributedLockManager(lock, config), config=config)
        crons.cron("0 0 1 1 *", name="long")(_long)
        crons.cron("* * * * * *", name="each_second", overlap="allow", coalesce=False)(nothing)
        await crons.start()
        made.append(crons)
    await asyncio.sleep(0.5)
    yield made
    for crons in made:
        await crons.stop()


async def test_ticks_that_runs_and_starts_make_are_those_of_the_fleet(redis_server: RedisServer) -> None:
    namespace, runs, started, made = secrets.token_hex(6), [(0.0, 0.0)], [0], []
    loop = asyncio.get_running_loop()

    async def poll() -> None:
        began = loop.time()
        await asyncio.sleep(0.3)
        runs.append((began, loop.time()))

    async def warm_up() -> None:
        started[0] += 1

    for name in ("one", "other", "third"):
        reset()
        config = CronConfig(namespace=namespace, instance_id=name)
        lock = RedisLockBackend.on(connection_to(redis_server.url))
        state = RedisStateBackend.on(connection_to(redis_server.url))
        crons = Crons(state_backend=state, lock_manager=DistributedLockManager(lock, config), config=config)
        crons.cron(Every(seconds=1, after="end"), name="poll")(poll)
        crons.cron(AtStart(), name="warm_up")(warm_up)
        await crons.start()
        made.append(crons)
    await until_async(lambda: len(runs) > 4)
    for crons in made:
        await crons.stop()
    # The clocks are the same: to the hundredth, since they are read one after the other.
    assert all(following[0] - run[1] > 0.99 for run, following in pairwise(runs)), runs
    assert started == [1]


async def test_a_run_is_cancelled_at_once_wherever_it_goes_on(two: list[Crons]) -> None:
    one, other = two
    running = asyncio.ensure_future(other.run_job("long"))
    (going_on,) = await until_async(lambda: Management(one).runs("long"))
    assert await one.cancel_run(going_on.id, actor="ops")
    run = await asyncio.wait_for(running, 30)
    assert (run.status, run.instance) == ("cancelled", "other")
    assert run.error is not None
    assert "by ops" in run.error.message


async def test_instances_share_their_ticks_as_soon_as_they_know_of_each_other(two: list[Crons]) -> None:
    async def both() -> bool:
        return {run.instance for run in await runs()} == {"one", "other"}

    def runs() -> Awaitable[list[Run]]:
        return Management(two[0]).runs("each_second", limit=500)

    await until_async(both)
    found = await runs()
    assert len({run.tick_ts for run in found}) == len(found)


async def test_a_pause_holds_everywhere_and_ends_everywhere(two: list[Crons]) -> None:
    one, other = two
    await other.pause("each_second", actor="ops", note="why")
    since, *who_and_why = (await one.pauses())["each_second"]
    assert who_and_why == ["ops", "why"]
    await asyncio.sleep(2.2)
    assert [run for run in await Management(one).runs("each_second", limit=100) if (run.tick_ts or 0) > since] == []
    assert await one.resume("each_second")

    async def again() -> bool:
        return any((run.tick_ts or 0) > since for run in await Management(other).runs("each_second"))

    await until_async(again)
    assert "paused" in {row.reason for row in await Management(other).missed("each_second")}


async def test_an_instance_drains_at_once_when_another_one_asks(two: list[Crons]) -> None:
    one, other = two
    running = asyncio.ensure_future(other.run_job("long"))
    await until_async(lambda: Management(one).runs("long"))
    (view,) = await Management(one).drains.drain("other")

    async def heard() -> bool:
        (found,) = await Management(one).drains.look([view.instance.instance.owner])
        return found.draining and [(run.job, run.limit) for run in found.runs] == [("long", "unlimited")]

    await until_async(heard)

    def runs() -> Awaitable[list[Run]]:
        return Management(one).runs("each_second", limit=500)

    before = len([run for run in await runs() if run.instance == "other"])
    await asyncio.sleep(4)
    found = await runs()
    assert len([run for run in found if run.instance == "other"]) == before
    ticks = sorted(run.tick_ts or 0 for run in found)
    assert ticks == list(range(ticks[0], ticks[-1] + 1)), "none is lost, and none doubled"
    (left,) = await Management(one).runs("long")
    assert await one.cancel_run(left.id)
    assert (await running).status == "cancelled"


async def _long() -> None:
    await asyncio.sleep(60)


LITTLE_ROOM = """
import asyncio, sys
from redis.asyncio import Redis
from fastapi_crons import CronConfig, Crons
from fastapi_crons.locking import DistributedLockManager, RedisLockBackend
from fastapi_crons.management.management import Management
from fastapi_crons.state import RedisStateBackend

client = Redis.from_url(sys.argv[1], max_connections=int(sys.argv[2]))
config = CronConfig(namespace=f"room-{sys.argv[2]}")
crons = Crons(
    state_backend=RedisStateBackend(client),
    lock_manager=DistributedLockManager(RedisLockBackend(client), config),
    config=config,
)

@crons.cron("* * * * * *", name="each_second")
async def each_second(): ...

async def life():
    await crons.start()
    ran = known = len(await runs())
    while ran < known + 3:
        await asyncio.sleep(0.1)
        ran = len(await runs())
    print(crons.health().status)
    await crons.stop()

def runs():
    return Management(crons).runs("each_second", limit=100)

for _ in range(2):
    asyncio.run(life())
"""


@pytest.mark.parametrize("room", ["1", "2"])
def test_a_client_with_little_room_serves_both_stores_on_one_loop_after_another(
    redis_server: RedisServer, room: str
) -> None:
    command = [sys.executable, "-c", LITTLE_ROOM, redis_server.url, room]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=180)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["ok", "ok"]


async def test_a_living_host_is_not_taken_for_dead_because_only_its_history_is_shared(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    made = []
    for host in ("one", "other"):
        reset()
        config = CronConfig(namespace="history-only", instance_id=host)
        state = RedisStateBackend.on(connection_to(redis_server.url))
        lock = SQLiteLockBackend(tmp_path / f"{host}.db")
        crons = Crons(state_backend=state, lock_manager=DistributedLockManager(lock, config), config=config)
        crons.cron("0 0 1 1 *", name="long")(_a_second)
        made.append(crons)
    await made[0].start()
    running = asyncio.ensure_future(made[0].run_job("long"))
    await asyncio.sleep(0.3)
    await made[1].start()
    assert (await running).status == "completed"
    (run,) = await Management(made[1]).runs("long")
    assert run.status == "completed"
    for crons in made:
        await crons.stop()


def test_a_client_made_beside_another_is_as_safe_as_that_one(tmp_path: Path) -> None:
    ca_file = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(ca_file)
    for scheme in ("rediss", "rediss+sentinel", "rediss+cluster"):
        url = SecretStr(f"{scheme}://u:p@host:6379/{'service' if 'sentinel' in scheme else ''}")
        connection = connection_to(url, ca_file=str(ca_file))
        beside = connection.clone()
        assert beside is not None
        for client in (connection.client, beside.client):
            if isinstance(client, RedisCluster):
                options = [client.connection_kwargs]
                assert issubclass(options[0]["connection_class"], SSLConnection)
            else:
                pool = client.connection_pool
                assert issubclass(pool.connection_class, SSLConnection)
                options = [pool.connection_kwargs]
                if isinstance(pool, SentinelConnectionPool):
                    sentinels = [each.connection_pool for each in pool.sentinel_manager.sentinels]
                    assert all(issubclass(each.connection_class, SSLConnection) for each in sentinels)
                    options += [each.connection_kwargs for each in sentinels]
            assert all(each["ssl_ca_certs"] == str(ca_file) for each in options)


async def _a_second() -> None:
    await asyncio.sleep(1)
