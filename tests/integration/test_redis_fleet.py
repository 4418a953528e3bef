"""Two schedulers on one Redis server: what is asked of one reaches the other at once, whatever its heartbeat."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator

import pytest_asyncio

from fastapi_crons import CronConfig, Crons
from fastapi_crons.locking import DistributedLockManager
from fastapi_crons.service import Service
from fastapi_crons.testing import reset
from fastapi_crons_redis_lock import RedisLockBackend
from fastapi_crons_redis_lock._connection import Connection as LockConnection
from fastapi_crons_redis_lock.settings import RedisSettings as LockSettings
from fastapi_crons_redis_state import RedisStateBackend
from fastapi_crons_redis_state._connection import Connection as StateConnection
from fastapi_crons_redis_state.settings import RedisSettings as StateSettings
from tests.faults.redis_server import RedisServer, needs_redis

pytestmark = needs_redis


@pytest_asyncio.fixture
async def two(redis_server: RedisServer) -> AsyncIterator[list[Crons]]:
    """Two schedulers with the same jobs, whose heartbeats are a minute apart."""
    namespace, made = secrets.token_hex(6), []
    for name in ("one", "other"):
        reset()
        config = CronConfig(namespace=namespace, instance_id=name, heartbeat_interval=60)
        lock = RedisLockBackend.on(LockConnection.by_settings(LockSettings(url=redis_server.url), 5))
        state = RedisStateBackend.on(StateConnection.by_settings(StateSettings(url=redis_server.url), 5))
        crons = Crons(state_backend=state, lock_manager=DistributedLockManager(lock, config), config=config)
        crons.cron("0 0 1 1 *", name="long")(_long)
        crons.cron("* * * * * *", name="each_second", overlap="allow")(_nothing)
        await crons.start()
        made.append(crons)
    await asyncio.sleep(0.5)
    yield made
    for crons in made:
        await crons.stop()


async def test_a_run_is_cancelled_at_once_wherever_it_goes_on(two: list[Crons]) -> None:
    one, other = two
    running = asyncio.ensure_future(other.run_job("long"))
    await asyncio.sleep(0.5)
    (going_on,) = await Service(one).runs("long")
    assert await one.cancel_run(going_on.id, actor="ops")
    run = await asyncio.wait_for(running, 5)
    assert (run.status, run.instance) == ("cancelled", "other")
    assert run.error is not None
    assert "by ops" in run.error.message


async def test_instances_share_their_ticks_as_soon_as_they_know_of_each_other(two: list[Crons]) -> None:
    await asyncio.sleep(6)
    runs = await Service(two[0]).runs("each_second", limit=50)
    assert {run.instance for run in runs[:-1]} == {"one", "other"}
    assert len({run.tick_ts for run in runs}) == len(runs)


async def test_a_pause_holds_everywhere_and_ends_everywhere(two: list[Crons]) -> None:
    one, other = two
    await other.pause("each_second", actor="ops", note="why")
    assert (await one.pauses())["each_second"][1:] == ("ops", "why")
    await asyncio.sleep(0.3)
    before = len(await Service(one).runs("each_second", limit=100))
    await asyncio.sleep(2.2)
    assert len(await Service(one).runs("each_second", limit=100)) == before
    assert await one.resume("each_second")
    await asyncio.sleep(2.2)
    assert len(await Service(other).runs("each_second", limit=100)) > before
    assert "paused" in {row.reason for row in await Service(other).missed("each_second")}


async def _long() -> None:
    await asyncio.sleep(60)


async def _nothing() -> None: ...
