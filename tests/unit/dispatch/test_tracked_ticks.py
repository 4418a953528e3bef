"""TrackedJob: which of its ticks are due, late, held back, or overlapped. In all tests one is due each second."""

from __future__ import annotations

import pytest

from fastapi_crons.engine.dispatch.jitter import due_time
from fastapi_crons.engine.dispatch.tracked import TrackedJob
from fastapi_crons.locking import Lease
from fastapi_crons.schedule.due import Step, TickRange
from tests.unit.dispatch.jobs import START, run_of, tracked_job


def busy(tracked: TrackedJob, late_until: int, until: int) -> TrackedJob:
    """The job after ticks were late for which a run had to end, which it did then."""
    tracked.noticed_late(START + late_until)
    run = run_of(tracked)
    tracked.run_started(run)
    tracked.wait_for_runs()
    assert tracked.run_ended(run, lambda: START + until + 0.5)
    return tracked


def overlapped(tick: int) -> Step:
    return Step(None, ((START + tick, "overlap"),))


def test_late_ticks_end_where_they_were_late_and_what_fell_due_since_overlapped() -> None:
    tracked = busy(tracked_job(), 10, 25)
    assert tracked.steps(START + 30.5) == [Step(START + 10), overlapped(25)]
    assert tracked.steps(START + 20.5) == [Step(START + 10), overlapped(20)], "the clock was set back since"
    tracked.handled(START + 10)
    assert tracked.steps(START + 30) == [overlapped(25)]
    tracked.handled(START + 25)
    assert tracked.steps(START + 30) == [Step(START + 30)]
    assert tracked.steps(START + 25.5) == []


def test_ticks_overlapped_only_while_the_job_was_busy_after_the_late_ones() -> None:
    assert busy(tracked_job(), 10, 10).steps(START + 30) == [Step(START + 30)]
    assert busy(tracked_job(), 10, 11).steps(START + 30) == [Step(START + 10), overlapped(11)]
    for tracked in (busy(tracked_job("queue"), 10, 25), busy(tracked_job("allow"), 10, 25)):
        assert tracked.steps(START + 30) == [Step(START + 30)], "these jobs skip nothing"
    tracked = busy(tracked_job(), 10, 25)
    tracked.queue()
    tracked.claim(1)
    assert tracked.steps(START + 30) == [Step(START + 30)], "what is due from now on is not late"


def test_where_the_late_tick_was_refused_for_a_run_that_is_running_it_overlapped_with_that_run() -> None:
    tracked = tracked_job()
    run = run_of(tracked)
    tracked.run_started(run)
    tracked.wait_for_runs(late=True)
    assert tracked.run_ended(run, lambda: START + 5)
    assert tracked.steps(START + 8) == [overlapped(5)]


def test_late_ticks_that_each_run_go_before_the_ones_that_overlapped() -> None:
    tracked = busy(tracked_job(coalesce=False), 10, 25)
    assert tracked.steps(START + 30)[-1].more
    assert all(step.run is not None and step.run <= START + 10 for step in tracked.steps(START + 30))
    tracked.handled(START + 9)
    assert tracked.steps(START + 30) == [Step(START + 10, alone=True), overlapped(25)]


def test_ticks_that_jitter_holds_back_did_not_overlap() -> None:
    """A tick of the eighth second is due in the 25th, when nothing runs any more."""
    tracked, now = tracked_job(jitter=20), START + 18
    oldest = next(tick for tick in range(START + 1, now) if due_time(tracked.job, tick) > now)
    assert oldest == START + 8
    for late_until in (6, 7, 8, 10):
        steps = busy(tracked_job(jitter=20), late_until, 12).steps(now)
        assert steps == ([Step(START + 6), overlapped(7)] if late_until == 6 else [Step(START + 7)])


def test_ticks_that_jitter_holds_back_are_due_later() -> None:
    tracked, now = tracked_job(jitter=3), START + 20.0
    oldest = next(tick for tick in range(START + 1, START + 21) if due_time(tracked.job, tick) > now)
    assert tracked.due_later(now) == due_time(tracked.job, oldest)
    assert tracked.step(now) == Step(oldest - 1)
    assert tracked.steps(now) == [Step(oldest - 1)]
    tracked.handled(START + 20)
    assert tracked.due_later(now) is None
    assert tracked.steps(now) == []


def test_where_jitter_holds_nothing_back_all_is_due() -> None:
    tracked = tracked_job(jitter=1)
    later = next(START + 3 + part / 20 for part in range(20) if tracked.due_later(START + 3 + part / 20) is None)
    assert tracked.steps(later) == [Step(START + 3)]


def test_a_tick_is_due_at_its_second() -> None:
    tracked = tracked_job()
    assert tracked.is_due(START + 1)
    assert not tracked.is_due(START + 0.5)
    assert tracked.steps(START + 0.5) == []
    assert tracked.steps(START + 1) == [Step(START + 1, alone=True)]


@pytest.mark.parametrize(("schedule", "zone", "step"), [("* * * * * *", "UTC", 1), ("* * * * * */2", "UTC", 2)])
@pytest.mark.parametrize("after", [START, START + 2])
def test_a_lease_answers_for_ticks_of_the_schedule_under_which_it_was_claimed(
    schedule: str, zone: str, step: int, after: int
) -> None:
    tracked = tracked_job()
    lease = Lease("job", "run", START + 4, "other", 1, 1, START + 60, after, None, schedule, zone)
    first = after + step
    assert tracked.covered_by(lease, START + 4) == TickRange(first, START + 4, (START + 4 - after) // step)
    assert tracked.covered_by(lease, after) is None


def test_a_lease_answers_for_ticks_in_the_zone_in_which_it_was_claimed() -> None:
    lease = Lease("job", "run", START, "other", 1, 1, START + 60, START - 86_400, None, "0 0 * * *", "Europe/Paris")
    assert tracked_job().covered_by(lease, START) == TickRange(START - 3_600, START - 3_600, 1)
