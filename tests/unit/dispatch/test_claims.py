"""Claims: what is asked of the lock store for a job, and how an interrupted run is closed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from fastapi_crons import CronJob, Run
from fastapi_crons.engine.dispatch.claims import (
    Wanted,
    claims_of,
    definition_of,
    interrupted,
    manual_request,
    probe_of,
    ref_of,
    rerun_of,
)
from fastapi_crons.engine.dispatch.tracked import TrackedJob
from fastapi_crons.engine.runs.run import ActiveRun
from fastapi_crons.job import Overlap
from fastapi_crons.locking import ClaimRequest, Definition, Lease, LeaseRef
from fastapi_crons.run import MissedReason, RunError, RunIds
from fastapi_crons.schedule.due import Policy, SharedTicks, Step, TickRange, tick_source
from tests.support import nothing

START = 1_772_323_200
TEXT, ZONE = "0 * * * *", "Europe/Paris"
#: Of {"region": "eu"}: the same in each process and version.
DIGEST = "ffe43a5a"
LEASE = Lease("job", "r1", START, "host-1~abc", 7, 2, START + 60.0, START - 60)


class Ids(RunIds):
    """Numbers them."""

    def __init__(self) -> None:
        self._ids: Iterator[int] = iter(range(10))

    def __call__(self) -> str:
        return f"id{next(self._ids)}"


def report(region: str) -> None: ...


def tracked_job(overlap: Overlap = "queue") -> TrackedJob:
    job = CronJob(report, TEXT, "job", overlap=overlap, timezone=ZONE, kwargs={"region": "eu"})
    return TrackedJob(job, SharedTicks(tick_source(job.schedule)), Policy(True, None, 5), START)


def request(run_id: str, tick: int | None, **changes: Any) -> ClaimRequest:
    return ClaimRequest("job", run_id, tick, TEXT, ZONE, "queue", arguments=DIGEST)._replace(**changes)


@pytest.mark.parametrize("late", [False, True])
def test_missed_ticks_are_claimed_before_the_tick_to_run(late: bool) -> None:
    tracked = tracked_job()
    if late:
        tracked.noticed_late(START)
    missed: tuple[tuple[int, MissedReason], ...] = ((START + 1, "max_catch_up"), (START + 2, "misfire_grace_time"))
    records = [
        Wanted(tracked, request("id0", START + 1, missed="max_catch_up"), late),
        Wanted(tracked, request("id1", START + 2, missed="misfire_grace_time"), late),
    ]
    run = Wanted(tracked, request("id2", START + 3), late, more=True)
    assert claims_of(tracked, Step(START + 3, missed, True), Ids()) == [*records, run]
    alone = Wanted(tracked, request("id0", START + 3), late, alone=True)
    assert claims_of(tracked, Step(START + 3, alone=True), Ids()) == [alone]
    assert claims_of(tracked, Step(None, missed), Ids()) == [each._replace(more=True) for each in records]


@pytest.mark.parametrize(
    ("overlap", "late", "running", "asked"),
    [
        ("skip", False, "", "skip"),
        ("skip", False, "r", "skip"),
        ("skip", False, "re", "queue"),
        ("skip", True, "", "queue"),
        ("allow", True, "e", "allow"),
        ("queue", True, "e", "queue"),
    ],
)
def test_late_ticks_and_those_that_meet_a_run_which_has_ended_wait_instead_of_being_skipped(
    overlap: Overlap, late: bool, running: str, asked: Overlap
) -> None:
    tracked = tracked_job(overlap)
    if late:
        tracked.noticed_late(START)
    for each in running:
        run = ActiveRun(tracked.job, each, START, "schedule")
        run.releasing = each == "e"
        tracked.run_started(run)
    (run_it,) = claims_of(tracked, Step(START + 3), Ids())
    (record_it,) = claims_of(tracked, Step(None, ((START + 3, "overlap"),)), Ids())
    assert (run_it.request.overlap, record_it.request.overlap) == (asked, asked)


def test_a_rerun_asks_for_the_tick_of_the_interrupted_run() -> None:
    tracked = tracked_job()
    wanted = rerun_of(tracked, LEASE, "r2", 4)
    asked = request("r2", START, replaces="r1", attempt=3)
    assert wanted == Wanted(tracked, asked, True, False, False, LEASE, 4)


@pytest.mark.parametrize("force", [False, True])
def test_a_run_by_hand_asks_for_no_tick(force: bool) -> None:
    assert manual_request(tracked_job().job, "r2", None, force=force) == request("r2", None, force=force)


def test_a_run_by_hand_of_a_tick_asks_to_run_it_again() -> None:
    assert manual_request(tracked_job().job, "r2", START, force=False) == request("r2", START, again=True)


def test_a_probe_asks_for_a_tick_that_is_handled_already() -> None:
    assert probe_of(tracked_job(), "r2") == request("r2", START)


def test_what_is_registered_of_a_job() -> None:
    job = tracked_job().job
    basics = ("job", TEXT, ZONE, f"{__name__}:report")
    assert definition_of(job) == Definition(*basics, arguments=DIGEST)
    assert definition_of(replace(job, enabled=False), "n1", START, (LEASE,)) == Definition(
        *basics, START, False, "n1", (LEASE,), arguments=DIGEST
    )
    assert definition_of(CronJob(nothing, TEXT)).arguments == ""


def test_a_lease_is_named_by_its_job_its_run_and_its_token() -> None:
    assert ref_of(LEASE) == LeaseRef("job", "r1", 7)


@pytest.mark.parametrize(("cancelled", "status"), [(False, "interrupted"), (True, "cancelled")])
def test_the_record_of_an_interrupted_run_is_closed(cancelled: bool, status: Any) -> None:
    known = Run("r1", "job", START, "catch_up", 2, "host-1", 7, "running", START + 0.5, note="kept")
    error = RunError("Interrupted", "its process is gone, before 2026-03-01T00:01:00+00:00")
    closed = interrupted(known, LEASE._replace(cancelled=cancelled), None, START + 60.0, "its process is gone")
    assert closed == replace(known, status=status, ended_ts=START + 60.0, error=error)


def test_an_interrupted_run_without_a_record_gets_one_that_says_what_its_lease_knows() -> None:
    error = RunError("Interrupted", "gone, before 2026-03-01T00:01:00+00:00")
    now = START + 60.0
    record = Run("r1", "job", START, "schedule", 2, "host-1", 7, "interrupted", now, now, error)
    assert interrupted(None, LEASE, None, now, "gone") == record
    covered = TickRange(START - 120, START - 60, 2)
    assert interrupted(None, LEASE, covered, now, "gone") == replace(
        record, missed_ticks=2, missed_since_ts=START - 120
    )
    by_hand = replace(record, tick_ts=None, trigger="code")
    assert interrupted(None, LEASE._replace(tick=None), None, now, "gone") == by_hand
