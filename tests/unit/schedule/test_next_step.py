"""What is to be claimed next, against a rule that looks at every tick."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fastapi_crons import CronSchedule
from fastapi_crons.schedule.due import NOTHING, Policy, Step, TickRange, next_step, range_of_text

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


def test_the_ticks_of_a_schedule_that_is_known_by_its_text_are_counted() -> None:
    assert range_of_text("0 * * * *", "", START, START + 7_200) == TickRange(START + 3_600, START + 7_200, 2)
    assert range_of_text("0 0 * * *", "Europe/Berlin", START, START + 86_400) == TickRange(
        START + 82_800, START + 82_800, 1
    )
    assert range_of_text("every full moon", "UTC", START, START + 86_400) is None
