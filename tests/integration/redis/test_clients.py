"""What clients of several kinds hear of history in Redis, and the connections that they hold."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator
from contextlib import AsyncExitStack, aclosing
from pathlib import Path

import pytest
from redis.asyncio import Redis, RedisCluster

from fastapi_crons import CronConfig, Crons
from fastapi_crons.errors import StoreUnavailableError
from fastapi_crons.state import BackfillRecord, HistoryLimits, Signal
from fastapi_crons_redis import RedisStateBackend
from tests import seam
from tests.faults.redis_server import RedisServer, needs_redis
from tests.integration.redis.history import DAY, NOW, ODD_NAMES, a_run, first, on, some_missed
from tests.support import until_async

pytestmark = needs_redis


@pytest.fixture(scope="module")
def cluster() -> Iterator[RedisServer]:
    with RedisServer(cluster=True) as server:
        yield server


async def test_other_clients_hear_what_is_written_and_told_in_their_namespace(
    redis_server: RedisServer, state: RedisStateBackend, namespace: str
) -> None:
    async with AsyncExitStack() as stack:
        other, stranger = on(redis_server.url), on(redis_server.url)
        for backend, name in ((other, namespace), (stranger, f"{namespace}.")):
            await backend.open(name, HistoryLimits(5, 30))
            stack.push_async_callback(backend.close)
        signal, run, ticks = Signal("resume", "job", None, "ops"), a_run(), some_missed()
        await stranger.write([run])
        events = await stack.enter_async_context(aclosing(state.events()))
        assert await first(events, other, other.publish(signal)) == signal
        await stranger.publish(Signal("leave"))
        await other.write([run, ticks])
        assert [await anext(events) for _ in range(2)] == [run, ticks]


async def test_a_listener_leaves_no_connection_behind(redis_server: RedisServer, namespace: str) -> None:
    client = Redis.from_url(redis_server.url)
    backend = RedisStateBackend(client)
    await backend.open(namespace, HistoryLimits(5, 30))
    channel = f"{{crons:{namespace}}}:state:signals"
    async with aclosing(backend.events()) as events:
        await first(events, backend, backend.publish(Signal("leave")))
        assert redis_server.cli("PUBSUB", "NUMSUB", channel) == [channel, 1]
    await until_async(lambda: redis_server.cli("PUBSUB", "NUMSUB", channel) == [channel, 0])
    await client.aclose()


@pytest.mark.parametrize("own", [True, False])
async def test_a_listener_is_told_that_its_connection_broke(
    redis_server: RedisServer, namespace: str, own: bool
) -> None:
    client = Redis.from_url(redis_server.url)
    backend = on(redis_server.url) if own else RedisStateBackend(client)
    await backend.open(namespace, HistoryLimits(5, 30))

    async def kill() -> None:
        redis_server.cli("CLIENT", "KILL", "TYPE", "pubsub")

    with pytest.raises(StoreUnavailableError):
        await first(backend.events(), backend, kill())
    run = a_run()
    async with aclosing(backend.events()) as events:
        assert await first(events, backend, backend.write([run])) == run
    await backend.close()
    await client.aclose()


async def test_a_listener_notices_a_server_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    seam.REDIS_SILENCE.replace(monkeypatch, 1)
    with RedisServer() as server:
        backend = on(server.url)
        await backend.open("default", HistoryLimits(5, 30))
        listening = asyncio.ensure_future(anext(backend.events()))
        await asyncio.sleep(3)
        assert not listening.done(), "a silent server that answers is no fault"
        server.pause()
        with pytest.raises(StoreUnavailableError, match="no answer"):
            await listening
        server.resume()
        await backend.close()


async def test_history_goes_on_where_the_user_may_not_publish(redis_server: RedisServer, namespace: str) -> None:
    user = f"u{secrets.token_hex(4)}"
    redis_server.cli("ACL", "SETUSER", user, "on", ">pw", "+@all", "~{crons:*", "resetchannels")
    backend = on(redis_server.url.replace("redis://", f"redis://{user}:pw@"))
    await backend.open(namespace, HistoryLimits(5, 30))
    async with Redis.from_url(redis_server.url) as client, client.pubsub() as listener:
        await listener.subscribe(f"{{crons:{namespace}}}:state:events")
        await asyncio.sleep(0.2)
        await backend.write([a_run()])
    assert len(await backend.runs("job")) == 1
    with pytest.raises(StoreUnavailableError, match=f"as user '{user}'"):
        await anext(backend.events())
    await backend.close()
    redis_server.cli("ACL", "DELUSER", user)


@pytest.mark.parametrize("own", [True, False])
async def test_a_cluster_keeps_a_namespace_and_tells_of_it(cluster: RedisServer, namespace: str, own: bool) -> None:
    client = RedisCluster.from_url(cluster.url)
    backend = on(cluster.url.replace("redis:", "redis+cluster:")) if own else RedisStateBackend(client)
    await backend.open(namespace, HistoryLimits(5, 30))
    runs = [a_run(name) for name in ODD_NAMES for _ in range(10)]
    async with aclosing(backend.events()) as events:
        assert await first(events, backend, backend.write(runs)) == runs[0]
        for run in runs[1:]:
            assert await anext(events) == run
        await backend.publish(Signal("leave"))
        assert await anext(events) == Signal("leave")
    assert set(await backend.states()) == set(ODD_NAMES)
    assert {len(await backend.runs(name)) for name in ODD_NAMES} == {5}
    begun = [BackfillRecord(a_run(name).id, name, "owner", "here", 0, 60, NOW) for name in ODD_NAMES]
    assert [await backend.begin_backfill(each) for each in begun] == [None] * len(begun)
    assert await backend.change_backfill(begun[0]._replace(revision=1))
    assert {each.job for each in await backend.backfills()} == set(ODD_NAMES)
    await backend.prune(NOW + 31 * DAY)
    await backend.forget(ODD_NAMES)
    assert await backend.states() == {}
    assert await backend.backfills() == []
    await backend.close()
    await client.aclose()


async def test_a_scheduler_with_stores_made_from_a_url_starts_again_and_leaves_no_connection(
    redis_server: RedisServer,
) -> None:
    before = len(redis_server.cli("CLIENT", "LIST").splitlines())
    crons = Crons(state_backend=RedisStateBackend(redis_server.url), config=CronConfig(namespace="by-url"))
    crons.cron("0 0 1 1 *", name="job")(list)
    for times in (1, 2):
        await crons.start()
        await crons.run_job("job")
        assert len(await crons.runs("job")) == times
        await crons.stop()
    assert len(redis_server.cli("CLIENT", "LIST").splitlines()) == before
    assert not list(Path().iterdir())
