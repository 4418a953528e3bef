"""Turns: every tick is the turn of one instance, and everybody gets as many."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastapi_crons.engine.dispatch.sharing import whose_turn


@pytest.mark.parametrize(
    ("job", "tick", "instances", "turn"),
    [("backup", 1_700_000_000, 3, 2), ("report", 1_700_000_060, 5, 2), ("töne", 0, 8, 5), ("", 2**33, 100, 0)],
)
def test_instances_agree_whose_turn_a_tick_is_whatever_version_they_run(
    job: str, tick: int, instances: int, turn: int
) -> None:
    assert whose_turn(job, tick, instances) == turn


@given(st.text(max_size=50), st.integers(0, 2**33), st.integers(1, 100))
def test_a_tick_is_the_turn_of_one_of_the_instances(job: str, tick: int, instances: int) -> None:
    assert 0 <= whose_turn(job, tick, instances) < instances


@given(st.integers(0, 2**32), st.integers(2, 8))
def test_the_ticks_of_an_instant_are_spread_evenly_over_the_instances(tick: int, instances: int) -> None:
    turns = Counter(whose_turn(f"job-{number}", tick, instances) for number in range(2_000))
    assert all(abs(turns[each] / 2_000 - 1 / instances) < 0.06 for each in range(instances))


@given(st.text(max_size=50), st.integers(0, 2**32), st.sampled_from([1, 60, 300, 3_600, 86_400]), st.integers(2, 8))
def test_the_ticks_of_a_job_are_spread_evenly_over_the_instances(
    job: str, first: int, period: int, instances: int
) -> None:
    turns = Counter(whose_turn(job, first + period * number, instances) for number in range(2_000))
    assert all(abs(turns[each] / 2_000 - 1 / instances) < 0.06 for each in range(instances))
