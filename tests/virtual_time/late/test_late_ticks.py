"""Ticks that come late: after downtime, after an outage, by policy. Virtual time throughout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from fastapi_crons import CronConfig, Crons
from fastapi_crons.locking import (
    ClaimRequest,
    ClaimResult,
    DistributedLockManager,
    LeaseRef,
    LocalLockBackend,
    LockBackend,
)
from fastapi_crons.state import MemoryStateBackend
from fastapi_crons.testing import VirtualClock
from tests.conftest import MakeCrons
from tests.support import at, missed_of, nothing, runs_of
from tests.virtual_time.late.downtime import downtime


@pytest.mark.parametrize("expr", ["*/5 * * * *", "0,5,10,15,20,25,30,35,40,45,50,55 0-23 * * *"])
async def test_after_downtime_the_newest_tick_runs_once_and_names_the_others(
    clock: VirtualClock, make_crons: MakeCrons, expr: str
) -> None:
    crons = make_crons()
    crons.cron(expr, name="sync")(nothing)
    await crons.start()
    await clock.advance(crons, minutes=10)
    await downtime(clock, crons, hours=2, minutes=1)
    runs = await runs_of(crons, "sync")
    assert [at(run) for run in runs] == ["00:05:00", "00:10:00", "02:10:00"]
    assert (runs[-1].trigger, runs[-1].missed_ticks) == ("catch_up", 23)
    assert runs[-1].missed_since_ts == runs[1].tick_ts + 300  # type: ignore[operator]


async def test_without_coalescing_every_missed_tick_runs_oldest_first(
    clock: VirtualClock, make_crons: MakeCrons
) -> None:
    crons = make_crons(coalesce=False)
    crons.cron("0 * * * *", name="report")(nothing)
    await crons.start()
    await clock.advance(crons, hours=1)
    await downtime(clock, crons, hours=4, minutes=30)
    runs = await runs_of(crons, "report")
    assert [at(run) for run in runs] == [f"{hour:02}:00:00" for hour in range(1, 6)]
    assert [run.trigger for run in runs] == ["schedule", *["catch_up"] * 4]
    await clock.advance(crons, hours=1)
    assert at((await runs_of(crons, "report"))[-1]) == "06:00:00"


async def test_at_most_max_catch_up_ticks_run_and_the_rest_is_on_record(
    clock: VirtualClock, make_crons: MakeCrons
) -> None:
    crons = make_crons(coalesce=False, max_catch_up=3)
    crons.cron("0 * * * *", name="report")(nothing)
    await crons.start()
    await clock.advance(crons, minutes=1)
    await downtime(clock, crons, hours=10)
    assert [at(run) for run in await runs_of(crons, "report")] == ["08:00:00", "09:00:00", "10:00:00"]
    (missed,) = await missed_of(crons, "report")
    assert (missed.reason, missed.count, missed.first.hour, missed.last.hour) == ("max_catch_up", 7, 1, 7)


async def test_a_tick_older_than_its_grace_time_is_recorded_and_not_run(
    clock: VirtualClock, make_crons: MakeCrons
) -> None:
    crons = make_crons(misfire_grace_time=3600)
    crons.cron("0 * * * *", name="mail")(nothing)
    crons.cron("0 3 * * *", name="nightly")(nothing)
    await crons.start()
    await downtime(clock, crons, hours=5, minutes=30)
    assert [at(run) for run in await runs_of(crons, "mail")] == ["05:00:00"]
    (mail,) = await missed_of(crons, "mail")
    assert (mail.reason, mail.count) == ("misfire_grace_time", 4)
    assert await runs_of(crons, "nightly") == []
    (nightly,) = await missed_of(crons, "nightly")
    assert (nightly.reason, nightly.first.hour) == ("misfire_grace_time", 3)


async def test_a_very_long_row_of_missed_ticks_is_counted_up_to_a_bound(
    clock: VirtualClock, make_crons: MakeCrons
) -> None:
    crons = make_crons(misfire_grace_time=60)
    crons.cron("* * * * * *", name="tick")(nothing)
    await crons.start()
    await downtime(clock, crons, days=700)
    missed, coalesced = await missed_of(crons, "tick")
    assert (missed.count, missed.more) == (10_000, True)
    assert (coalesced.reason, coalesced.count) == ("coalesced", 60)
    assert clock.now() - missed.last_ts == 61
    (run,) = await runs_of(crons, "tick")
    assert (run.tick_ts, run.missed_ticks) == (clock.now(), 60)


async def test_a_job_seen_for_the_first_time_has_no_past(clock: VirtualClock, make_crons: MakeCrons) -> None:
    crons = make_crons()
    crons.cron("0 0 * * *", name="daily")(nothing)
    await crons.start()
    await clock.advance(crons, hours=23)
    assert await runs_of(crons, "daily") == []
    await clock.advance(crons, hours=2)
    assert len(await runs_of(crons, "daily")) == 1


async def test_a_clock_that_jumps_ahead_runs_each_job_once_for_the_gap(
    clock: VirtualClock, make_crons: MakeCrons
) -> None:
    clock.max_sleep = 1.0
    crons = make_crons()
    crons.cron("*/10 * * * *", name="poll")(nothing)
    await crons.start()
    await clock.advance(crons, minutes=15)
    clock.step(3600)
    await clock.advance(crons, minutes=10)
    runs = await runs_of(crons, "poll")
    assert [at(run) for run in runs] == ["00:10:00", "01:10:00", "01:20:00"]
    assert runs[1].missed_ticks == 5


async def test_a_clock_that_is_set_back_runs_no_tick_twice(clock: VirtualClock, make_crons: MakeCrons) -> None:
    clock.max_sleep = 1.0
    crons = make_crons()
    crons.cron("* * * * * */10", name="poll")(nothing)
    await crons.start()
    await clock.advance(crons, seconds=65)
    clock.step(-40)
    await clock.advance(crons, seconds=60)
    ticks = [run.tick_ts for run in await runs_of(crons, "poll")]
    assert len(ticks) == len(set(ticks))
    assert ticks == sorted(ticks)  # type: ignore[type-var]
    assert clock.now() - ticks[-1] < 10  # type: ignore[operator]


@pytest.mark.parametrize("seconds", [60, 1800, 3590, 4200, 7200, 14_400])
async def test_ticks_run_again_only_where_a_clock_was_set_back_by_more_than_an_hour_and_the_log_says_which(
    clock: VirtualClock, make_crons: MakeCrons, caplog: pytest.LogCaptureFixture, seconds: int
) -> None:
    clock.max_sleep = 60.0
    crons = make_crons()
    crons.cron("*/5 * * * *", name="often")(nothing)
    crons.cron("0 0 * * *", name="daily")(nothing)
    await crons.start()
    await clock.advance(crons, hours=26)
    clock.step(-seconds)
    await clock.advance(crons, seconds=seconds + 1200)
    often = [run.tick_ts for run in await runs_of(crons, "often")]
    again = len(often) - len(set(often))
    assert (again > 0) == (seconds > 3600)
    assert ("no tick runs a second time" in caplog.text) == (seconds <= 3600)
    assert ("run a second time; the others" in caplog.text) == (seconds > 3600)
    daily = [run.tick_ts for run in await runs_of(crons, "daily")]
    assert len(daily) == len(set(daily)), "it was not far ahead any more when it was due"
    assert crons.health().status == "ok", "all go on"


async def test_an_edited_schedule_fires_nothing_at_once_and_loses_nothing_silently(
    clock: VirtualClock, make_crons: MakeCrons
) -> None:
    first = make_crons()
    first.cron("0 * * * *", name="sync")(nothing)
    await first.start()
    await clock.advance(first, hours=2)
    assert first.engine is not None
    state, config = first.engine.state, first.engine.locks.config
    locks = DistributedLockManager(first.engine.locks.backend, config)
    await first.stop()
    await clock.advance(hours=3, minutes=30)

    second = Crons(state_backend=state, lock_manager=locks, config=config, clock=clock)
    second.cron("*/20 * * * *", name="sync")(nothing)
    await second.start()
    await clock.settle(second)
    assert len(await runs_of(second, "sync")) == 2
    (missed,) = await missed_of(second, "sync")
    assert (missed.reason, missed.count) == ("schedule_changed", 3)
    await clock.advance(second, minutes=10)
    assert at((await runs_of(second, "sync"))[-1]) == "05:40:00"
    await second.stop()


async def test_late_ticks_of_many_jobs_start_a_few_at_a_time(clock: VirtualClock, make_crons: MakeCrons) -> None:
    crons = make_crons(catch_up_concurrency=2)
    together: list[int] = []
    running = 0

    async def job() -> None:
        nonlocal running
        running += 1
        together.append(running)
        await clock.sleep(1)
        running -= 1

    for number in range(6):
        crons.cron("0 0 * * *", name=f"job-{number}")(job)
    await crons.start()
    await downtime(clock, crons, hours=30)
    await clock.advance(crons, seconds=10)
    assert (len(together), max(together)) == (6, 2)


async def test_a_week_of_five_minute_ticks_misses_none(clock: VirtualClock) -> None:
    crons = Crons(state_backend=MemoryStateBackend(), clock=clock)
    ran = 0

    @crons.cron("*/5 * * * *")
    async def count() -> None:
        nonlocal ran
        ran += 1

    await crons.start()
    await clock.advance(crons, days=7)
    await crons.stop()
    assert ran == 7 * 24 * 12


class _SlowLock(LocalLockBackend):
    """A lock store whose answers take a while."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__()
        self.clock, self.delay, self.down = clock, 0.0, False

    async def claim(self, requests: Sequence[ClaimRequest]) -> list[ClaimResult]:
        if self.down:
            raise OSError("no answer")
        answers = await super().claim(requests)
        if self.delay:
            await self.clock.sleep(self.delay)
        return answers

    async def release(self, leases: Sequence[LeaseRef]) -> list[bool]:
        if self.down:
            raise OSError("no answer")
        return await super().release(leases)


def _on(lock: LockBackend, make_crons: MakeCrons, **options: Any) -> Crons:
    return make_crons(lock_manager=DistributedLockManager(lock, CronConfig(**options)), **options)


async def test_a_claim_that_is_answered_too_late_is_let_go_and_the_job_goes_on(
    clock: VirtualClock, make_crons: MakeCrons
) -> None:
    lock = _SlowLock(clock)
    crons = _on(lock, make_crons, coalesce=False, misfire_grace_time=2, store_timeout=5)
    crons.cron("* * * * * *", name="tick")(nothing)
    await crons.start()
    await clock.advance(crons, seconds=5)
    lock.delay = 3.5
    await clock.advance(crons, seconds=7)
    lock.delay = 0
    await clock.advance(crons, seconds=10)
    ticks = [run.tick_ts or 0 for run in await runs_of(crons, "tick")]
    assert ticks[-5:] == [int(clock.now()) - ago for ago in (4, 3, 2, 1, 0)]
    missed = await missed_of(crons, "tick")
    assert {row.reason for row in missed} == {"misfire_grace_time"}
    assert len(ticks) + sum(row.count for row in missed) == 22, "every tick ran or is on record"


@pytest.mark.parametrize("overlap", ["skip", "queue", "allow"])
async def test_an_outage_of_the_lock_store_skips_nothing_as_overlap(
    clock: VirtualClock, make_crons: MakeCrons, overlap: str
) -> None:
    lock = _SlowLock(clock)
    crons = _on(lock, make_crons)

    @crons.cron("* * * * * */10", name="sync", overlap=overlap)  # type: ignore[arg-type]
    async def sync() -> None:
        # The store goes down while the job runs: its release is what waits.
        lock.down = clock.now() == start + 10

    start = clock.now()
    await crons.start()
    await clock.advance(crons, seconds=45)
    assert len(await runs_of(crons, "sync")) == 1
    assert crons.health().status == "unhealthy"
    lock.down = False
    await clock.advance(crons, seconds=15)
    runs = await runs_of(crons, "sync")
    missed = await missed_of(crons, "sync")
    assert {ticks.reason for ticks in missed} <= {"coalesced"}
    assert len(runs) + sum(ticks.count for ticks in missed) == 6
    assert crons.health().status == "ok"


async def test_marks_that_lie_far_ahead_of_the_clock_are_put_back_and_near_ones_wait(
    clock: VirtualClock, make_crons: MakeCrons, caplog: pytest.LogCaptureFixture
) -> None:
    clock.max_sleep = 1.0
    crons = make_crons()
    crons.cron("*/10 * * * *", name="poll")(nothing)
    await crons.start()
    await clock.advance(crons, minutes=15)
    clock.step(1800)
    await clock.advance(crons, minutes=5)
    clock.step(-1800)
    await clock.advance(crons, minutes=5)
    assert [at(run) for run in await runs_of(crons, "poll")] == ["00:10:00", "00:40:00", "00:50:00"]
    assert crons.health().findings == (
        "the last handled tick lies ahead of the clock, so nothing runs until then for 'poll'",
    )
    assert "the clock was set back by 1800 s" in caplog.text
    await clock.advance(crons, minutes=35)
    assert at((await runs_of(crons, "poll"))[-1]) == "01:00:00"
    assert crons.health().status == "ok"

    clock.step(86_400)
    await clock.advance(crons, minutes=15)
    clock.step(-86_400)
    await clock.advance(crons, minutes=20)
    assert "far ahead of the store's clock" in caplog.text
    assert [at(run) for run in (await runs_of(crons, "poll"))[-2:]] == ["01:20:00", "01:30:00"]


async def test_a_store_with_a_mark_of_tomorrow_is_mended_at_start(clock: VirtualClock, make_crons: MakeCrons) -> None:
    crons = make_crons()
    crons.cron("0 * * * *", name="job")(nothing)
    clock.step(100_000)
    await crons.start()
    await clock.advance(crons, hours=2)
    await crons.stop()
    clock.step(-100_000)
    await crons.start()
    await clock.advance(crons, hours=2)
    ticks = [run.tick_ts or 0 for run in await runs_of(crons, "job")]
    assert sum(tick <= clock.now() for tick in ticks) == 2
