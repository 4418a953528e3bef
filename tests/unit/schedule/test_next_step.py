"""What is to be claimed next, against a rule that looks at every tick."""

from __future__ import annotations

from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastapi_crons import CronSchedule
from fastapi_crons.schedule.due import (
    MAX_STEPS,
    NOTHING,
    Policy,
    SharedTicks,
    Step,
    TickRange,
    next_step,
    tick_range,
    tick_source,
)
from fastapi_crons.schedules.texts import range_of_text
from tests import seam
from tests.unit.schedule.test_counting import Counted, Foreign

START = 1_767_225_600  # 2026-01-01T00:00:00Z
policies = st.builds(Policy, st.booleans(), st.none() | st.floats(0, 900), st.integers(1, 5))


def plainly(ticks: list[int], now: float, policy: Policy) -> Step:
    """The same for ticks that are listed: those past their grace time are missed, and those that are too many."""
    late = [tick for tick in ticks if policy.grace is not None and now - tick > policy.grace]
    left = ticks[len(late) :]
    missed = [(late[-1], "misfire_grace_time")] if late else []
    if not left:
        return Step(None, tuple(missed))  # type: ignore[arg-type]
    kept = left[-1:] if policy.coalesce else left[-policy.max_catch_up :]
    if len(kept) < len(left) and not policy.coalesce:
        missed.append((left[-len(kept) - 1], "max_catch_up"))
    return Step(kept[0], tuple(missed), len(kept) > 1, alone=len(ticks) == 1)  # type: ignore[arg-type]


@given(st.sampled_from(["* * * * *", "*/7 * * * *", "3 * * * *", "* * * * * */50"]), st.floats(0, 1_000), policies)
def test_the_next_step_is_that_of_the_plain_rule(expr: str, seconds: float, policy: Policy) -> None:
    source, now = CronSchedule(expr), START + seconds
    assert next_step(source, START, now, policy) == plainly(list(source.ticks_between(START, int(now))), now, policy)


def test_a_tick_is_late_only_beyond_its_grace_time() -> None:
    source, policy = CronSchedule("* * * * *"), Policy(True, 30.0, 1)
    assert next_step(source, START, START + 59.5, policy) == NOTHING
    assert next_step(source, START, START + 60, policy) == Step(START + 60, alone=True)
    assert next_step(source, START, START + 90, policy) == Step(START + 60, alone=True)
    assert next_step(source, START, START + 90.5, policy) == Step(None, ((START + 60, "misfire_grace_time"),))
    assert next_step(source, START, START + 150, policy) == Step(START + 120, ((START + 60, "misfire_grace_time"),))


@pytest.mark.parametrize("grace", [30.0, 30.5, 30.999])
def test_of_a_job_due_each_second_no_tick_past_its_grace_time_is_run_and_none_within_it_is_missed(grace: float) -> None:
    step = next_step(CronSchedule("* * * * * *"), START, START + 100, Policy(False, grace, 100))
    assert step == Step(START + 70, ((START + 69, "misfire_grace_time"),), more=True)


def test_the_ticks_of_a_schedule_that_is_known_by_its_text_are_counted() -> None:
    assert range_of_text("0 * * * *", "", START, START + 7_200) == TickRange(START + 3_600, START + 7_200, 2)
    assert range_of_text("0 0 * * *", "Europe/Berlin", START, START + 86_400) == TickRange(
        START + 82_800, START + 82_800, 1
    )
    assert range_of_text("every full moon", "UTC", START, START + 86_400) is None


@pytest.mark.parametrize("foreign", [False, True])
@pytest.mark.parametrize("most", [1, 2, 3, 64, 65, 100])
def test_of_a_job_due_each_second_no_tick_more_and_none_less_is_run_than_may_be_caught_up(
    most: int, foreign: bool
) -> None:
    schedule = CronSchedule("* * * * * *")
    source = tick_source(Foreign(schedule) if foreign else schedule)
    run = START + 1_000 - most + 1
    expected = Step(run, ((run - 1, "max_catch_up"),), more=most > 1)
    assert next_step(source, START, START + 1_000, Policy(False, None, most)) == expected


def test_where_ticks_can_not_be_counted_in_time_fewer_are_caught_up(monkeypatch: pytest.MonkeyPatch) -> None:
    seam.MAX_STEPS.replace(monkeypatch, 3)
    source = tick_source(Foreign(CronSchedule("* * * * * *")))
    step = next_step(source, START, START + 1_000, Policy(False, None, 100))
    assert step == Step(START + 1_000, ((START + 999, "max_catch_up"),))


@pytest.mark.parametrize("number", [MAX_STEPS + 1, MAX_STEPS + 2, MAX_STEPS + 3])
def test_of_a_schedule_of_another_kind_one_tick_is_counted_at_each_step(number: int) -> None:
    source = tick_source(Foreign(CronSchedule("* * * * * *")))
    # The first and the last are known without counting.
    most = MAX_STEPS + 2
    assert tick_range(source, 0, number) == TickRange(1, number, min(number, most), number > most)


def test_between_two_ticks_what_is_due_is_computed_once_for_all_jobs_of_a_schedule() -> None:
    counted, policy = Counted(CronSchedule("* * * * *")), Policy(True, None, 1)
    shared = SharedTicks(counted)
    shared.next_tick = START + 120
    assert shared.step(START, START + 60, policy) == Step(START + 60, alone=True)
    asked = counted.asked
    assert shared.step(START, START + 119.9, policy) == Step(START + 60, alone=True)
    assert counted.asked == asked
    assert shared.step(START - 60, START + 119.9, policy) == Step(START + 60)
    assert shared.step(START - 60, START + 119.9, Policy(False, None, 1)) == Step(
        START + 60, ((START, "max_catch_up"),)
    )
    # Once the next tick is due, nothing is kept until the timeline has placed the schedule again.
    shared.next_tick = START + 120
    assert shared.step(START, START + 120, policy) == Step(START + 120)
    shared.next_tick = START + 240
    assert shared.step(START, START + 180, policy) == Step(START + 180)


def test_nothing_is_kept_of_what_was_due_at_the_next_tick_itself() -> None:
    shared, policy = SharedTicks(CronSchedule("* * * * *")), Policy(True, None, 1)
    shared.next_tick = START + 60
    assert shared.step(START, START + 60, policy) == Step(START + 60, alone=True)
    assert shared.step(START, START + 120, policy) == Step(START + 120)


def test_what_is_due_of_a_schedule_without_further_ticks_is_computed_once() -> None:
    counted, policy = Counted(CronSchedule("* * * * *")), Policy(True, None, 1)
    shared = SharedTicks(counted)
    assert shared.next_tick is None
    assert shared.step(START, START, policy) == NOTHING
    asked = counted.asked
    assert shared.step(START, START, policy) == NOTHING
    assert counted.asked == asked


def test_while_a_grace_time_runs_out_what_is_due_is_computed_anew() -> None:
    shared, policy = SharedTicks(CronSchedule("* * * * *")), Policy(True, 30.0, 1)
    shared.next_tick = START + 120
    assert shared.step(START, START + 90, policy) == Step(START + 60, alone=True)
    assert shared.step(START, START + 91, policy) == Step(None, ((START + 60, "misfire_grace_time"),))


def test_the_same_range_is_counted_once_for_all_jobs_of_a_schedule() -> None:
    counted = Counted(CronSchedule("* * * * *"))
    shared = SharedTicks(counted)
    assert shared.range(START, START + 60) == TickRange(START + 60, START + 60, 1)
    asked = counted.asked
    assert shared.range(START, START + 60) == TickRange(START + 60, START + 60, 1)
    assert counted.asked == asked
    assert shared.range(START, START + 120) == TickRange(START + 60, START + 120, 2)
    assert shared.range(START + 60, START + 120) == TickRange(START + 120, START + 120, 1)


def test_who_is_to_know_of_a_schedule_that_breaks_the_protocol_is_called_with_how_it_does() -> None:
    class Late(Foreign):
        def next_after(self, instant: datetime) -> datetime | None:
            return instant

    faults: list[str] = []
    source = tick_source(Late(CronSchedule("* * * * *")), faults.append)
    assert source.next_tick(START) is None
    assert source.next_tick(START + 60) is None
    assert len(faults) == 1
    assert "which is not later" in faults[0]
