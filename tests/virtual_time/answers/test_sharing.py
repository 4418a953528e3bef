"""Sharing: which ticks are ours at once, and what becomes of those that others did not claim in their turn."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from fastapi_crons import CronJob
from fastapi_crons.engine.dispatch.lateness import NOT_CLAIMED, Delay
from fastapi_crons.engine.dispatch.sharing import TURN_LASTS, Sharing, whose_turn
from fastapi_crons.engine.dispatch.tracked import Phase, TrackedJob
from fastapi_crons.schedule.due import Policy
from tests.support import nothing
from tests.virtual_time.answers.scheduler import HOUR, TICK, Fixture


async def shared(made: Fixture, **options: float) -> Sharing:
    await made.start(**options)
    wake = partial(made.calls.append, "wake")
    return Sharing("us", made.clock, made.engine.locks, made.engine.background, made.jobs, made.queue, wake)


@pytest.mark.parametrize("others", [["a"], ["a", "b"]])
async def test_each_instance_claims_its_own_ticks_and_others_after_their_turn(made: Fixture, others: list[str]) -> None:
    sharing = await shared(made)
    job = made.tracked.job
    ticks = range(TICK, TICK + 50)
    assert all(sharing.is_ours(job, tick, tick) for tick in ticks), "it is the only one"
    sharing.share([*others, "us"])
    ours = [tick for tick in ticks if whose_turn("job", tick, len(others) + 1) == len(others)]
    assert [tick for tick in ticks if sharing.is_ours(job, tick, tick + TURN_LASTS - 0.01)] == ours
    assert all(sharing.is_ours(job, tick, tick + TURN_LASTS) for tick in ticks)
    jittered = CronJob(nothing, "0 * * * *", "job", jitter=5)
    assert all(sharing.is_ours(jittered, tick, tick) for tick in ticks)
    sharing.share(others)
    assert all(sharing.is_ours(job, tick, tick) for tick in ticks), "the others don't count with it"


async def test_ticks_that_are_left_are_looked_at_when_their_turn_is_over(made: Fixture) -> None:
    sharing = await shared(made)
    assert sharing.next_over is None
    sharing.leave([], TICK)
    assert sharing.next_over is None
    first, second, third = ([(made.tracked, TICK + number)] for number in range(3))
    sharing.leave(first, TICK)
    sharing.leave(second, TICK + 1)
    sharing.leave(third, TICK + 2)
    assert sharing.next_over == TICK + TURN_LASTS
    assert sharing.pop_over(TICK + TURN_LASTS - 0.01) == []
    assert sharing.pop_over(TICK + 1 + TURN_LASTS) == first + second
    assert sharing.next_over == TICK + 2 + TURN_LASTS


@pytest.mark.parametrize(("seconds", "jitter", "late"), [(5, 0, False), (5.5, 0, True), (8, 3, False), (8.5, 3, True)])
async def test_what_nobody_claimed_is_queued(made: Fixture, seconds: float, jitter: float, late: bool) -> None:
    sharing = await shared(made, jitter=jitter)
    made.locks.slow = seconds
    made.tracked.reset_last_handled(TICK - 2 * HOUR)
    sharing.leave([(made.tracked, TICK)], TICK - TURN_LASTS)
    sharing.queue_unclaimed(TICK - 0.01)
    assert sharing.next_over == TICK
    sharing.queue_unclaimed(TICK)
    sharing.leave([(made.tracked, TICK)], TICK)
    assert sharing.next_over is None, "it is at work"
    sharing.queue_unclaimed(TICK + 9)
    await made.settle()
    assert made.tracked.last_handled == TICK - HOUR
    assert made.tracked.delay == Delay(TICK, TICK + seconds, NOT_CLAIMED)
    assert (made.queued(), made.calls) == ([("job", late)], ["wake"])
    assert sharing.next_over == TICK + TURN_LASTS


async def test_what_others_claimed_or_is_queued_here_or_not_registered_is_left(made: Fixture) -> None:
    sharing = await shared(made)
    job, ticks = made.tracked.job, made.tracked.ticks
    stranger = TrackedJob(job, ticks, Policy(True, None, 5), 0)
    sharing.leave([(made.tracked, TICK - HOUR), (stranger, TICK)], TICK - TURN_LASTS)
    sharing.queue_unclaimed(TICK)
    await made.settle()
    assert (made.queued(), made.tracked.delay, stranger.phase) == ([], None, Phase.IDLE)
    made.queue.put(made.tracked, late=False)
    sharing.leave([(made.tracked, TICK)], TICK - TURN_LASTS)
    sharing.queue_unclaimed(TICK)
    await made.settle()
    assert (made.queued(), made.tracked.delay) == ([("job", False)], None)


async def test_a_tick_of_a_job_that_the_store_does_not_know_was_not_claimed(made: Fixture) -> None:
    sharing = await shared(made)
    made.locks.handled = None
    sharing.leave([(made.tracked, TICK)], TICK - TURN_LASTS)
    sharing.queue_unclaimed(TICK)
    await made.settle()
    assert (made.queued(), made.tracked.last_handled) == ([("job", False)], TICK - HOUR)


async def test_thousands_of_ticks_are_looked_at_in_parts(made: Fixture) -> None:
    sharing = await shared(made)
    sharing.leave([(made.tracked, TICK - HOUR)] * 2_500, TICK - TURN_LASTS)
    sharing.queue_unclaimed(TICK)
    await made.settle()
    assert made.locks.asked == [1_000, 1_000, 500]


async def test_once_stopped_nothing_more_is_queued(made: Fixture) -> None:
    sharing = await shared(made)
    sharing.stop()
    sharing.leave([(made.tracked, TICK)], TICK - TURN_LASTS)
    sharing.queue_unclaimed(TICK)
    await asyncio.sleep(0)
    sharing.stop()
    await made.settle()
    assert made.queued() == []
