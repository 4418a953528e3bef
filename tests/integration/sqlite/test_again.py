"""Two schedulers on one SQLite file are asked to run the same ticks again."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import datetime, timedelta, timezone

import pytest

from fastapi_crons import CronConfig, Crons, JobContext, JobLockedError, Run, TickRefusedError
from fastapi_crons.engine.backfills import Span
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
    backfills = [
        await Management(crons).backfills.start(
            Span(crons.jobs.named("job"), int(TICK.timestamp()), int(last.timestamp()), one_by_one=True)
        )
        for crons in both
    ]
    await asyncio.gather(*(each.task for each in backfills if each.task is not None))
    for crons in both:
        await crons.stop()
    assert [each.status for each in backfills] == ["completed", "completed"]
    assert sum(each.done for each in backfills) == 9
    assert ran == Counter(TICK + timedelta(days=day) for day in range(10))
