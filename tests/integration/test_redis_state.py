"""What is special to history in Redis: keys, round trips, expiry, events, clients of several kinds."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from redis.asyncio import Redis, RedisCluster

from fastapi_crons import CronConfig, Crons, LogLine, MissedTicks, Run
from fastapi_crons.clock import SystemClock
from fastapi_crons.errors import StoreUnavailableError, StoreUnusableError
from fastapi_crons.run import RunIds, RunStatus
from fastapi_crons.state import Event, HistoryLimits, Signal
from fastapi_crons_redis import RedisStateBackend
from fastapi_crons_redis.scripts import HISTORY_KEYS
from tests import seam
from tests.faults.redis_server import RedisServer, connection_to, needs_redis

pytestmark = needs_redis

NOW = SystemClock().now()
DAY = 86_400
ODD_NAMES = ["a:b", "a", "run:a", "*", "{other}", "}{", "with spaces", "ünï🚀", 'quoted "\\" name', "new\nline"]
new_id = RunIds()


def a_run(job: str = "job", status: RunStatus = "completed", *, run_id: str | None = None) -> Run:
    return Run(run_id or new_id(), job, int(NOW), "schedule", 1, "here", 7, status, NOW, NOW + 1)


def some_missed(job: str = "job") -> MissedTicks:
    return MissedTicks(new_id(), job, 10, 20, 3, "overlap", NOW, "here")


def on(url: str) -> RedisStateBackend:
    return RedisStateBackend.on(connection_to(url))


@pytest.fixture
def namespace() -> str:
    return f"state-{secrets.token_hex(6)}"


@pytest_asyncio.fixture
async def state(redis_server: RedisServer, namespace: str) -> AsyncIterator[RedisStateBackend]:
    backend = on(redis_server.url)
    await backend.open(namespace, HistoryLimits(5, 30))
    yield backend
    await backend.close()


@pytest.fixture
def keys(redis_server: RedisServer, namespace: str) -> Callable[[], list[str]]:
    """What the namespace has on the server."""
    return lambda: sorted(redis_server.cli("KEYS", f"{{crons:{namespace}}}:*"))


@pytest.fixture(scope="module")
def cluster() -> Iterator[RedisServer]:
    with RedisServer(cluster=True) as server:
        yield server


async def first(events: AsyncIterator[Event], act: Coroutine[Any, Any, object]) -> Event:
    """The first event of an act that waits until somebody listens."""
    listening = asyncio.ensure_future(anext(events))
    await asyncio.sleep(0.3)
    await act
    return await asyncio.wait_for(listening, 5)


async def test_jobs_with_odd_names_stay_apart_and_in_one_hash_slot(
    state: RedisStateBackend, keys: Callable[[], list[str]], namespace: str
) -> None:
    runs = {name: a_run(name) for name in ODD_NAMES}
    await state.write([*runs.values(), *map(some_missed, ODD_NAMES)])
    assert set(await state.states()) == set(await state.states(ODD_NAMES)) == set(ODD_NAMES)
    for name, run in runs.items():
        assert await state.runs(name) == [run]
        assert len(await state.missed(name)) == 1
    assert all(key.startswith(f"{{crons:{namespace}}}:state:") for key in keys())
    await state.forget(ODD_NAMES[1:])
    assert await state.runs(ODD_NAMES[0]) == [runs[ODD_NAMES[0]]]
    await state.forget(ODD_NAMES)
    assert keys() == [f"{{crons:{namespace}}}:state:layout"]


@pytest.mark.parametrize("decode", [True, False])
@pytest.mark.parametrize("protocol", [2, 3])
async def test_a_client_of_the_user_is_used_as_it_is_and_left_open(
    redis_server: RedisServer, namespace: str, decode: bool, protocol: int
) -> None:
    client = Redis.from_url(redis_server.url, decode_responses=decode, protocol=protocol)
    backend = RedisStateBackend(client)
    await backend.open(namespace, HistoryLimits(5, 30))
    run = replace(a_run("jöb"), log=(LogLine(NOW, "INFO", "app", "line ü"),), token=2**53 - 1, started_ts=NOW / 3)
    async with aclosing(backend.events()) as events:
        assert await first(events, backend.write([run])) == replace(run, log=())
    assert await backend.run(run.id) == run
    assert (await backend.states())["jöb"].last_run_ts == NOW / 3
    await backend.close()
    assert await client.ping()
    await client.aclose()


async def test_states_take_one_round_trip_whatever_the_number_of_jobs(
    redis_server: RedisServer, state: RedisStateBackend
) -> None:
    for part in range(0, 10_000, 1_000):
        await state.write([a_run(f"job {number}") for number in range(part, part + 1_000)])
    assert len(await state.states([f"job {number}" for number in range(5_000)])) == 5_000
    before = redis_server.commands_processed()
    assert len(await state.states()) == 10_000
    # The script, and the one command in it.
    assert redis_server.commands_processed() - before == 2


async def test_a_batch_of_records_is_one_call(redis_server: RedisServer, state: RedisStateBackend) -> None:
    redis_server.cli("CONFIG", "RESETSTAT")
    await state.write([a_run(f"job {number}") for number in range(1_000)])
    assert redis_server.cli("INFO", "commandstats")["cmdstat_evalsha"]["calls"] == 1


async def test_the_number_of_runs_is_held_at_each_write_and_running_ones_are_kept(
    state: RedisStateBackend, keys: Callable[[], list[str]]
) -> None:
    running, logged = a_run(status="running"), replace(a_run(), log=(LogLine(NOW, "INFO", "app", "line"),))
    await state.write([running, logged, *(some_missed() for _ in range(20))])
    await state.write([a_run() for _ in range(20)])
    assert len(await state.runs("job", limit=100)) == 6
    assert await state.run(running.id) == running
    assert await state.run(logged.id) is None
    assert len(await state.missed("job", limit=100)) == 5
    assert sum(":state:run:" in key for key in keys()) == 6
    assert not any(":state:log:" in key for key in keys())
    await state.write([replace(running, status="completed"), a_run()])
    assert len(await state.runs("job", limit=100)) == 5


async def test_new_limits_cut_all_jobs_back_at_the_first_prune(
    redis_server: RedisServer, state: RedisStateBackend, namespace: str
) -> None:
    jobs = [f"job {number}" for number in range(300)]
    await state.write([a_run(job) for job in jobs for _ in range(3)])
    other = on(redis_server.url)
    await other.open(namespace, HistoryLimits(2, 30))
    await other.prune(NOW)
    assert {len(await other.runs(job)) for job in jobs} == {2}
    await other.prune(NOW + 31 * DAY)
    assert {len(await other.runs(job)) for job in jobs} == {0}
    await other.close()


async def test_hundreds_of_old_runs_that_go_on_do_not_keep_prune_from_ending(state: RedisStateBackend) -> None:
    await state.write([a_run(f"job {number}", "running") for number in range(300)])
    await asyncio.wait_for(state.prune(NOW + 31 * DAY), 5)
    assert len(await state.unfinished()) == 300


async def test_what_has_ended_expires_by_itself(
    redis_server: RedisServer, state: RedisStateBackend, keys: Callable[[], list[str]]
) -> None:
    run = a_run(status="running")
    await state.write([run, some_missed()])
    await state.write(
        [replace(a_run(run_id=run.id), log=(LogLine(NOW, "INFO", "app", "line"),)), a_run(status="running")]
    )
    lives = {key.split(":state:")[1]: redis_server.cli("TTL", key) for key in keys()}
    kept = {key for key, seconds in lives.items() if seconds == -1}
    assert kept - {"states", "running", "oldest", "layout"} == {f"run:{(await state.unfinished())[0].id}"}
    assert all(30 * DAY < seconds <= 31 * DAY for key, seconds in lives.items() if key not in kept)
    assert {key for key in lives if key not in kept} == {f"run:{run.id}", f"log:{run.id}", "runs:job", "missed:job"}


async def test_history_may_be_kept_for_ever(state: RedisStateBackend, namespace: str) -> None:
    await state.open(namespace, HistoryLimits(5, 1e300))
    await state.write([a_run()])
    await state.prune(NOW)
    assert len(await state.runs("job")) == 1


async def test_a_run_that_the_server_dropped_is_left_out(
    redis_server: RedisServer, state: RedisStateBackend, namespace: str
) -> None:
    runs = [a_run(), a_run(status="running"), a_run()]
    await state.write(runs)
    for run in runs[:2]:
        redis_server.cli("DEL", f"{{crons:{namespace}}}:state:run:{run.id}")
    assert await state.runs("job", limit=1) == await state.runs("job") == [runs[2]]
    assert await state.runs("job", limit=0) == []
    assert await state.unfinished() == []
    assert redis_server.cli("SCARD", f"{{crons:{namespace}}}:state:running") == 0


async def test_a_closed_record_takes_no_part_in_a_later_batch(state: RedisStateBackend) -> None:
    closed = a_run(status="interrupted")
    await state.write([closed])
    late, other = a_run(status="running", run_id=closed.id), a_run("other", "running")
    async with aclosing(state.events()) as events:
        heard = await first(events, state.write([late, other]))
    assert heard == other
    assert await state.run(closed.id) == closed
    assert [run.id for run in await state.unfinished()] == [other.id]
    assert (await state.states())["job"].status == "interrupted"


async def test_text_that_is_no_unicode_is_refused_as_such_and_nothing_is_kept(state: RedisStateBackend) -> None:
    with pytest.raises(UnicodeError):
        await state.write([a_run(), replace(a_run(), note="\ud800")])
    with pytest.raises(TypeError):
        await state.write([a_run(), replace(a_run(), note=b"bytes")])  # type: ignore[arg-type]
    assert await state.states() == {}
    await state.write([a_run()])
    assert set(await state.states()) == {"job"}


async def test_large_results_come_back_and_are_told(redis_server: RedisServer, state: RedisStateBackend) -> None:
    runs = [replace(a_run(f"job {number}"), result_json='"' + "ü\\n" * 16_000 + '"') for number in range(100)]
    async with aclosing(state.events()) as events:
        heard = [await first(events, state.write(runs))]
        heard += [await asyncio.wait_for(anext(events), 5) for _ in runs[1:]]
    assert heard == runs
    assert await state.run(runs[7].id) == runs[7]


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
        assert await first(events, other.publish(signal)) == signal
        await stranger.publish(Signal("leave"))
        await other.write([run, ticks])
        assert [await asyncio.wait_for(anext(events), 5) for _ in range(2)] == [run, ticks]


async def test_a_listener_leaves_no_connection_behind(redis_server: RedisServer, namespace: str) -> None:
    client = Redis.from_url(redis_server.url)
    backend = RedisStateBackend(client)
    await backend.open(namespace, HistoryLimits(5, 30))
    channel = f"{{crons:{namespace}}}:state:signals"
    async with aclosing(backend.events()) as events:
        await first(events, backend.publish(Signal("leave")))
        assert redis_server.cli("PUBSUB", "NUMSUB", channel) == [channel, 1]
    await asyncio.sleep(0.1)
    assert redis_server.cli("PUBSUB", "NUMSUB", channel) == [channel, 0]
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
        await first(backend.events(), kill())
    run = a_run()
    async with aclosing(backend.events()) as events:
        assert await first(events, backend.write([run])) == run
    await backend.close()
    await client.aclose()


async def test_a_listener_notices_a_server_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    seam.REDIS_SILENCE.replace(monkeypatch, 0.3)
    with RedisServer() as server:
        backend = on(server.url)
        await backend.open("default", HistoryLimits(5, 30))
        listening = asyncio.ensure_future(anext(backend.events()))
        await asyncio.sleep(1)
        assert not listening.done(), "a silent server that answers is no fault"
        server.pause()
        with pytest.raises(StoreUnavailableError, match="no answer"):
            await asyncio.wait_for(listening, 5)
        server.resume()
        await backend.close()


@pytest.mark.parametrize("key", [*HISTORY_KEYS, "runs:job", "missed:job"])
async def test_a_key_of_another_kind_lasts_until_the_next_write(
    state: RedisStateBackend, redis_server: RedisServer, namespace: str, key: str, caplog: pytest.LogCaptureFixture
) -> None:
    damaged = f"{{crons:{namespace}}}:state:{key}"
    before, begun = a_run(), a_run(status="running")
    await state.write([before, begun, some_missed()])
    redis_server.cli("SET", damaged, "neither a hash nor a set")
    now, missed = a_run(), some_missed()
    await state.write([now, missed])
    assert now.id in [run.id for run in await state.runs("job")]
    assert missed in await state.missed("job")
    assert (await state.states())["job"].status == "completed"
    assert await state.unfinished() == ([] if key == "running" else [begun])
    await state.prune(NOW)
    assert state.damaged() == [f"history in Redis: key {damaged}"]
    assert [record.levelname for record in caplog.records] == ["ERROR"]


async def test_a_store_of_a_newer_layout_is_refused_unless_it_says_that_we_may(
    redis_server: RedisServer, state: RedisStateBackend, namespace: str
) -> None:
    layout = f"{{crons:{namespace}}}:state:layout"
    assert redis_server.cli("HGETALL", layout) == {"version": "1", "compatible_from": "1"}
    redis_server.cli("HSET", layout, "version", 7)
    await state.open(namespace, HistoryLimits(5, 30))
    redis_server.cli("HSET", layout, "compatible_from", 5)
    with pytest.raises(StoreUnusableError, match="newer version"):
        await state.open(namespace, HistoryLimits(5, 30))
    assert redis_server.cli("HGETALL", layout) == {"version": "7", "compatible_from": "5"}


@pytest.mark.parametrize(
    "damage", [("compatible_from", "1e300"), ("compatible_from", "-1"), ("version", "zzz"), ("compatible_from", "2")]
)
async def test_a_damaged_layout_is_written_anew(
    redis_server: RedisServer, state: RedisStateBackend, namespace: str, damage: tuple[str, str]
) -> None:
    layout = f"{{crons:{namespace}}}:state:layout"
    redis_server.cli("HSET", layout, *damage)
    await state.open(namespace, HistoryLimits(5, 30))
    assert redis_server.cli("HGETALL", layout) == {"version": "1", "compatible_from": "1"}


@pytest.mark.parametrize("damage", [{"job": "zzz"}, {"id": "01a2234d-3d2a-7002-b317-bf33643aa9a2"}])
async def test_a_run_that_says_it_is_another_is_passed_over(
    redis_server: RedisServer, state: RedisStateBackend, namespace: str, damage: dict[str, str]
) -> None:
    good, bad = a_run(), a_run()
    await state.write([good, bad])
    key = f"{{crons:{namespace}}}:state:run:{bad.id}"
    (field, value), text = *damage.items(), redis_server.cli("GET", key)
    redis_server.cli("SET", key, text.replace(f'"{getattr(bad, field)}"', f'"{value}"'))
    assert await state.runs(good.job) == [good]
    assert [name for name in state.damaged() if bad.id in name]


async def test_fields_that_a_later_version_adds_do_no_harm(
    redis_server: RedisServer, state: RedisStateBackend, namespace: str
) -> None:
    run = a_run()
    await state.write([run])
    key = f"{{crons:{namespace}}}:state:run:{run.id}"
    redis_server.cli("SET", key, redis_server.cli("GET", key)[:-2] + ',"new"]]')
    assert await state.run(run.id) == run


async def test_records_of_an_earlier_version_lack_what_came_later(
    redis_server: RedisServer, state: RedisStateBackend, namespace: str
) -> None:
    run = a_run()
    await state.write([run])
    key = f"{{crons:{namespace}}}:state:run:{run.id}"
    text = redis_server.cli("GET", key)
    assert text.endswith(",0,null,0.0,null]]")
    for lacking in (",null]]", ",0.0,null]]", ",null,0.0,null]]"):
        redis_server.cli("SET", key, text.removesuffix(lacking) + "]]")
        assert await state.runs("job") == [run]


async def test_keys_of_other_applications_cost_nothing_and_stay(namespace: str) -> None:
    with RedisServer() as server:
        others = Redis.from_url(server.url)
        await others.mset({f"foreign:{number}": "x" for number in range(10_000)})
        backend = on(server.url)
        await backend.open(namespace, HistoryLimits(5, 30))
        server.cli("CONFIG", "RESETSTAT")
        await backend.write([a_run(), a_run(status="running"), some_missed()])
        await backend.states()
        await backend.unfinished()
        await backend.prune(NOW + 31 * DAY)
        await backend.forget(["job"])
        assert not {"cmdstat_keys", "cmdstat_scan"} & set(server.cli("INFO", "commandstats"))
        assert server.cli("DBSIZE") == 10_001
        await backend.close()
        await others.aclose()


async def test_scripts_that_the_server_forgot_are_brought_again(
    redis_server: RedisServer, state: RedisStateBackend
) -> None:
    redis_server.cli("SCRIPT", "FLUSH")
    await state.write([a_run()])
    assert len(await state.runs("job")) == 1


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
        assert await first(events, backend.write(runs)) == runs[0]
        for run in runs[1:]:
            assert await anext(events) == run
        await backend.publish(Signal("leave"))
        assert await asyncio.wait_for(anext(events), 5) == Signal("leave")
    assert set(await backend.states()) == set(ODD_NAMES)
    assert {len(await backend.runs(name)) for name in ODD_NAMES} == {5}
    await backend.prune(NOW + 31 * DAY)
    await backend.forget(ODD_NAMES)
    assert await backend.states() == {}
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
