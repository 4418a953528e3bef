"""What is special to history in Redis: keys, round trips, expiry, damage, other layouts and other applications."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import replace

import pytest
from redis.asyncio import Redis

from fastapi_crons import LogLine
from fastapi_crons.errors import StoreUnusableError
from fastapi_crons.state import HistoryLimits
from fastapi_crons_redis import RedisStateBackend
from fastapi_crons_redis.scripts import HISTORY_KEYS
from tests.faults.redis_server import RedisServer, needs_redis
from tests.integration.redis.history import DAY, NOW, ODD_NAMES, a_run, first, on, some_missed

pytestmark = needs_redis


@pytest.fixture
def keys(redis_server: RedisServer, namespace: str) -> Callable[[], list[str]]:
    """What the namespace has on the server."""
    return lambda: sorted(redis_server.cli("KEYS", f"{{crons:{namespace}}}:*"))


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
        assert await first(events, backend, backend.write([run])) == replace(run, log=())
    assert await backend.run(run.id) == run
    assert (await backend.states())["jöb"].last_run_ts == NOW / 3
    await backend.close()
    assert await client.ping()
    await client.aclose()


async def test_states_of_all_jobs_are_read_in_few_steps_none_of_which_reads_all(
    redis_server: RedisServer, state: RedisStateBackend
) -> None:
    for part in range(0, 10_000, 1_000):
        await state.write([a_run(f"job {number}") for number in range(part, part + 1_000)])
    for jobs, number in ((None, 10_000), ([f"job {number}" for number in range(5_000)], 5_000)):
        redis_server.cli("CONFIG", "RESETSTAT")
        assert len(await state.states(jobs)) == number
        calls = redis_server.cli("INFO", "commandstats")["cmdstat_evalsha"]["calls"]
        assert number / 2_000 <= calls <= number / 500


async def test_a_run_is_found_by_a_part_of_its_id_among_many_jobs_and_runs(
    redis_server: RedisServer, namespace: str
) -> None:
    many, few = on(redis_server.url), on(redis_server.url)
    await many.open(namespace, HistoryLimits(30_000, 30, 10_000, 100))
    failed, *runs = a_run(status="failed"), *(a_run() for _ in range(24_000)), *(a_run(f"job {n}") for n in range(300))
    for part in range(0, len(runs), 2_000):
        await many.write([failed, *runs[part : part + 2_000]])
    await few.open(namespace, HistoryLimits(5, 30, 10_000, 5))
    redis_server.cli("CONFIG", "RESETSTAT")
    for run in (failed, runs[0], runs[23_999], runs[-1]):
        for piece in (run.id, run.id[-12:], run.id[:-1]):
            assert await many.find_ids(piece) == [run.id]
    assert redis_server.cli("INFO", "commandstats")["cmdstat_evalsha"]["calls"] > 12 * 3
    assert await many.find_ids("") == sorted((run.id for run in (failed, *runs)), reverse=True)
    await few.prune(NOW)
    assert await few.find_ids(failed.id[-8:]) == [failed.id]
    for pattern in ("*", "?" * 8, "[0-9a-f]" * 4, "\\", failed.id[:-1] + "?"):
        assert await few.find_ids(pattern) == []
    for index in ("runs:job 7", "failed:job 8"):
        redis_server.cli("DEL", f"{{crons:{namespace}}}:state:{index}")
        redis_server.cli("LPUSH", f"{{crons:{namespace}}}:state:{index}", "zzz")
    assert await few.find_ids(runs[-1].id[-8:]) == [runs[-1].id]
    for backend in (many, few):
        await backend.close()


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
    assert kept - {*HISTORY_KEYS} == {f"run:{(await state.unfinished())[0].id}"}
    figures = {key for key in lives if key.startswith("figures:")}
    assert all(365 * DAY < lives[key] <= 366 * DAY for key in figures)
    assert all(30 * DAY < seconds <= 31 * DAY for key, seconds in lives.items() if key not in kept | figures)
    assert lives.keys() - kept - figures == {f"run:{run.id}", f"log:{run.id}", "runs:job", "missed:job"}


async def test_runs_that_are_kept_however_old_they_are_do_not_expire(
    redis_server: RedisServer, state: RedisStateBackend, namespace: str
) -> None:
    await state.write([a_run()])
    assert redis_server.cli("TTL", f"{{crons:{namespace}}}:state:runs:job") > 0
    await state.open(namespace, HistoryLimits(5, 30, keep_always=2))
    run = replace(a_run(), log=(LogLine(NOW, "INFO", "app", "line"),))
    await state.write([run])
    for key in (f"run:{run.id}", f"log:{run.id}", "runs:job"):
        assert redis_server.cli("TTL", f"{{crons:{namespace}}}:state:{key}") == -1


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
        heard = await first(events, state, state.write([late, other]))
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
        heard = [await first(events, state, state.write(runs))]
        heard += [await anext(events) for _ in runs[1:]]
    assert heard == runs
    assert await state.run(runs[7].id) == runs[7]


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
    assert redis_server.cli("HGETALL", layout) == {"version": "2", "compatible_from": "1"}
    redis_server.cli("HSET", layout, "version", 7)
    await state.open(namespace, HistoryLimits(5, 30))
    redis_server.cli("HSET", layout, "compatible_from", 5)
    with pytest.raises(StoreUnusableError, match="newer version"):
        await state.open(namespace, HistoryLimits(5, 30))
    assert redis_server.cli("HGETALL", layout) == {"version": "7", "compatible_from": "5"}


@pytest.mark.parametrize(
    "damage", [("compatible_from", "1e300"), ("compatible_from", "-1"), ("version", "zzz"), ("compatible_from", "3")]
)
async def test_a_damaged_layout_is_written_anew(
    redis_server: RedisServer, state: RedisStateBackend, namespace: str, damage: tuple[str, str]
) -> None:
    layout = f"{{crons:{namespace}}}:state:layout"
    redis_server.cli("HSET", layout, *damage)
    await state.open(namespace, HistoryLimits(5, 30))
    assert redis_server.cli("HGETALL", layout) == {"version": "2", "compatible_from": "1"}


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
