"""Which missed ticks were made up for: run again, one by one or by a run that stands for several."""

from __future__ import annotations

from datetime import timedelta

import pytest

from fastapi_crons import Crons, MissedTicks, Run
from fastapi_crons.engine.backfills import Span
from fastapi_crons.management.history import made_up_for
from fastapi_crons.management.management import Management
from fastapi_crons.run import MissedReason
from fastapi_crons.state import MissedQuery
from fastapi_crons.testing import VirtualClock
from tests.conftest import MakeCrons
from tests.virtual_time.why.asking import MIDNIGHT

HOUR = 3_600
START = int(MIDNIGHT.timestamp())


async def missed(crons: Crons, *, only_open: bool = False, limit: int = 50) -> list[tuple[int, int]]:
    """Of each record, oldest first: its first hour, and how many ticks were made up for."""
    found = await Management(crons).find_missed(MissedQuery(limit=limit), only_open=only_open)
    return [((each.ticks.first_ts - START) // HOUR, each.made_up) for each in reversed(found)]


@pytest.fixture
async def crons(make_crons: MakeCrons, clock: VirtualClock) -> Crons:
    """An hourly job that missed its ticks from two to five, and that of eight."""
    crons = make_crons()

    @crons.cron("0 * * * *", name="job")
    async def job(fails: bool = False) -> None:
        if fails:
            raise ConnectionError

    await crons.start()
    await clock.advance(crons, hours=1, minutes=30)
    for hours, then in ((4, 2), (1, 1)):
        await crons.pause("job")
        await clock.advance(crons, hours=hours)
        await crons.resume("job")
        await clock.advance(crons, hours=then)
    return crons


async def test_each_tick_that_is_run_again_to_completion_counts_once(crons: Crons) -> None:
    assert await missed(crons) == [(2, 0), (8, 0)]
    three, eight = MIDNIGHT + timedelta(hours=3), MIDNIGHT + timedelta(hours=8)
    failed = await crons.run_job("job", tick=three, kwargs={"fails": True})
    assert failed.status == "failed"
    assert await missed(crons) == [(2, 0), (8, 0)]
    await crons.run_job("job", tick=three)
    await crons.run_job("job", tick=three, force=True)
    assert await missed(crons) == [(2, 1), (8, 0)]
    await crons.run_job("job", tick=eight)
    assert await missed(crons) == [(2, 1), (8, 1)]
    assert await missed(crons, only_open=True) == [(2, 1)]


async def test_a_run_that_stands_for_several_makes_up_for_all_of_them(crons: Crons, clock: VirtualClock) -> None:
    management = Management(crons)
    span = Span(management.definition("job"), START + 3 * HOUR, START + 8 * HOUR)
    await management.backfills.start(span)
    await clock.advance(crons, seconds=10)
    (run,) = [run for run in await crons.runs("job") if run.trigger == "again"]
    assert run.missed_ticks == 3
    assert await missed(crons) == [(2, 3), (8, 1)]
    await crons.run_job("job", tick=MIDNIGHT + timedelta(hours=2))
    assert await missed(crons) == [(2, 4), (8, 1)]
    assert await missed(crons, only_open=True) == []


async def test_open_records_are_found_behind_those_that_are_not(crons: Crons) -> None:
    await crons.run_job("job", tick=MIDNIGHT + timedelta(hours=8))
    assert await missed(crons, limit=1) == [(8, 1)]
    assert await missed(crons, only_open=True, limit=1) == [(2, 0)]


def record(name: str, first: int, last: int, count: int, reason: MissedReason = "overlap") -> MissedTicks:
    return MissedTicks(name, "job", first, last, count, reason, last, "here")


def made_up(*runs: tuple[int, int], of: tuple[MissedTicks, ...]) -> dict[str, int]:
    """What runs make up for, each of a tick that stands for those since another one."""
    ran = [
        Run("", "job", tick, "again", 1, "here", 1, "completed", 0, 1, missed_since_ts=None if since == tick else since)
        for since, tick in runs
    ]
    return made_up_for(of, ran)


def test_spans_that_overlap_count_once_and_a_record_has_no_more_than_its_ticks() -> None:
    minutes = record("minutes", 60, 600, 10)
    assert made_up(of=(minutes,)) == {"minutes": 0}
    assert made_up((120, 240), (180, 300), (300, 300), (420, 420), of=(minutes,)) == {"minutes": 5}
    assert made_up((0, 120), (540, 900), (660, 720), of=(minutes,)) == {"minutes": 4}
    assert made_up((0, 900), of=(minutes,)) == {"minutes": 10}
    assert made_up((0, 900), of=(record("one", 60, 60, 1),)) == {"one": 1}
    assert made_up((700, 900), of=(minutes,)) == {"minutes": 0}


def test_a_tick_with_a_record_of_its_own_is_not_one_of_the_record_around_it() -> None:
    around, vetoed = record("around", 60, 600, 9), record("vetoed", 300, 300, 1, "vetoed")
    assert made_up((300, 300), of=(around, vetoed)) == {"around": 0, "vetoed": 1}
    assert made_up((300, 300), (360, 360), of=(around, vetoed)) == {"around": 1, "vetoed": 1}
