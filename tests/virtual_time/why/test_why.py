"""What became of an instant, and why: one sentence or two for every fate there is."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from fastapi_crons import CronConfig, Crons, SkipRun
from fastapi_crons.engine.engine import Role
from fastapi_crons.errors import StoreUnavailableError, UnknownJobError
from fastapi_crons.locking import DistributedLockManager, LocalLockBackend
from fastapi_crons.locking.base import ClaimRequest, ClaimResult
from fastapi_crons.management.management import Management
from fastapi_crons.state import SQLiteStateBackend
from fastapi_crons.testing import VirtualClock, reset
from tests.support import nothing
from tests.virtual_time.why.asking import MIDNIGHT, why

MakeCrons = Callable[..., Crons]


@pytest.mark.parametrize(("takes", "told"), [(0.00008, "0 s"), (10_800.25, "10800.25 s")])
async def test_how_long_a_run_took_is_told_in_plain_figures(
    clock: VirtualClock, make_crons: MakeCrons, takes: float, told: str
) -> None:
    crons = make_crons()
    crons.cron("0 1 * * *", name="job")(lambda: clock.sleep(takes))
    await crons.start()
    await clock.advance(crons, hours=5)
    assert (await why(crons, "01:00:00")).text.endswith(f"and completed after {told}.")


async def test_a_tick_that_ran(clock: VirtualClock, make_crons: MakeCrons) -> None:
    crons = make_crons(instance_id="worker-1")

    @crons.cron("*/5 * * * *", name="job")
    async def job() -> None:
        await clock.sleep(2.5)

    await crons.start()
    await clock.advance(crons, minutes=6)
    fate = await why(crons, "00:05:00")
    assert fate.fate == "ran"
    assert f"It started at 2026-03-01 00:05:00 UTC on worker-1 (run {fate.runs[0].id})" in fate.text
    assert fate.text.endswith("and completed after 2.5 s.")
    assert fate.next is not None
    assert fate.next.minute == 10


async def test_a_tick_whose_run_failed_tells_the_error_to_those_who_may_know(
    clock: VirtualClock, make_crons: MakeCrons
) -> None:
    crons = make_crons()

    @crons.cron("*/5 * * * *", name="job", max_retries=1, retry_delay=1)
    async def job() -> None:
        raise ConnectionError("the password is hunter2")

    await crons.start()
    await clock.advance(crons, minutes=6)
    fate = await why(crons, "00:05:00")
    assert fate.fate == "ran"
    assert "attempt 2" in fate.text
    assert fate.text.endswith(" s: ConnectionError: the password is hunter2.")
    assert "hunter2" not in (await why(crons, "00:05:00", details=False)).text


async def test_a_tick_that_runs_and_those_that_it_is_in_the_way_of(clock: VirtualClock, make_crons: MakeCrons) -> None:
    crons = make_crons()

    @crons.cron("* * * * *", name="job")
    async def job() -> None:
        await clock.sleep(1_000)

    await crons.start()
    await clock.advance(crons, minutes=3, seconds=10)
    running, skipped = await why(crons, "00:01:00"), await why(crons, "00:02:00")
    assert running.fate == "running"
    assert running.text.endswith("and is still running.")
    assert skipped.fate == "skipped"
    assert f"the job was still running: run {running.runs[0].id} held the job" in skipped.text
    assert "one of 2 ticks from 2026-03-01 00:02:00 UTC to 2026-03-01 00:03:00 UTC" in skipped.text


async def test_a_tick_that_waits_for_a_run(clock: VirtualClock, make_crons: MakeCrons) -> None:
    crons = make_crons()

    @crons.cron("* * * * *", name="job", overlap="queue")
    async def job() -> None:
        await clock.sleep(100)

    await crons.start()
    await clock.advance(crons, minutes=2, seconds=10)
    waiting = await why(crons, "00:02:00")
    assert waiting.fate == "waiting"
    assert "It was due 10 seconds ago, and no instance has claimed it: it waits for run" in waiting.text
    await clock.advance(crons, minutes=1)
    ran = await why(crons, "00:02:00")
    assert ran.fate == "running"
    assert "It started late: run" in ran.text
    assert "of the job was running until 2026-03-01 00:02:40 UTC" in ran.text


async def test_a_tick_that_a_hook_vetoed(clock: VirtualClock, make_crons: MakeCrons) -> None:
    crons = make_crons()
    crons.cron("* * * * *", name="job")(nothing)

    def veto(job_name: str, context: dict[str, object]) -> None:
        raise SkipRun("maintenance window")

    crons.add_before_run_hook(veto)
    await crons.start()
    await clock.advance(crons, minutes=1, seconds=10)
    fate = await why(crons, "00:01:00")
    assert fate.fate == "vetoed"
    assert fate.text == "A before-run hook vetoed it: maintenance window."


async def test_the_ticks_of_a_pause_while_it_lasts_and_afterwards(clock: VirtualClock, make_crons: MakeCrons) -> None:
    crons = make_crons()
    crons.cron("* * * * *", name="job")(nothing)
    await crons.start()
    await clock.advance(crons, minutes=1, seconds=30)
    await crons.pause("job", actor="ops", note="the other side is down")
    await clock.advance(crons, minutes=3)
    during = await why(crons, "00:03:00")
    assert during.fate == "paused"
    assert "The job is paused since 2026-03-01 00:01:30 UTC by ops: the other side is down" in during.text
    assert "the other side" not in (await why(crons, "00:03:00", details=False)).text
    assert "will be due" in (await why(crons, "00:09:00")).text
    await crons.resume("job")
    await clock.advance(crons, minutes=1)
    after = await why(crons, "00:03:00")
    assert after.fate == "paused"
    assert "It was not run: the job was paused: by ops since 2026" in after.text
    assert (await why(crons, "00:05:00")).fate == "ran"


async def test_the_ticks_of_a_downtime(clock: VirtualClock, tmp_path: Path) -> None:
    async def life(minutes: float, **options: object) -> Crons:
        reset()
        config = CronConfig(instance_id="worker-1")
        crons = Crons(state_backend=SQLiteStateBackend(tmp_path / "jobs.db"), config=config, clock=clock)
        crons.cron("*/10 * * * *", name="coalesced")(nothing)
        crons.cron("*/10 * * * *", name="graced", misfire_grace_time=60)(nothing)
        await crons.start()
        await clock.advance(crons, minutes=minutes)
        return crons

    await (await life(11)).stop()
    await clock.advance(minutes=44)
    crons = await life(1)
    covered, newest = await why(crons, "00:20:00", "coalesced"), await why(crons, "00:50:00", "coalesced")
    missed = await why(crons, "00:40:00", "graced")
    outside = await why(crons, "00:25:00", "coalesced")
    await crons.stop()
    assert covered.fate == "covered"
    assert "It was late: no instance ran the job until 2026-03-01 00:55:00 UTC" in covered.text
    assert "the run of 2026-03-01 00:50:00 UTC stands for it and for all late ticks, 4 ticks" in covered.text
    assert newest.fate == "ran"
    assert "It started late: no instance ran the job" in newest.text
    assert "The run stands for 3 earlier ticks too, since 2026-03-01 00:20:00 UTC." in newest.text
    assert missed.fate == "missed"
    assert "it was later than its misfire grace time allows: no instance ran the job until" in missed.text
    assert outside.fate == "not_due"


class Unreachable(LocalLockBackend):
    """A lock store that can be cut off."""

    away = False

    async def claim(self, requests: Sequence[ClaimRequest]) -> list[ClaimResult]:
        if self.away:
            raise StoreUnavailableError("connection refused")
        return await super().claim(requests)


async def test_ticks_that_were_due_while_the_lock_store_did_not_answer(
    clock: VirtualClock, make_crons: MakeCrons
) -> None:
    store = Unreachable()
    crons = make_crons(lock_manager=DistributedLockManager(store, CronConfig()))
    crons.cron("* * * * *", name="job")(nothing)
    await crons.start()
    store.away = True
    await clock.advance(crons, minutes=3, seconds=10)
    assert (await why(crons, "00:01:00")).fate == "waiting"
    store.away = False
    await clock.advance(crons, minutes=1)
    fate = await why(crons, "00:02:00")
    assert fate.fate == "covered"
    assert "It was late: the lock store did not answer (StoreUnavailableError: connection refused) until" in fate.text


async def test_ticks_that_were_due_while_the_clock_was_behind(clock: VirtualClock, make_crons: MakeCrons) -> None:
    crons = make_crons()
    crons.cron("* * * * *", name="job")(nothing)
    await crons.start()
    await clock.advance(crons, minutes=1, seconds=10)
    clock.step(600)
    await clock.advance(crons, minutes=1)
    fate = await why(crons, "00:05:00")
    assert fate.fate == "covered"
    assert "It was late: the clock was behind, or the machine was suspended until 2026-03-01 00:12:0" in fate.text


async def test_instants_that_are_no_ticks_and_ticks_to_come(clock: VirtualClock, make_crons: MakeCrons) -> None:
    crons = make_crons()
    crons.cron("30 2 * * *", name="job", timezone="Europe/Berlin")(nothing)
    await crons.start()
    await clock.advance(crons, minutes=30)
    not_due, to_come = await why(crons, "00:10:00"), await why(crons, "02 01:30:00")
    assert not_due.fate == "not_due"
    assert not_due.text == (
        "The job is not due then: '30 2 * * *' in Europe/Berlin has no tick at that instant; "
        "the next tick after it is 2026-03-01 02:30:00 CET."
    )
    assert to_come.fate == "not_yet"
    assert to_come.text == "It is due in 1 day and 1 hour, and has not been handled yet."


async def test_an_instant_from_before_the_job_was_known(clock: VirtualClock, make_crons: MakeCrons) -> None:
    crons = make_crons()
    crons.cron("* * * * *", name="job")(nothing)
    await crons.start()
    await clock.advance(crons, minutes=5)
    fate = await Management(crons).explain_tick("job", MIDNIGHT - timedelta(hours=1))
    assert fate.fate == "older_schedule"
    assert "The schedule '* * * * *' in UTC is in force since 2026-03-01 00:00:00 UTC. What was due before" in fate.text


async def test_ticks_of_an_older_schedule(clock: VirtualClock, tmp_path: Path) -> None:
    async def life(expr: str, minutes: float) -> Crons:
        reset()
        crons = Crons(state_backend=SQLiteStateBackend(tmp_path / "jobs.db"), config=CronConfig(), clock=clock)
        crons.cron(expr, name="job")(nothing)
        await crons.start()
        await clock.advance(crons, minutes=minutes)
        return crons

    await (await life("*/10 * * * *", 12)).stop()
    await clock.advance(minutes=20)
    crons = await life("15 * * * *", 5)
    ran, missed = await why(crons, "00:10:00"), await why(crons, "00:20:00")
    await crons.stop()
    assert ran.fate == "ran"
    assert "It was due under an older schedule. The schedule '15 * * * *' in UTC is in force since" in ran.text
    assert missed.fate == "missed"
    assert "it was due under an older schedule, which was changed before an instance ran it" in missed.text
    assert "the schedule was '*/10 * * * *'" in missed.text


async def test_a_tick_that_the_history_does_not_reach_back_to(clock: VirtualClock, make_crons: MakeCrons) -> None:
    crons = make_crons(history_keep=3)
    crons.cron("* * * * *", name="job")(nothing)
    await crons.start()
    await clock.advance(crons, minutes=10, seconds=10)
    fate = await why(crons, "00:02:00")
    assert fate.fate == "unknown"
    assert "there is no record of it: the history reaches back to 2026-03-01 00:08:00 UTC only" in fate.text


async def test_a_job_that_nobody_has_and_one_that_no_instance_has_registered(
    clock: VirtualClock, make_crons: MakeCrons
) -> None:
    crons = make_crons(enabled=False)
    crons.cron("* * * * *", name="job")(nothing)
    await crons.start()
    await clock.advance(crons, minutes=5)
    fate = await why(crons, "00:02:00")
    assert fate.fate == "unknown"
    assert fate.text == "No instance has registered the job in this store, so none has run it."
    with pytest.raises(UnknownJobError):
        await why(crons, "00:02:00", "nobody")


async def test_what_a_clock_with_fractions_has_recorded_is_told_on_the_clock_of_the_job() -> None:
    clock = VirtualClock("2026-03-01T00:00:00.346410Z")
    crons = Crons(config=CronConfig(state_backend="memory", lock_backend="local"), clock=clock)
    crons.cron("* * * * *", name="job", timezone="Europe/Berlin")(nothing)
    await crons.start()
    await crons.pause("job", actor="ann", note="full")
    await clock.advance(crons, minutes=2)
    await crons.resume("job")
    await clock.advance(crons, seconds=1)
    fate = await why(crons, "00:01:00")
    await crons.stop()
    assert "the job was paused: by ann since 2026-03-01 01:00:00 CET: full." in fate.text


async def test_ticks_beside_those_that_a_long_run_is_in_the_way_of(clock: VirtualClock, make_crons: MakeCrons) -> None:
    crons = make_crons()

    @crons.cron("* * * * *", name="job")
    async def job() -> None:
        await clock.sleep(10_000)

    await crons.start()
    await clock.advance(crons, minutes=2, seconds=10)
    await crons.pause("job")
    await clock.advance(crons, minutes=3)
    await crons.resume("job")
    await clock.advance(crons, minutes=2)
    fates = [(await why(crons, f"00:0{minute}:00")).fate for minute in range(1, 8)]
    assert fates == ["running", "skipped", "paused", "paused", "paused", "skipped", "skipped"]


async def test_ticks_that_were_late_already_when_the_job_was_paused(clock: VirtualClock, tmp_path: Path) -> None:
    async def life() -> Crons:
        reset()
        crons = Crons(state_backend=SQLiteStateBackend(tmp_path / "jobs.db"), config=CronConfig(), clock=clock)
        crons.cron("*/10 * * * *", name="job")(nothing)
        return crons

    crons = await life()
    await crons.start()
    await crons.stop()
    await clock.advance(minutes=31)
    crons = await life()
    await crons.start("operator")
    await crons.pause("job", actor="ops")
    assert "already late when the pause began" in (await why(crons, "00:20:00")).text
    await crons.stop()
    crons = await life()
    await crons.start()
    await clock.advance(crons, minutes=20)
    await crons.resume("job")
    await clock.advance(crons, seconds=1)
    late, paused = await why(crons, "00:20:00"), await why(crons, "00:40:00")
    await crons.stop()
    assert (late.fate, paused.fate) == ("paused", "paused")
    assert "the job was paused: it was already late when the pause began, by ops" in late.text
    assert "one of 3 ticks from 2026-03-01 00:10:00 UTC to 2026-03-01 00:30:00 UTC" in late.text
    assert "the job was paused: by ops" in paused.text


async def test_a_pause_that_an_operator_ends_whose_job_has_another_zone(clock: VirtualClock, tmp_path: Path) -> None:
    async def start(zone: str, role: Role) -> Crons:
        reset()
        crons = Crons(state_backend=SQLiteStateBackend(tmp_path / "jobs.db"), config=CronConfig(), clock=clock)
        crons.cron("0 * * * *", name="job", timezone=zone)(nothing)
        await crons.start(role)
        return crons

    scheduler = await start("Asia/Kolkata", "scheduler")  # five and a half hours ahead
    await scheduler.pause("job")
    await clock.advance(scheduler, hours=2)
    operator = await start("UTC", "operator")
    await operator.resume("job")
    await operator.stop()
    fates = [(await why(scheduler, f"0{hour}:30:00")).fate for hour in (0, 1)]
    elsewhere = await why(scheduler, "01:00:00")
    await scheduler.stop()
    assert fates == ["paused", "paused"]
    assert elsewhere.fate == "not_due"


async def test_a_tick_that_jitter_holds_back(clock: VirtualClock, make_crons: MakeCrons) -> None:
    crons = make_crons()
    crons.cron("0 * * * *", name="job", jitter=300)(nothing)
    await crons.start()
    await clock.advance(crons, hours=1, seconds=0.1)
    fate = await why(crons, "01:00:00")
    assert fate.fate == "waiting"
    assert "its jitter delays it, by 5 minutes at most" in fate.text


async def test_a_job_that_raises_what_hooks_veto_with_has_failed(clock: VirtualClock, make_crons: MakeCrons) -> None:
    crons = make_crons()

    @crons.cron("* * * * *", name="job")
    async def job() -> None:
        raise SkipRun("not today")

    await crons.start()
    await clock.advance(crons, minutes=1, seconds=1)
    fate = await why(crons, "00:01:00")
    assert fate.fate == "ran"
    assert "SkipRun: not today" in fate.text


async def test_a_run_that_the_stop_of_its_scheduler_cut_off(clock: VirtualClock, tmp_path: Path) -> None:
    reset()
    config = CronConfig(shutdown_timeout=1)
    crons = Crons(state_backend=SQLiteStateBackend(tmp_path / "jobs.db"), config=config, clock=clock)

    @crons.cron("* * * * *", name="job")
    def job() -> None:
        let_go.wait(10)

    let_go = threading.Event()
    await crons.start()
    await clock.advance(crons, minutes=1, seconds=1, finish_runs=False)
    await crons.stop()
    let_go.set()
    await crons.start("observer")
    fate = await why(crons, "00:01:00")
    await crons.stop()
    assert fate.fate == "interrupted"
    assert "It was not rerun: its scheduler was stopped, and did not crash." in fate.text
