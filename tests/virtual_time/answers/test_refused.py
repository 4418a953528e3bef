"""ClaimResults: what follows where the store refuses a claim."""

from __future__ import annotations

import logging

import pytest

from fastapi_crons.engine.dispatch.lateness import PAUSED, Delay
from fastapi_crons.engine.dispatch.tracked import Phase
from fastapi_crons.engine.runs.run import ActiveRun
from fastapi_crons.locking import ClaimResult, Lease, LeaseRef
from tests.support import missed_of
from tests.virtual_time.answers.scheduler import GRANTED, HOUR, ROOM, SKIPPED, TICK, Fixture


@pytest.mark.parametrize("late", [False, True])
async def test_a_tick_that_was_handled_before_leads_to_those_after_it(made: Fixture, late: bool) -> None:
    await made.start()
    await made.take(made.want(late=late), ClaimResult("stale", TICK - 2 * HOUR), claims=2)
    assert (made.tracked.last_handled, made.queued()) == (TICK - 2 * HOUR, [])
    await made.take(made.want(), ClaimResult("stale", TICK - HOUR))
    assert made.queued() == [("job", late)]


async def test_a_tick_that_was_handled_before_may_be_the_last_one(made: Fixture) -> None:
    await made.start()
    await made.take(made.want(), ClaimResult("stale", TICK))
    assert (made.tracked.last_handled, made.queued()) == (TICK, [])


@pytest.mark.parametrize("orphaned", [False, True])
async def test_a_definition_that_is_not_in_force_is_left_or_registered_again(made: Fixture, orphaned: bool) -> None:
    await made.start()
    await made.take(made.want(), ClaimResult("not_in_force", orphaned=orphaned))
    assert (made.tracked.in_force, made.jobs.get("job") is made.tracked) == (orphaned, not orphaned)


async def test_a_pause_is_what_delays_ticks_since_the_first_one_that_it_refused(made: Fixture) -> None:
    await made.start()
    made.tracked.delayed(Delay(0, 1, "of something"))
    await made.take(made.want(), ClaimResult("paused"), at=TICK + 1)
    assert made.tracked.delay == Delay(TICK, TICK + 1, PAUSED)
    await made.take(made.want(TICK + HOUR), ClaimResult("paused"), at=TICK + HOUR)
    assert made.tracked.delay == Delay(TICK, TICK + HOUR, PAUSED)
    assert (made.tracked.phase, made.queued()) == (Phase.IDLE, [])


@pytest.mark.parametrize(
    ("late", "overlap", "then_late"), [(False, "skip", True), (False, "queue", False), (True, "queue", True)]
)
@pytest.mark.parametrize("here", [False, True])
async def test_a_tick_that_waits_for_another_run_is_claimed_when_it_has_ended_or_in_a_moment(
    made: Fixture, late: bool, overlap: str, then_late: bool, here: bool
) -> None:
    await made.start()
    if here:
        made.tracked.run_started(ActiveRun(made.tracked.job, "other", None, "code"))
    await made.take(
        made.want(late=late, overlap=overlap), ClaimResult("busy", TICK - HOUR, holder="other"), at=TICK + 1
    )
    assert made.tracked.phase is (Phase.WAITING_FOR_RUNS if here else Phase.RETRYING)
    assert made.tracked.late is (then_late and here)
    await made.settle(0.49)
    assert made.calls == []
    await made.settle(0.01)
    if here:
        assert (made.calls, made.tracked.delay) == ([], None)
    else:
        assert made.tracked.delay == Delay(TICK, TICK + 1, "run other of the job was running elsewhere")
        assert (made.calls, made.queued()) == (["wake"], [("job", then_late)])


async def test_refused_claims_of_a_job_are_made_again_once_and_only_while_it_retries(made: Fixture) -> None:
    await made.start()
    busy = ClaimResult("busy", TICK - HOUR)
    await made.take(made.want(), busy, claims=2)
    await made.settle(0.25)
    await made.take(made.want(), busy)
    assert made.tracked.delay is None, "no run is known that holds it"
    await made.settle(0.25)
    assert (made.calls, made.queued()) == (["wake"], [("job", True)])
    made.tracked.claim(1)
    await made.take(made.want(), busy)
    await made.settle(0.49)
    assert made.calls == ["wake"], "the second refusal began no timer of its own"
    await made.settle(0.01)
    assert (made.calls, made.queued()) == (["wake"] * 2, [("job", True)])
    made.tracked.claim(1)
    await made.take(made.want(), busy)
    made.queue.put(made.tracked, late=False)
    await made.settle(1)
    assert made.calls == ["wake"] * 2, "it was queued for another reason meanwhile"
    made.tracked.claim(1)
    await made.take(made.want(), busy)
    await made.settle(1)
    assert made.calls == ["wake"] * 3


@pytest.mark.parametrize(("behind", "why"), [(30, "'s clock was behind ours"), (0, " had lost its records")])
async def test_a_claim_that_is_too_early_for_the_store_says_why(made: Fixture, behind: int, why: str) -> None:
    await made.start()
    made.clock.step(1)
    made.store_clock.ask()
    await made.take(made.want(), ClaimResult("early", TICK + 1 - behind), at=TICK + 1)
    assert made.calls == ["early"]
    assert made.tracked.phase is Phase.RETRYING
    assert made.delays.explain(TICK, TICK + 1, None) == f"the lock store{why} until 2026-03-01T03:00:01+00:00"
    assert made.clock.now() - made.store_clock.now() == pytest.approx(max(0, behind - 0.9))
    assert made.tracked.delay is None


# Reruns that are refused


OWN = Lease("job", "r0", TICK, "us", 5, 1, TICK + 60.0)


async def test_the_rerun_of_a_lease_that_was_lost_here_is_tried_for_a_while(made: Fixture) -> None:
    await made.start()
    busy = ClaimResult("busy", TICK, holder="other")
    await made.take(made.want(interrupted=OWN, tries=19), busy)
    await made.settle(0.49)
    assert not made.queue
    await made.settle(0.01)
    (again,) = made.queue.take_reruns(ROOM)
    assert (again.tracked, again.interrupted, again.tries, again.request.replaces) == (made.tracked, OWN, 20, "r0")
    assert (made.calls, made.locks.released) == (["wake"], [])
    await made.take(made.want(interrupted=OWN, tries=20), busy)
    await made.settle(1)
    assert not made.queue
    assert made.locks.released == [LeaseRef("job", "r0", 5)], "it must not hold the job for long"


@pytest.mark.parametrize(
    ("lease", "result"),
    [(OWN, ClaimResult("stale", TICK)), (OWN._replace(instance="other"), ClaimResult("busy", TICK))],
)
async def test_other_reruns_that_are_refused_are_left(made: Fixture, lease: Lease, result: ClaimResult) -> None:
    await made.start()
    await made.take(made.want(interrupted=lease), result)
    await made.settle(1)
    assert (bool(made.queue), made.locks.released, made.calls) == (False, [], [])


async def test_a_rerun_is_tried_for_the_first_time_unless_told_otherwise(made: Fixture) -> None:
    await made.start()
    made.results.rerun(made.tracked, OWN)
    (wanted,) = made.queue.take_reruns(ROOM)
    assert (wanted.tries, made.calls) == (0, ["wake"])


# Skipped


async def test_ticks_that_were_skipped_for_one_run_are_one_record(
    made: Fixture, caplog: pytest.LogCaptureFixture
) -> None:
    await made.start()
    caplog.set_level(logging.WARNING)
    made.tracked.delayed(Delay(TICK - HOUR, TICK - HOUR + 60, "of something"))
    await made.take(made.want(), SKIPPED._replace(last_handled=TICK - 2 * HOUR))
    (record,) = await missed_of(made.crons, "job")
    assert (record.id, record.first_ts, record.last_ts, record.count) == ("r1", TICK - HOUR, TICK, 2)
    assert record.reason == "overlap"
    assert record.detail == "run other held the job; of something until 2026-03-01T02:01:00+00:00"
    assert made.tracked.last_handled == TICK
    assert made.locks.released == [LeaseRef("job", "r1", 9)]
    for number, run_id in ((1, "r2"), (2, "r3")):
        await made.take(
            made.want(TICK + number * HOUR, run_id=run_id), SKIPPED._replace(last_handled=TICK + (number - 1) * HOUR)
        )
    (record,) = await missed_of(made.crons, "job")
    assert (record.id, record.last_ts, record.count) == ("r1", TICK + 2 * HOUR, 4)
    assert record.detail == "run other held the job"
    assert len(caplog.messages) == 1, "the first of them was logged"
    made.results.log_skips(made.tracked)
    made.results.log_skips(made.tracked)
    assert caplog.messages[1:] == [
        "job 'job': 2 more ticks up to 2026-03-01T05:00:00+00:00 were not run: the job was still running: "
        "run other held the job"
    ]


async def test_ticks_skipped_for_another_run_or_after_a_gap_have_a_record_of_their_own(
    made: Fixture, caplog: pytest.LogCaptureFixture
) -> None:
    await made.start()
    caplog.set_level(logging.WARNING)
    steps = [("r1", "other", 1, 0), ("r2", "other", 2, 1), ("r3", "other", 4, 3), ("r4", "third", 5, 4)]
    for run_id, holder, tick, before in steps:
        result = SKIPPED._replace(last_handled=TICK + before * HOUR, holder=holder)
        await made.take(made.want(TICK + tick * HOUR, run_id=run_id), result)
    records = [(each.id, each.count, each.detail) for each in await missed_of(made.crons, "job")]
    assert sorted(records) == [
        ("r1", 2, "run other held the job"),
        ("r3", 1, "run other held the job"),
        ("r4", 1, "run third held the job"),
    ]
    assert [message.partition(" not run")[0] for message in caplog.messages] == [
        "job 'job': the tick of 2026-03-01T04:00:00+00:00 was",
        "job 'job': 2 more ticks up to 2026-03-01T07:00:00+00:00 were",
        "job 'job': the tick of 2026-03-01T08:00:00+00:00 was",
    ]
    await made.take(
        made.want(TICK + 6 * HOUR, run_id="r5"), SKIPPED._replace(last_handled=TICK + 5 * HOUR, holder="third")
    )
    await made.take(made.want(TICK + 7 * HOUR, run_id="r6"), GRANTED._replace(last_handled=TICK + 6 * HOUR))
    assert caplog.messages[3].startswith("job 'job': 1 more tick up to 2026-03-01T09:00:00+00:00 was"), (
        "the next run logs it"
    )


async def test_ticks_that_were_skipped_for_a_run_without_a_name_say_what_delayed_them(made: Fixture) -> None:
    await made.start()
    await made.take(made.want(), SKIPPED._replace(holder=""))
    made.tracked.delayed(Delay(TICK + HOUR, TICK + HOUR + 1, "of something"))
    await made.take(made.want(TICK + HOUR, run_id="r2"), SKIPPED._replace(holder="third", last_handled=TICK))
    made.tracked.delayed(Delay(TICK + 2 * HOUR, TICK + 2 * HOUR + 1, "of something"))
    await made.take(
        made.want(TICK + 2 * HOUR, run_id="r3"),
        SKIPPED._replace(holder="", last_handled=TICK + HOUR),
        at=TICK + 3 * HOUR,
    )
    assert [each.detail for each in await missed_of(made.crons, "job")] == [
        None,
        "run third held the job",
        "of something until 2026-03-01T05:00:01+00:00",
    ]
