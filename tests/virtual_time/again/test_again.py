"""A tick that somebody asks to run again, whatever happened to it before."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest

from fastapi_crons import Crons, JobContext, JobLockedError, Run, SkipRun, StoreUnavailableError, TickRefusedError
from fastapi_crons.job import Overlap
from fastapi_crons.state import MemoryStateBackend
from fastapi_crons.state.base import Record
from fastapi_crons.testing import VirtualClock
from tests.support import nothing
from tests.virtual_time.why.asking import MIDNIGHT, why

MakeCrons = Callable[..., Crons]
ONE = MIDNIGHT + timedelta(hours=1)


async def last_handled(crons: Crons) -> list[int | None]:
    assert crons.engine is not None
    return await crons.engine.locks.backend.last_handled(["job"])


async def test_the_run_has_the_tick_as_its_own_and_moves_no_last_handled_one(
    make_crons: MakeCrons, clock: VirtualClock
) -> None:
    crons, seen = make_crons(instance_id="worker-1"), []

    @crons.cron("0 * * * *", name="job", kwargs={"region": "eu", "size": 1})
    async def job(region: str, size: int, context: JobContext) -> None:
        seen.append((region, size, context.tick, context["triggered_by"], context["manual_trigger"]))
        if len(seen) == 1:
            raise ConnectionError

    await crons.start()
    await clock.advance(crons, hours=2, minutes=10)
    before = await last_handled(crons)
    run = await crons.run_job("job", tick=ONE, actor="ops", note="the other side was down", kwargs={"size": 2})
    assert (run.status, run.trigger, run.tick, run.actor) == ("completed", "again", ONE, "ops")
    assert seen[-1] == ("eu", 2, ONE, "again", True)
    assert await last_handled(crons) == before
    fate = await why(crons, "01:00:00")
    assert fate.fate == "ran"
    assert [each.status for each in fate.runs] == ["failed", "completed"]
    assert "It started at 2026-03-01 01:00:00 UTC on worker-1" in fate.text
    assert (
        "ConnectionError. It was run again at 2026-03-01 02:10:00 UTC, asked for by ops (the other side was down), by worker-1 "
        f"(run {run.id}), and completed after 0 s."
    ) in fate.text
    assert "the other side" not in (await why(crons, "01:00:00", details=False)).text


async def test_a_tick_that_ran_is_refused_and_forced(make_crons: MakeCrons, clock: VirtualClock) -> None:
    crons = make_crons(instance_id="worker-1")
    crons.cron("0 * * * *", name="job", timezone="Europe/Berlin")(nothing)
    await crons.start()
    await clock.advance(crons, hours=1, minutes=10)
    (run,) = await crons.runs("job")
    with pytest.raises(TickRefusedError) as refused:
        await crons.run_job("job", tick=ONE)
    assert str(refused.value) == (
        "the tick of 2026-03-01 02:00:00 CET of job 'job' ran already: it completed at 2026-03-01 02:00:00 CET "
        f"(run {run.id} on worker-1); force=True runs it again"
    )
    forced = await crons.run_job("job", tick=ONE, force=True)
    assert (forced.status, forced.tick) == ("completed", ONE)


async def test_what_is_no_tick_and_what_lies_ahead_is_refused_whatever_is_forced(
    make_crons: MakeCrons, clock: VirtualClock
) -> None:
    crons = make_crons()
    crons.cron("0 * * * *", name="job")(nothing)
    await crons.start()
    await clock.advance(crons, hours=2)
    with pytest.raises(TickRefusedError) as refused:
        await crons.run_job("job", tick=ONE + timedelta(minutes=30), force=True)
    assert str(refused.value) == (
        "job 'job' has no tick at 2026-03-01 01:30:00 UTC: the one before is 2026-03-01 01:00:00 UTC, the next one is "
        "2026-03-01 02:00:00 UTC"
    )
    with pytest.raises(TickRefusedError, match="lies in the future"):
        await crons.run_job("job", tick=ONE + timedelta(hours=5), force=True)
    with pytest.raises(ValueError, match="give an aware datetime"):
        await crons.run_job("job", tick=datetime(2026, 3, 1, 1))


async def test_each_former_fate_is_told_with_the_run_that_made_up_for_it(
    make_crons: MakeCrons, clock: VirtualClock
) -> None:
    crons = make_crons(instance_id="worker-1")

    @crons.cron("0 * * * *", name="job")
    async def job(context: JobContext) -> None:
        if context.tick == ONE and context["triggered_by"] == "schedule":
            await clock.sleep(5_000)  # the tick at two is skipped

    def veto(job_name: str, context: dict[str, object]) -> None:
        if context["scheduled_time"] == "2026-03-01T03:00:00+00:00" and not context["manual_trigger"]:
            raise SkipRun("not now")

    crons.add_before_run_hook(veto)
    await crons.start()
    await clock.advance(crons, hours=3, minutes=30)
    await crons.pause("job", actor="ops", note="quiet")
    await clock.advance(crons, hours=1)
    assert (await why(crons, "04:00:00")).fate == "paused"
    with pytest.raises(TickRefusedError, match="resume it first"):
        await crons.run_job("job", tick=MIDNIGHT + timedelta(hours=4))
    await crons.resume("job")
    for hour, former in (
        (2, "the job was still running"),
        (3, "A before-run hook vetoed it"),
        (4, "the job was paused"),
    ):
        await clock.advance(crons, minutes=1)
        run = await crons.run_job("job", tick=MIDNIGHT + timedelta(hours=hour), actor="ops")
        fate = await why(crons, f"0{hour}:00:00")
        assert former in fate.text
        assert f"It was run again at {clock.datetime:%Y-%m-%d %H:%M:%S} UTC, asked for by ops, by worker-1" in fate.text
        assert (fate.fate, fate.runs[-1].id) == ("ran", run.id)
        with pytest.raises(TickRefusedError, match=run.id):
            await crons.run_job("job", tick=MIDNIGHT + timedelta(hours=hour))


@pytest.mark.parametrize("overlap", ["skip", "queue", "allow"])
async def test_of_two_requests_for_the_same_tick_one_runs(
    make_crons: MakeCrons, clock: VirtualClock, overlap: Overlap
) -> None:
    crons, started = make_crons(), []

    @crons.cron("0 * * * *", name="job", overlap=overlap)
    async def job(context: JobContext) -> None:
        started.append(context.tick)
        if len(started) == 1:
            raise ConnectionError
        await clock.sleep(60)

    await crons.start()
    await clock.advance(crons, hours=1, minutes=10)
    both = [asyncio.create_task(crons.run_job("job", tick=ONE)) for _ in range(2)]
    await clock.advance(crons, minutes=2)
    ended = await asyncio.gather(*both, return_exceptions=True)
    runs = [each for each in ended if isinstance(each, Run)]
    assert [run.status for run in runs] == ["completed"]
    assert [type(each) for each in ended if not isinstance(each, Run)] == [JobLockedError]
    assert started == [ONE, ONE]


async def test_a_run_of_days_later_is_told_too(make_crons: MakeCrons, clock: VirtualClock) -> None:
    crons = make_crons()
    crons.cron("0 * * * *", name="job")(lambda: 1 / 0)
    await crons.start()
    await clock.advance(crons, days=3)
    run = await crons.run_job("job", tick=ONE)
    fate = await why(crons, "01:00:00")
    assert [each.trigger for each in fate.runs] == ["schedule", "again"]
    assert f"(run {run.id}), and failed after" in fate.text
    assert [each.trigger for each in (await why(crons, "02:00:00")).runs] == ["schedule"]


class Down(MemoryStateBackend):
    async def write(self, records: Sequence[Record]) -> None:
        raise StoreUnavailableError("it is down")


async def test_a_tick_that_was_just_skipped_can_be_run_although_the_state_store_does_not_know_yet(
    make_crons: MakeCrons, clock: VirtualClock
) -> None:
    crons = make_crons(state_backend=Down())
    crons.cron("0 * * * *", name="job")(nothing)
    await crons.start()
    await crons.pause("job")
    await clock.advance(crons, hours=1, minutes=10)
    await crons.resume("job")
    asked = asyncio.create_task(crons.run_job("job", tick=ONE))
    await clock.advance(crons, minutes=1)
    assert (await asked).status == "completed"


async def test_a_tick_that_a_later_run_stands_for_ran(make_crons: MakeCrons, clock: VirtualClock) -> None:
    crons = make_crons()
    crons.cron("0 * * * *", name="job")(nothing)
    await crons.start()
    await crons.pause("job")
    await clock.advance(crons, hours=3)
    await crons.resume("job", catch_up=True)
    await clock.advance(crons, minutes=1)
    (run,) = await crons.runs("job")
    assert run.missed_ticks == 2
    with pytest.raises(TickRefusedError, match=rf"run {run.id} on .*, which stands for it with that of .* 03:00:00"):
        await crons.run_job("job", tick=ONE)


async def test_a_tick_from_before_the_job_was_there_can_be_run(make_crons: MakeCrons, clock: VirtualClock) -> None:
    crons = make_crons()
    crons.cron("0 * * * *", name="job")(nothing)
    await crons.start()
    run = await crons.run_job("job", tick=MIDNIGHT - timedelta(days=9))
    assert (run.status, run.tick) == ("completed", MIDNIGHT - timedelta(days=9))


async def test_a_tick_whose_record_was_deleted_may_have_run(make_crons: MakeCrons, clock: VirtualClock) -> None:
    crons = make_crons(history_keep=3, history_keep_always=0)
    crons.cron("* * * * *", name="job")(nothing)
    await crons.start()
    await clock.advance(crons, minutes=10)
    with pytest.raises(TickRefusedError, match=r"nothing on record says whether the tick of .* ran"):
        await crons.run_job("job", tick=MIDNIGHT + timedelta(minutes=2))
    assert (await crons.run_job("job", tick=MIDNIGHT + timedelta(minutes=2), force=True)).status == "completed"


@pytest.mark.parametrize("clock", [VirtualClock("2025-10-26T00:00:00Z")], ids=["clocks go back"])
async def test_both_passes_of_an_hour_that_is_there_twice_are_ticks_of_their_own(
    make_crons: MakeCrons, clock: VirtualClock
) -> None:
    crons = make_crons()
    crons.cron("30 * * * *", name="job", timezone="Europe/Berlin")(lambda: 1 / 0)
    await crons.start()
    await clock.advance(crons, hours=3)
    for fold, hour in ((0, 0), (1, 1)):
        tick = datetime(2025, 10, 26, 2, 30, fold=fold, tzinfo=ZoneInfo("Europe/Berlin"))
        run = await crons.run_job("job", tick=tick)
        assert run.tick == datetime(2025, 10, 26, hour, 30, tzinfo=timezone.utc)
        assert len([each for each in await crons.runs("job") if each.tick == run.tick]) == 2


async def test_a_job_that_counts_from_its_end_is_not_delayed_by_a_tick_that_is_run_again(
    make_crons: MakeCrons, clock: VirtualClock
) -> None:
    from fastapi_crons.schedules import Every

    crons = make_crons()
    failed: list[bool] = []

    @crons.cron(Every(hours=1, after="end"), name="job")
    async def job() -> None:
        if not failed:
            failed.append(True)
            raise ConnectionError

    await crons.start()
    await clock.advance(crons, hours=1, minutes=30)
    (run,) = await crons.runs("job")
    handled = await last_handled(crons)
    again = await crons.run_job("job", tick=run.tick)
    assert (again.status, again.tick) == ("completed", run.tick)
    assert await last_handled(crons) == handled
    await clock.advance(crons, minutes=31)
    newest, *_ = await crons.runs("job")
    assert newest.trigger == "schedule"
    with pytest.raises(TickRefusedError, match="has no tick at"):
        await crons.run_job("job", tick=ONE + timedelta(seconds=7))
