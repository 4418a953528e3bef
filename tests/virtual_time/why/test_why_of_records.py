"""What became of an instant, by the records alone: attempts, cut-off runs, damaged or foreign records."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastapi_crons import CronConfig, CronJob, Crons, MissedTicks, Run, RunError
from fastapi_crons.locking import KnownJob, Lease, Pause
from fastapi_crons.management.fates.explain import Fate, explain
from fastapi_crons.management.fates.tick_records import TickRecords
from fastapi_crons.run import MissedReason, RunIds, RunStatus
from fastapi_crons.state import SQLiteStateBackend
from fastapi_crons.testing import VirtualClock
from tests.conftest import MakeCrons
from tests.support import nothing
from tests.virtual_time.why.asking import MIDNIGHT, why

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
        f"2026-03-01 01:00:10 UTC. It started again at "
        f"2026-03-01 01:00:11 UTC on worker-2 (run {again.id}, attempt 2), and completed after 1 s."
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


@pytest.mark.parametrize(
    ("about", "why_not"),
    [
        ({"max_reruns": 0}, "CRON_RERUN_INTERRUPTED and CRON_MAX_RERUNS allow no reruns"),
        ({"run": {"attempt": 2}}, "CRON_MAX_RERUNS allows 1 rerun"),
        ({"since": TICK + 1.0}, "the job has another definition since 2026-03-01 01:00:01 UTC"),
        ({"job": {"enabled": False}}, "the job is disabled in code"),
        (
            {"job": {"misfire_grace_time": 5}},
            "that it was cut off was noticed 10 seconds after it was due, and its misfire_grace_time is 5 seconds",
        ),
        ({"pause": Pause(TICK + 5.0, "ann", "full")}, "the job is paused since 2026-03-01 01:00:05 UTC by ann: full"),
        ({}, "when that was noticed, the job was paused, or was run or changed already, or was not there any more"),
    ],
)
def test_why_a_run_that_was_cut_off_was_not_rerun(about: dict[str, Any], why_not: str) -> None:
    run = _run("interrupted", error=_CUT_OFF, ended_ts=TICK + 10.0, **about.get("run", {}))
    since, pause = about.get("since", TICK - 9_999.0), about.get("pause")
    known = KnownJob("job", "*/10 * * * *", "UTC", "app:job", True, TICK, since, pause)
    job = CronJob(print, "*/10 * * * *", "job", timezone="UTC", **about.get("job", {}))
    records = replace(_records(run, known=known), job=job, max_reruns=about.get("max_reruns", 1))
    assert f" It was not rerun: {why_not}." in explain(records).text


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


async def test_a_tick_that_was_run_again_is_found_behind_any_number_of_later_runs(
    make_crons: MakeCrons, clock: VirtualClock
) -> None:
    crons = make_crons(state_backend=SQLiteStateBackend("jobs.db"))
    crons.cron("*/10 * * * *", name="job")(nothing)
    await crons.start()
    await clock.advance(crons, hours=4)
    assert crons.engine is not None
    later = [
        _run(id=run_id, tick_ts=TICK + 9_000, started_ts=TICK + 9_000.5) for run_id in _ids_at(TICK + 9_000, 6_000)
    ]
    again = replace(later[0], tick_ts=TICK, trigger="again", instance="worker-2")
    await crons.engine.state.write([again, *later[1:]])
    fate = await why(crons, "01:00:00")
    assert fate.runs[-1] == again
    assert "It was run again at 2026-03-01 03:30:00 UTC" in fate.text


def _ids_at(instant: float, number: int) -> list[str]:
    ids = RunIds(lambda: instant)
    return [ids() for _ in range(number)]


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


async def test_the_run_that_stands_for_a_tick_may_be_a_week_later_and_have_many_before_and_behind_it(
    clock: VirtualClock, make_crons: MakeCrons
) -> None:
    crons = make_crons()
    crons.cron("* * * * *", name="job")(nothing)
    await crons.start()
    await clock.advance(crons, hours=3)
    await crons.pause("job")
    await clock.advance(crons, days=7)
    await crons.resume("job", catch_up=True)
    await clock.advance(crons, hours=3)
    fate = await why(crons, "03:01:00")
    assert fate.fate == "covered"
    assert "the run of 2026-03-08 03:00:00 UTC stands for it and for all late ticks" in fate.text
    assert (await why(crons, "02:59:00")).fate == "ran"
    assert (await why(crons, "08 05:59:00")).fate == "ran"
