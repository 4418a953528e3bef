"""ClaimResults: what follows where the store grants a claim, and after any answer."""

from __future__ import annotations

import pytest

from fastapi_crons.engine.dispatch.lateness import Delay
from fastapi_crons.engine.dispatch.tracked import Phase
from fastapi_crons.engine.runs.run import ActiveRun
from fastapi_crons.locking import ClaimResult, Lease, LeaseRef
from fastapi_crons.schedule.due import TickRange
from tests.support import missed_of, runs_of
from tests.virtual_time.answers.scheduler import GRANTED, HOUR, HOURLY, SKIPPED, TICK, Fixture


async def test_a_tick_that_is_granted_runs(made: Fixture) -> None:
    await made.start()
    made.tracked.set_in_force(False)
    await made.take(made.want(attempt=3), GRANTED)
    (run,) = await runs_of(made.crons, "job")
    assert (run.id, run.tick_ts, run.trigger, run.attempt, run.token) == ("r1", TICK, "schedule", 3, 9)
    assert (run.missed_ticks, run.delay) == (0, None)
    assert (made.tracked.last_handled, made.tracked.in_force, made.tracked.phase) == (TICK, True, Phase.IDLE)
    (active,) = made.tracked.runs
    assert (made.queued(), made.locks.released, made.ended) == ([], [], [])
    made.finish.set()
    await made.settle()
    assert (made.locks.released, made.ended) == ([LeaseRef("job", "r1", 9)], [active])


async def test_further_ticks_that_are_due_wait_for_the_run(made: Fixture) -> None:
    await made.start()
    await made.take(made.want(more=True), GRANTED)
    assert made.tracked.phase is Phase.WAITING_FOR_RUN


@pytest.mark.parametrize(("late", "trigger"), [(False, "schedule"), (True, "catch_up")])
@pytest.mark.parametrize(
    ("jitter", "after", "delayed"), [(0, 5, False), (0, 5.5, True), (10, 15, False), (10, 15.5, True)]
)
async def test_a_run_that_is_late_says_what_delayed_it(
    made: Fixture, late: bool, trigger: str, jitter: float, after: float, delayed: bool
) -> None:
    await made.start(jitter=jitter)
    made.delays.note(TICK - 5, TICK + 2, "of something")
    await made.take(made.want(late=late), GRANTED, at=TICK + after)
    (run,) = await runs_of(made.crons, "job")
    assert run.trigger == trigger
    assert run.delay == ("of something until 2026-03-01T03:00:02+00:00" if late or delayed else None)


@pytest.mark.parametrize(
    ("alone", "known", "before", "missed"),
    [
        (False, TICK - 3 * HOUR, TICK - 3 * HOUR, 2),
        (True, TICK - 3 * HOUR, TICK - 3 * HOUR, 0),
        (True, TICK - 2 * HOUR, TICK - 3 * HOUR, 2),
        (True, TICK - 3 * HOUR, TICK - 2 * HOUR, 0),
    ],
)
async def test_a_run_stands_for_the_ticks_since_the_last_handled_one(
    made: Fixture, alone: bool, known: int, before: int, missed: int
) -> None:
    await made.start()
    made.tracked.reset_last_handled(known)
    made.tracked.delayed(Delay(TICK - 2 * HOUR, TICK - 2 * HOUR + 60, "of something"))
    await made.take(made.want(alone=alone), GRANTED._replace(last_handled=before))
    (run,) = await runs_of(made.crons, "job")
    assert (run.missed_ticks, run.missed_since_ts) == (missed, TICK - 2 * HOUR if missed else None)
    assert run.delay == ("of something until 2026-03-01T01:01:00+00:00" if missed else None)


async def test_a_rerun_stands_for_what_its_lease_answered_for(made: Fixture) -> None:
    await made.start()
    lease = Lease("job", "r0", TICK, "other", 5, 1, TICK + 60.0, TICK - 3 * HOUR, None, *HOURLY)
    made.delays.note(TICK - HOUR, TICK, "of something")
    await made.take(made.want(interrupted=lease, late=True, attempt=2), GRANTED)
    (run,) = await runs_of(made.crons, "job")
    assert (run.attempt, run.trigger, run.missed_ticks, run.missed_since_ts, run.delay) == (
        2,
        "catch_up",
        2,
        TICK - 2 * HOUR,
        None,
    )


async def test_ticks_that_are_not_to_be_run_are_recorded_and_their_lease_is_released(made: Fixture) -> None:
    await made.start()
    made.delays.note(TICK - HOUR, TICK, "of something")
    await made.take(made.want(missed="max_catch_up"), GRANTED._replace(last_handled=TICK - 2 * HOUR))
    (record,) = await missed_of(made.crons, "job")
    assert (record.id, record.reason, record.detail) == ("r1", "max_catch_up", None)
    assert (record.first_ts, record.last_ts, record.count) == (TICK - HOUR, TICK, 2)
    assert made.locks.released == [LeaseRef("job", "r1", 9)]
    assert (made.tracked.last_handled, made.queued()) == (TICK, [])


async def test_ticks_whose_grace_time_has_passed_say_what_delayed_the_oldest(made: Fixture) -> None:
    await made.start()
    made.delays.note(TICK - HOUR, TICK - HOUR + 60, "of something")
    await made.take(made.want(missed="misfire_grace_time"), GRANTED._replace(last_handled=TICK - 2 * HOUR))
    (record,) = await missed_of(made.crons, "job")
    assert (record.reason, record.detail) == ("misfire_grace_time", "of something until 2026-03-01T02:01:00+00:00")


async def test_where_a_range_holds_no_tick_nothing_is_recorded(made: Fixture) -> None:
    await made.start()
    await made.take(made.want(missed="max_catch_up"), GRANTED._replace(last_handled=TICK))
    await made.take(made.want(run_id="r2"), SKIPPED._replace(last_handled=TICK))
    assert await missed_of(made.crons, "job") == []
    assert made.locks.released == [LeaseRef("job", "r1", 9), LeaseRef("job", "r2", 9)]


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("more", [False, True])
async def test_what_is_due_after_missed_ticks_is_queued(made: Fixture, more: bool, late: bool) -> None:
    await made.start()
    await made.take(
        made.want(TICK - HOUR, missed="overlap", more=more, late=late), GRANTED._replace(last_handled=0), claims=2
    )
    assert (made.tracked.phase, made.queued()) == (Phase.CLAIMING, []), "another claim has no answer yet"
    await made.take(made.want(TICK - HOUR, missed="overlap"), GRANTED._replace(last_handled=0))
    assert made.queued() == ([("job", late)] if more else [])


async def test_nothing_is_queued_after_missed_ticks_where_nothing_is_due_or_the_job_waits(made: Fixture) -> None:
    await made.start()
    await made.take(made.want(missed="overlap", more=True), GRANTED)
    assert (made.queued(), made.tracked.phase) == ([], Phase.IDLE)
    made.tracked.reset_last_handled(TICK - 2 * HOUR)
    made.tracked.queue()
    made.tracked.claim(1)
    made.tracked.wait_for_release()
    await made.take(made.want(TICK - HOUR, missed="overlap", more=True), GRANTED)
    assert (made.queued(), made.tracked.phase) == ([], Phase.WAITING_FOR_RELEASE)


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("before", [TICK - 2 * HOUR, TICK])
async def test_a_tick_whose_answer_came_after_its_grace_time_is_missed(made: Fixture, late: bool, before: int) -> None:
    await made.start(misfire_grace_time=60)
    made.tracked.reset_last_handled(TICK - 2 * HOUR)
    made.delays.note(TICK - HOUR, TICK + 61, "of something")
    await made.take(made.want(late=late), GRANTED._replace(last_handled=before), at=TICK + 60.5)
    (record,) = await missed_of(made.crons, "job")
    assert (record.id, record.reason, record.detail) == (
        "r1",
        "misfire_grace_time",
        "of something until 2026-03-01T03:01:01+00:00",
    )
    counted = (TICK, TICK, 1) if before == TICK else (TICK - HOUR, TICK, 2)
    assert (record.first_ts, record.last_ts, record.count) == counted
    assert await runs_of(made.crons, "job") == []
    assert made.locks.released == [LeaseRef("job", "r1", 9)]
    assert (made.calls, made.queued()) == (["wake"], [("job", late)]), "it looks again once the lease is released"


async def test_a_tick_runs_at_the_end_of_its_grace_time(made: Fixture) -> None:
    await made.start(misfire_grace_time=60)
    await made.take(made.want(), GRANTED, at=TICK + 60)
    assert [run.id for run in await runs_of(made.crons, "job")] == ["r1"]


# Whatever the answer


async def test_what_has_become_due_meanwhile_is_queued_after_the_last_answer(made: Fixture) -> None:
    await made.start()
    made.tracked.queue()
    made.tracked.claim(2)
    made.queue.put(made.tracked, late=True)
    await made.take(made.want(), ClaimResult("paused"))
    assert made.queued() == []
    await made.take(made.want(), ClaimResult("paused"))
    assert made.queued() == [("job", True)]


async def test_a_last_handled_tick_that_was_reset_is_said(made: Fixture, caplog: pytest.LogCaptureFixture) -> None:
    await made.start()
    await made.take(made.want(), GRANTED)
    assert not caplog.messages
    await made.take(made.want(run_id="r2"), GRANTED._replace(reset_from=TICK + 10 * HOUR))
    assert [record.getMessage() for record in caplog.records if "far ahead" in record.getMessage()] == [
        "job 'job': its last handled tick was 2026-03-01T13:00:00+00:00, far ahead of the store's clock; a clock was wrong, "
        "and the tick is reset"
    ]


@pytest.mark.parametrize("begun", [False, True])
async def test_a_schedule_that_fails_costs_its_tick_and_no_lease(
    made: Fixture, begun: bool, caplog: pytest.LogCaptureFixture
) -> None:
    await made.start()

    class Broken:
        source = made.tracked.ticks.source

        def range(self, after: int, until: int) -> TickRange:
            raise ZeroDivisionError("of its own")

    made.tracked.ticks = Broken()  # type: ignore[assignment]
    if begun:
        made.runner.active["r1"] = ActiveRun(made.tracked.job, "r1", TICK, "schedule")
    await made.take(made.want(), GRANTED)
    made.runner.active.pop("r1", None)
    assert caplog.messages == ["job 'job' could not be claimed: ZeroDivisionError: of its own"]
    assert made.locks.released == ([] if begun else [LeaseRef("job", "r1", 9)])
    assert made.tracked.phase is Phase.IDLE
