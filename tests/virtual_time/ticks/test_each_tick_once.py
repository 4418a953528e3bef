"""Any sequence of backfills, runs of ticks by hand and normal scheduling: each tick completes once, unless it is forced."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastapi_crons import CronConfig, Crons, CronsError, JobContext
from fastapi_crons.engine.backfills import Span
from fastapi_crons.job import Overlap
from fastapi_crons.locking import DistributedLockManager, LocalLockBackend
from fastapi_crons.management.management import Management
from fastapi_crons.state import MemoryStateBackend
from fastapi_crons.testing import VirtualClock
from tests.virtual_time.why.asking import MIDNIGHT

MINUTES = st.integers(-3, 30)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("wait"), st.integers(1, 5), st.just(0), st.just(False)),
        st.tuples(st.just("again"), MINUTES, st.just(0), st.just(False)),
        st.tuples(st.just("backfill"), MINUTES, st.integers(0, 15), st.booleans()),
        st.tuples(st.just("cancel"), st.just(0), st.just(0), st.just(False)),
        st.tuples(st.just("pause"), st.just(0), st.just(0), st.booleans()),
    ),
    min_size=3,
    max_size=12,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    steps=STEPS,
    overlap=st.sampled_from(["skip", "queue", "allow"]),
    coalesce=st.booleans(),
    takes=st.sampled_from([0, 20, 90]),
    fails=st.sets(st.integers(0, 20)),
)
def test_each_tick_completes_at_most_once(
    steps: list[tuple[str, int, int, bool]], overlap: Overlap, coalesce: bool, takes: int, fails: set[int]
) -> None:
    asyncio.run(_walk(steps, overlap, coalesce, takes, fails))


async def _walk(
    steps: list[tuple[str, int, int, bool]], overlap: Overlap, coalesce: bool, takes: int, fails: set[int]
) -> None:
    clock = VirtualClock(MIDNIGHT)
    locks = DistributedLockManager(LocalLockBackend())
    crons = Crons(state_backend=MemoryStateBackend(), lock_manager=locks, config=CronConfig(), clock=clock)
    calls, completed = [0], Counter[int]()

    @crons.cron("* * * * *", name="job", overlap=overlap, coalesce=coalesce)
    async def job(context: JobContext) -> None:
        calls[0] += 1
        number = calls[0]
        await clock.sleep(takes)
        if number in fails:
            raise ConnectionError
        assert context.tick is not None
        completed[int(context.tick.timestamp())] += 1

    await crons.start()
    management, asked = Management(crons), []
    paused = False
    for kind, first, length, flag in steps:
        start = MIDNIGHT + timedelta(minutes=first)
        before = (await management.known_jobs())[0].last_handled
        if kind == "again":
            asked.append(asyncio.create_task(crons.run_job("job", tick=start)))
        elif kind == "backfill":
            end = start + timedelta(minutes=length)
            span = Span(management.definition("job"), int(start.timestamp()), int(end.timestamp()), flag)
            asked.append(asyncio.create_task(management.backfills.start(span)))  # type: ignore[arg-type]
        elif kind == "cancel":
            for each in await management.backfills.of_job("job"):
                if each.status == "running":
                    await management.backfills.cancel("job", each.id)
        elif kind == "pause":
            if paused:
                await crons.resume("job", catch_up=flag)
            else:
                await crons.pause("job")
            paused = not paused
        if kind in ("again", "backfill"):
            await clock.advance(crons, seconds=1)
            assert (await management.known_jobs())[0].last_handled in (before, int(clock.now()) // 60 * 60)
        await clock.advance(crons, minutes=first if kind == "wait" else 1)
    await clock.advance(crons, minutes=60)
    ended = await asyncio.gather(*asked, return_exceptions=True)
    await crons.stop()
    assert [error for error in ended if isinstance(error, BaseException) and not isinstance(error, CronsError)] == []
    assert max(completed.values(), default=0) <= 1, completed
