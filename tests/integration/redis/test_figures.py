"""Figures and successes in Redis: counted once, whoever writes, and however often; and what earlier versions have left."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastapi_crons import MissedTicks, Run
from fastapi_crons.run import FAILED, RunStatus
from fastapi_crons.state import HistoryLimits, MissedQuery, RunQuery
from fastapi_crons.state.base import Record
from fastapi_crons.state.figures import Figures, bucket_of, day_of, of_missed, of_run, together, total
from fastapi_crons_redis import RedisStateBackend
from tests.faults.redis_server import RedisServer, needs_redis
from tests.integration.redis.history import DAY, NOW, a_run, new_id, on, some_missed
from tests.support import examples

pytestmark = needs_redis

LIMITS = HistoryLimits(1_000, 30, 1_000, 100)
JOBS = ("a", "b", "with spaces 40:3")
STATUSES: tuple[RunStatus, ...] = ("completed", "completed", "cancelled", *FAILED)


def some_records(order: random.Random) -> list[list[Record]]:
    """The stages of runs, and of ranges of missed ticks that grow: the last of each is what counts."""
    stages: list[list[Record]] = []
    for _ in range(order.randint(1, 30)):
        started = NOW - order.choice([0, 0.5, 3, 9]) * DAY
        begun = replace(a_run(order.choice(JOBS), "running"), started_ts=started, ended_ts=None)
        ended = started + order.choice([0, 0.0004, 0.25, 7, 90_000])
        stages.append([begun, replace(begun, status=order.choice(STATUSES), ended_ts=ended)])
    for _ in range(order.randint(0, 8)):
        first = int(NOW) - order.randint(0, 12) * DAY
        ticks = MissedTicks(new_id(), order.choice(JOBS), first, first, 1, "paused", NOW, "here")
        grown = replace(ticks, last_ts=first + order.choice([60, 5 * DAY, 500 * DAY]), count=order.randint(2, 900))
        stages.append([ticks, grown])
    return stages


@settings(max_examples=examples(15), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
def test_figures_are_those_of_all_that_ended_though_batches_come_again_from_two_instances(
    redis_server: RedisServer, seed: int
) -> None:
    async def check() -> None:
        order, namespace = random.Random(seed), f"figures-{new_id()}"
        backends = [on(redis_server.url), on(redis_server.url)]
        for backend in backends:
            await backend.open(namespace, LIMITS)
        stages = some_records(order)
        waiting = [list(each) for each in stages]
        while any(waiting):
            batch = [each.pop(0) for each in order.sample(waiting, len(waiting)) if each and order.random() < 0.5]
            for _ in range(order.randint(1, 3)):
                await order.choice(backends).write(batch)
        last = [each[-1] for each in stages]
        counted = [figures for record in last for figures in figures_of(record)]
        expected = {key: without_fractions(each) for key, each in total(counted).items()}
        # A range that has grown may leave a day without any of its ticks.
        found = [each for each in await backends[0].figures(None, since=0) if each.runs or each.missed]
        assert {(each.job, each.day): without_fractions(each) for each in found} == expected
        days = sorted({day for _, day in expected})
        since, until = sorted(order.choices(days, k=2))
        in_span = [each for each in expected.values() if since <= each.day <= until]
        sums = await backends[0].sums(None, since=since, until=until)
        assert {job: without_fractions(each) for job, each in sums.items() if each.runs or each.missed} == {
            job: together(each for each in in_span if each.job == job)._replace(job=job)
            for job in {each.job for each in in_span}
        }
        for backend in backends:
            await backend.close()

    asyncio.run(check())


def figures_of(record: Record) -> list[Figures]:
    return [of_run(record)] if isinstance(record, Run) else list(of_missed(record))


def without_fractions(figures: Figures) -> Figures:
    return figures._replace(longest=round(figures.longest, 4))


async def test_a_late_record_of_an_older_success_changes_nothing(state: RedisStateBackend) -> None:
    older, newer = replace(a_run(), ended_ts=NOW + 5), replace(a_run(), ended_ts=NOW + 9)
    await state.write([newer])
    await state.write([older, replace(a_run(status="failed"), ended_ts=NOW + 7)])
    seen = (await state.states())["job"]
    assert (seen.last_success_run, seen.last_success_ts, seen.failures) == (newer.id, NOW + 9, 0)


@pytest.mark.parametrize("damage", ["", "zzz", "1 2", "-1 0 0 0", "1 1 1 1 zzz", "0 x y z", "1e999 0 0 nan"])
async def test_damaged_figures_and_successes_cost_themselves_and_are_counted_anew(
    redis_server: RedisServer, state: RedisStateBackend, namespace: str, damage: str
) -> None:
    prefix, day = f"{{crons:{namespace}}}:state:", day_of(NOW)
    await state.write([a_run(), a_run("other")])
    redis_server.cli("HSET", f"{prefix}figures:{day}", "job", damage)
    redis_server.cli("HSET", f"{prefix}successes", "job", damage)
    assert [figures.job for figures in await state.figures(None, since=0)] == ["other"]
    assert {*await state.states()} == {"job", "other"}
    await state.write([a_run(), a_run(status="failed")])
    (figures,) = await state.figures(["job"], since=day)
    assert (figures.runs, figures.failed) == (2, 1)
    assert state.damaged()


@pytest.mark.parametrize(
    "damage", ["", "1 2", "-1 0 0 0", "1 1 1 1 zzz", "1e9 0 0 0", "1 0 0 1 300:1", "1 0 0 1 4:1 5", "1 0 0 1..5"]
)
async def test_a_damaged_day_is_left_out_of_the_sum_of_its_job_alone(
    redis_server: RedisServer, state: RedisStateBackend, namespace: str, damage: str
) -> None:
    days = [
        replace(a_run(job), started_ts=NOW - day * DAY, ended_ts=None) for job in ("job", "other") for day in range(3)
    ]
    await state.write([replace(run, ended_ts=run.started_ts + 2) for run in days])
    redis_server.cli("HSET", f"{{crons:{namespace}}}:state:figures:{day_of(NOW) - 1}", "job", damage)
    for jobs in (None, ["job", "other", "unknown"]):
        found = await state.sums(jobs, since=day_of(NOW) - 2)
        assert {job: (each.runs, {**each.durations}) for job, each in found.items()} == {
            "job": (2, {bucket_of(2): 2}),
            "other": (3, {bucket_of(2): 3}),
        }
    assert any("figures of job 'job'" in name for name in state.damaged())


async def test_numbers_that_a_script_would_not_add_up_exactly_are_added_up_nevertheless(
    redis_server: RedisServer, state: RedisStateBackend, namespace: str
) -> None:
    prefix, day, large = f"{{crons:{namespace}}}:state:", day_of(NOW), 2**52 + 1
    await state.write([a_run(), replace(a_run(), started_ts=NOW - DAY)])
    redis_server.cli("HSET", f"{prefix}figures:{day}", "job", f"{large} 0 0 1 4:{large}")
    sums = await state.sums(None, since=day - 1, until=day)
    assert (sums["job"].runs, sums["job"].durations[4]) == (large + 1, large)
    assert not state.damaged()


async def test_what_is_gone_is_left_out_of_the_indexes_across_jobs(
    redis_server: RedisServer, state: RedisStateBackend, namespace: str
) -> None:
    prefix = f"{{crons:{namespace}}}:state:"
    runs, missed = [a_run(status="failed") for _ in range(3)], [some_missed(), some_missed("other")]
    await state.write([*runs, *missed])
    redis_server.cli("DEL", f"{prefix}run:{runs[1].id}")
    redis_server.cli("DEL", f"{prefix}missed:other")
    for _ in range(2):
        assert await state.find_runs(RunQuery(None, FAILED)) == [runs[2], runs[0]]
        assert await state.find_missed(MissedQuery()) == [missed[0]]
    assert (redis_server.cli("ZCARD", f"{prefix}failed"), redis_server.cli("ZCARD", f"{prefix}missed")) == (2, 1)


async def test_what_an_earlier_version_has_left_is_in_the_indexes_after_the_first_prune(
    redis_server: RedisServer, state: RedisStateBackend, namespace: str
) -> None:
    prefix = f"{{crons:{namespace}}}:state:"
    good, bad = a_run(), replace(a_run(status="failed"), ended_ts=NOW + 2)
    missed = some_missed()
    await state.write([good, bad, missed])
    redis_server.cli("DEL", *(prefix + key for key in ("successes", "failed", "missed", "days")))
    await state.open(namespace, HistoryLimits(5, 30, 5, 2))
    assert (await state.states())["job"].last_success_run is None
    assert await state.runs("job") == [bad, good]
    await state.prune(NOW)
    assert await state.find_runs(RunQuery(None, FAILED)) == [bad]
    assert await state.find_missed(MissedQuery()) == [missed]
    seen = (await state.states())["job"]
    assert (seen.last_success_run, seen.failures) == (good.id, 1)
    assert abs((seen.last_success_took or 0) - 1) < 1e-5
    assert redis_server.cli("TTL", f"{prefix}run:{good.id}") == -1


async def test_much_is_cut_back_in_short_steps(redis_server: RedisServer, namespace: str) -> None:
    many, few = on(redis_server.url), on(redis_server.url)
    await many.open(namespace, HistoryLimits(10_000, 30, 10_000, 100))
    for _ in range(4):
        await many.write([a_run(status=status) for status in ("completed", "failed") for _ in range(500)])
    await few.open(namespace, HistoryLimits(20, 30, 200, 10))
    await few.write([a_run()])
    assert len(await few.runs("job", limit=10_000)) > 2_000
    await few.prune(NOW)
    kept = await few.find_runs(RunQuery(("job",), limit=10_000))
    assert len(kept) == 220
    assert await few.find_runs(RunQuery(None, FAILED, limit=10_000)) == [run for run in kept if run.status == "failed"]
    await few.prune(NOW + 31 * DAY)
    assert len(await few.runs("job", limit=10_000)) == 10
    await few.forget(["job"])
    assert await few.find_ids("") == []
    for backend in (many, few):
        await backend.close()
