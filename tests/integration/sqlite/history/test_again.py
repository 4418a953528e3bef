"""Two schedulers on one SQLite file are asked to run the same ticks again."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import datetime, timedelta, timezone

import pytest

from fastapi_crons import CronConfig, Crons, JobContext, JobLockedError, Run, TickRefusedError
from fastapi_crons.engine.backfills import Backfill, Span
from fastapi_crons.job import Overlap
from fastapi_crons.management.management import Management
from fastapi_crons.state import SQLiteStateBackend

TICK = datetime(2026, 3, 1, tzinfo=timezone.utc)


@pytest.mark.parametrize("overlap", ["skip", "allow"])
async def test_each_tick_is_run_once(overlap: Overlap) -> None:
    ran = Counter[datetime]()

    def scheduler(name: str) -> Crons:
        config = CronConfig(instance_id=name, heartbeat_interval=0.2)
        crons = Crons(state_backend=SQLiteStateBackend("jobs.db"), config=config)

        @crons.cron("0 0 * * *", name="job", overlap=overlap)
        async def job(context: JobContext) -> None:
            assert context.tick is not None
            ran[context.tick] += 1
            await asyncio.sleep(0.02)

        return crons

    both = [scheduler("a"), scheduler("b")]
    for crons in both:
        await crons.start()
    asked = [crons.run_job("job", tick=TICK) for crons in both for _ in range(3)]
    ended = await asyncio.gather(*asked, return_exceptions=True)
    assert [each.status for each in ended if isinstance(each, Run)] == ["completed"]
    assert {type(each) for each in ended} <= {Run, JobLockedError, TickRefusedError}
    last = TICK + timedelta(days=9)
    begun = await asyncio.gather(
        *(
            Management(crons).backfills.start(
                Span(crons.jobs.named("job"), int(TICK.timestamp()), int(last.timestamp()), one_by_one=True)
            )
            for crons in both
        ),
        return_exceptions=True,
    )
    (backfill,) = (each for each in begun if isinstance(each, Backfill))
    assert [type(each) for each in begun if each is not backfill] == [JobLockedError]
    # In the meantime each scheduler is asked for its newest tick by hand.
    by_hand = await asyncio.gather(*(crons.run_job("job", tick=last) for crons in both), return_exceptions=True)
    assert {type(each) for each in by_hand} <= {Run, JobLockedError, TickRefusedError}
    assert backfill.task is not None
    await backfill.task
    for crons in both:
        await crons.stop()
    ran_by_hand = sum(isinstance(each, Run) for each in by_hand)
    assert (backfill.status, backfill.done, backfill.skipped) == ("completed", 9 - ran_by_hand, ran_by_hand)
    assert ran == Counter(TICK + timedelta(days=day) for day in range(10))
