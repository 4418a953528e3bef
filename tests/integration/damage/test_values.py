"""A value in Redis that is damaged costs itself, is named once, and costs nothing else: no page, no start, no run."""

from __future__ import annotations

import asyncio
import json
import random
import time
from typing import Any

import pytest
import redis.asyncio

from fastapi_crons import CronConfig, Crons
from fastapi_crons.clock import SystemClock
from fastapi_crons.testing import reset
from fastapi_crons_redis import RedisLockBackend, RedisStateBackend
from tests.faults.redis_server import RedisServer, needs_redis
from tests.integration.damage.stores import OTHER, VICTIM, check, elsewhere, leave_a_store


class Damager:
    """A Redis database with a bit of everything, in which one value at a time is damaged."""

    VALUES: tuple[object, ...] = (
        None,
        -1,
        0.5,
        1e300,
        10**25,
        "",
        "zzz",
        [],
        {},
        [[1]],
        True,
        "\ud800",
        -(10**18),
        9e15,
    )
    TEXTS = (
        b"",
        b"zzz",
        b"\xff\x00",
        b"[1",
        b"null",
        b"{}",
        b"1e999",
        b"inf",
        b"-1",
        b"1e300",
        b'[["x","y"],[1e999]]',
        b"[" * 2000,
    )

    def __init__(self, url: str) -> None:
        self.url = url
        self.dumps: dict[bytes, bytes] = {}

    async def make(self) -> None:
        client = redis.asyncio.from_url(self.url)
        await client.flushdb()
        state, locks = RedisStateBackend(client), RedisLockBackend(client)
        await leave_a_store(state, locks, SystemClock(), elsewhere(time.time()), EACH_SECOND)
        for key in await client.keys("*:beats"):
            for owner in await client.hkeys(key):
                await client.hset(key, owner, str(time.time() - 100))
        self.dumps = {key: await client.dump(key) for key in sorted(await client.keys("*"))}  # type: ignore[misc]
        await client.aclose()

    async def damage(self, draw: random.Random) -> str:
        """Put everything back, and damage one value; returns what was done."""
        client = redis.asyncio.from_url(self.url)
        await client.flushdb()
        for key, dump in self.dumps.items():
            await client.restore(key, 0, dump)
        # Most keys are runs: each kind is to be damaged as often.
        kind = draw.choice(sorted({key.split(b":")[3] for key in self.dumps}))
        key = draw.choice([key for key in self.dumps if key.split(b":")[3] == kind])
        done = await self._damage(client, key, draw)
        await client.aclose()
        return f"{key.decode()}: {done}"

    async def _damage(self, client: Any, key: bytes, draw: random.Random) -> str:
        kind = (await client.type(key)).decode()
        if draw.random() < 0.1:
            await client.delete(key)
            await client.lpush(key, "zzz")
            return "a list"
        if kind == "hash":
            field = draw.choice(sorted(await client.hkeys(key)))
            value = self._damaged(await client.hget(key, field), draw)
            await client.hset(key, field, value)
            return f"{field!r} {value!r}"
        if kind == "string":
            value = self._damaged(await client.get(key), draw)
            await client.set(key, value)
            return repr(value)
        value = draw.choice(self.TEXTS)
        if kind == "zset":
            member = draw.choice([value, *(await client.zrange(key, 0, -1))])
            score = draw.choice([0, 1e300, -5, float("inf")])
            await client.zadd(key, {member: score})
            return f"{member!r} {score}"
        await client.sadd(key, value)
        return repr(value)

    def _damaged(self, text: bytes, draw: random.Random) -> bytes:
        """Something else in its place, or one value in it that is something else."""
        try:
            value = json.loads(text)
        except ValueError:
            return draw.choice(self.TEXTS)
        if not isinstance(value, list) or draw.random() < 0.3:
            return draw.choice(self.TEXTS)
        place: Any = value
        while True:
            index = draw.randrange(len(place))
            if not (isinstance(place[index], list) and place[index] and draw.random() < 0.8):
                break
            place = place[index]
        place[index] = draw.choice(self.VALUES)
        return json.dumps(value).encode()


EACH_SECOND = "* * * * * *"


async def check_on_redis(url: str) -> None:
    """A scheduler starts on the damaged database; all its jobs go on, and all pages can be had."""
    client = redis.asyncio.from_url(url, decode_responses=True)
    config = CronConfig(heartbeat_interval=0.5, instance_timeout=5, disabled_plugins=frozenset({"dashboard"}))
    crons = Crons(state_backend=RedisStateBackend(client), config=config)

    async def until_they_ran(ran: list[str]) -> None:
        for _ in range(1_200):
            if {OTHER, VICTIM} <= {name for name in ran if ran.count(name) >= 2}:
                return
            await asyncio.sleep(0.05)

    await check(crons, EACH_SECOND, until_they_ran)
    await client.aclose()


@needs_redis
@pytest.mark.timeout(300)
def test_a_damaged_value_in_a_redis_store_costs_itself(redis_server: RedisServer) -> None:
    damager, draw = Damager(redis_server.url + "/9"), random.Random()
    for _ in range(12):
        reset()
        asyncio.run(damager.make())
        done = asyncio.run(damager.damage(draw))
        try:
            asyncio.run(check_on_redis(damager.url))
        except BaseException as error:
            raise AssertionError(f"this was damaged: {done}") from error
