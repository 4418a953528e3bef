"""What became of an instant, and why: one sentence or two for every fate there is."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastapi_crons import CronConfig, CronJob, Crons, MissedTicks, Run, RunError, SkipRun
from fastapi_crons.engine.engine import Role
from fastapi_crons.errors import StoreUnavailableError, UnknownJobError
from fastapi_crons.locking import DistributedLockManager, KnownJob, Lease, LocalLockBackend, Pause
from fastapi_crons.locking.base import ClaimRequest, ClaimResult
from fastapi_crons.management.explain import Fate, TickFate, explain
from fastapi_crons.management.management import Management
from fastapi_crons.management.tick_records import TickRecords
from fastapi_crons.run import MissedReason, RunIds, RunStatus
from fastapi_crons.state import SQLiteStateBackend
from fastapi_crons.testing import VirtualClock, reset
from tests.support import nothing

MakeCrons = Callable[..., Crons]
MIDNIGHT = datetime(2026, 3, 1, tzinfo=timezone.utc)


async def why(crons: Crons, at: str, job: str = "job", *, details: bool = True) -> TickFate:
    """What became of a time of the first of March, or of `DD HH:MM:SS`."""
    day, _, time = at.rpartition(" ")
    moment = datetime.fromisoformat(f"2026-03-{day or '01'}T{time}+00:00")
    return await Management(crons).explain_tick(job, moment, details=details)


async def test_a_tick_that_ran(clock: VirtualClock, make_crons: MakeCrons) -> None:
    crons = make_crons(instance_id="worker-1")

    @crons.cron("*/5 * * * *", name="job")
    async def job() -> None:
        await clock.sleep(2.5)

    await crons.start()
    await clock.advance(crons, minutes=6)
    fate = await why(crons, "00:05:00")
    assert fate.fate == "ran"
    assert f"It was run by worker-1, from 2026-03-01 00:05:00 UTC on (run {fate.runs[0].id})" in fate.text
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


# A crash leaves what the next ones are about; whole processes are killed in the fault tests.

TICK = int(MIDNIGHT.timestamp()) + 3_600
JOB = CronJob(print, "*/10 * * * *", "job", timezone="UTC")
_IDS = RunIds(lambda: float(TICK))


def _run(status: RunStatus = "completed", **about: object) -> Run:
    run = Run(_IDS(), "job", TICK, "schedule", 1, "worker-1", 1, status, TICK + 0.5, TICK + 2.5)
    return replace(run, **about)  # type: ignore[arg-type]


def _records(*runs: Run, missed: tuple[MissedTicks, ...] = (), known: KnownJob | None = None) -> TickRecords:
    return TickRecords(TICK, TICK + 60, JOB, known, runs, missed, frozenset({"worker-1~x"}), 1)


_CUT_OFF = RunError("Interrupted", "its process died, or lost its lease, before 2026-03-01T01:00:10+00:00")


def test_a_run_that_was_cut_off_and_the_one_that_took_its_place() -> None:
    first = _run("interrupted", error=_CUT_OFF)
    again = _run(instance="worker-2", attempt=2, trigger="catch_up", started_ts=TICK + 11.0, ended_ts=TICK + 12.0)
    fate = explain(_records(first, again))
    assert fate.fate == "ran"
    assert fate.text == (
        f"Run {first.id} by worker-1, attempt 1, was cut off: its process died, or lost its lease, before "
        f"2026-03-01 01:00:10 UTC. It was run again by worker-2, from "
        f"2026-03-01 01:00:11 UTC on (run {again.id}, attempt 2), and completed after 1 s."
    )


def test_a_run_that_was_cut_off_and_not_run_again() -> None:
    run = _run("interrupted", error=_CUT_OFF)
    fate = explain(_records(run))
    assert fate.fate == "interrupted"
    assert "was cut off: its process died" in fate.text
    assert "It was not rerun" in fate.text
    lease = Lease("job", run.id, TICK, "worker-1~x", 1, 1, TICK + 300, TICK - 600)
    known = KnownJob("job", "*/10 * * * *", "UTC", "app:job", True, TICK, TICK - 9_999.0, None, (lease,))
    assert "another instance may recover" in explain(_records(run, known=known)).text


def test_a_run_on_record_whose_instance_is_gone() -> None:
    run = _run("running", ended_ts=None)
    lease = Lease("job", run.id, TICK, "killed~x", 1, 1, TICK + 300, TICK - 600)
    known = KnownJob("job", "*/10 * * * *", "UTC", "app:job", True, TICK, TICK - 9_999.0, None, (lease,))
    assert "is on record as running, but its instance is gone" in explain(_records(run, known=known)).text
    later = replace(_records(run, known=known), tick=TICK + 600, now=TICK + 700.0)
    assert "holds the job, but is gone: another instance recovers" in explain(later).text
    assert "no instance that runs jobs is running" in explain(replace(later, instances=0)).text


def test_attempts_are_told_in_their_order_whatever_the_clocks_were() -> None:
    again = _run(instance="worker-2", attempt=2, token=2)
    first = _run("interrupted", error=_CUT_OFF)
    assert again.id < first.id
    fate = explain(_records(again, first))
    assert fate.fate == "ran"
    assert fate.text.startswith(f"Run {first.id} by worker-1, attempt 1, was cut off")
    twice = explain(_records(_run(), _run(instance="worker-2", token=2)))
    assert twice.text.count("completed") == 2


def test_error_texts_of_stores_are_details() -> None:
    delay = "the lock store did not answer (secret.internal:6379 is down)"
    run = _run(delay=delay, missed_ticks=1, missed_since_ts=TICK - 600)
    assert delay in explain(_records(run)).text
    earlier = replace(_records(run), tick=TICK - 600)
    for records in (_records(run), earlier):
        assert "secret" not in explain(records, details=False).text


def test_a_zone_that_this_host_does_not_know() -> None:
    known = KnownJob("job", "*/10 * * * *", "Mars/Olympus", "app:job", True, TICK, TICK - 9_999.0)
    assert explain(_records(_run(), known=known)).fate == "ran"


def test_a_tick_that_was_claimed_by_an_instance_which_has_not_put_it_on_record() -> None:
    lease = Lease("job", "the-run", TICK, "worker-1~x", 1, 1, TICK + 300, TICK - 600)
    known = KnownJob("job", "*/10 * * * *", "UTC", "app:job", True, TICK, TICK - 9_999.0, None, (lease,))
    fate = explain(_records(known=known))
    assert fate.fate == "running"
    assert fate.text == "worker-1 has claimed it (run the-run, attempt 1), and has not recorded yet how that ended."


_seconds = st.integers(TICK - 7_200, TICK + 7_200)
_texts = st.none() | st.text(max_size=20)
_runs = st.builds(
    lambda tick, missed, status, delay, error, at: replace(
        _run(status, ended_ts=None if status == "running" else at + 1.0),
        tick_ts=tick,
        missed_ticks=missed,
        missed_since_ts=None if not missed or tick is None else tick - 600 * missed,
        delay=delay,
        error=None if error is None else RunError("Error", error),
        started_ts=float(at),
    ),
    st.none() | _seconds,
    st.integers(0, 5),
    st.sampled_from(get_args(RunStatus)),
    _texts,
    _texts,
    _seconds,
)
_missed = st.builds(
    lambda first, length, reason, detail: MissedTicks(
        _IDS(), "job", first, first + length, 1 + length // 600, reason, first + length + 1.0, "worker-1", False, detail
    ),
    _seconds,
    st.integers(0, 3_600),
    st.sampled_from(get_args(MissedReason)),
    _texts,
)
_known = st.builds(
    lambda schedule, enabled, mark, since, pause, leases: KnownJob(
        "job", schedule, "UTC", "app:job", enabled, mark, float(since), pause, tuple(leases)
    ),
    st.sampled_from(["*/10 * * * *", "0 * * * *", "of a kind that is not installed"]),
    st.booleans(),
    _seconds,
    _seconds,
    st.none() | st.builds(Pause, _seconds.map(float), _texts, _texts),
    st.lists(
        st.builds(
            lambda tick, let_go: Lease("job", "run", tick, "worker~1", 1, 1, TICK + 9.0, TICK - 600, let_go),
            st.none() | _seconds,
            st.none() | st.sampled_from(get_args(MissedReason)),
        ),
        max_size=2,
    ),
)


@given(_seconds, _seconds, st.none() | _known, st.lists(_runs, max_size=3), st.lists(_missed, max_size=3))
def test_whatever_is_on_record_is_explained(
    tick: int, now: int, known: KnownJob | None, runs: list[Run], missed: list[MissedTicks]
) -> None:
    runs = sorted(runs, key=lambda run: run.id)
    records = TickRecords(tick, float(now), JOB, known, tuple(runs), tuple(missed), frozenset({"worker~1"}), 1)
    fate = explain(records)
    assert fate.fate in get_args(Fate)
    assert fate.text.endswith((".", "…"))
    if any(run.tick_ts == tick for run in runs):
        assert fate.fate in ("ran", "running", "interrupted", "vetoed")
    elif tick > now and fate.fate == "not_due":
        assert not (known is None and tick % 600 == 0)


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/New_York"])
async def test_an_answer_has_one_format_and_one_zone_for_all_its_instants(
    clock: VirtualClock, zone: str, tmp_path: Path
) -> None:
    async def life(minutes: int) -> Crons:
        crons = Crons(
            state_backend=SQLiteStateBackend(tmp_path / "jobs.db"), config=CronConfig(timezone=zone), clock=clock
        )
        crons.cron("*/10 * * * *", name="often")(nothing)
        await crons.start()
        await clock.advance(crons, minutes=minutes)
        return crons

    await (await life(11)).stop()
    await clock.advance(minutes=44)
    crons = await life(6)
    await crons.pause("often", actor="ops")
    await clock.advance(crons, minutes=20)
    await crons.resume("often")
    await clock.settle(crons)
    answers = [await why(crons, tick, "often") for tick in ("00:20:00", "00:50:00", "01:10:00")]
    await crons.stop()
    abbreviations = {"UTC": "UTC", "Europe/Berlin": "CET", "America/New_York": "EST"}
    for answer in answers:
        instants = re.findall(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?: [A-Z]{3}|[+-]\d\d:\d\d|Z)?", answer.text)
        assert instants, answer.text
        assert all(instant.endswith(f" {abbreviations[zone]}") for instant in instants), answer.text
