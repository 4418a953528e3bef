"""The result of a run, as hooks, callers and the history get it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from itertools import count
from typing import Any

import pytest
from fastapi.encoders import jsonable_encoder

from fastapi_crons.testing import VirtualClock
from tests.conftest import MakeCrons
from tests.support import runs_of
from tests.unit.engine.test_results import Order


async def test_a_generator_is_kept_with_what_it_makes_up_to_the_limit(make_crons: MakeCrons) -> None:
    crons = make_crons()
    crons.cron("0 0 1 1 *", name="three")(lambda: (number for number in range(3)))
    crons.cron("0 0 1 1 *", name="without end")(lambda: (number for number in count()))

    @crons.cron("0 0 1 1 *", name="on the loop")
    async def on_the_loop() -> Iterator[int]:
        return (number for number in range(3))

    await crons.start()
    assert (await crons.run_job("three")).result == [0, 1, 2]
    assert (await crons.run_job("on the loop")).result == [0, 1, 2]
    result: Any = (await crons.run_job("without end")).result
    assert (result["stored"], result["reason"]) == (False, "larger than 65536 bytes")


@pytest.mark.parametrize(
    "value", ["x", 1, 1.5, True, [1, {"a": None}], {"when": datetime(2026, 3, 1)}, {1, 2}, Order()]
)
async def test_who_runs_a_job_gets_the_value_as_hooks_do(
    make_crons: MakeCrons, clock: VirtualClock, value: Any
) -> None:
    crons = make_crons()
    told: list[Any] = []
    crons.add_after_run_hook(lambda job_name, context: told.append(context["result"]))
    crons.cron("0 * * * *", name="job")(lambda: value)
    await crons.start()
    run = await crons.run_job("job")
    expected = json.loads(json.dumps(jsonable_encoder(value)))
    assert (run.result, told) == (expected, [expected])
    (kept,) = await runs_of(crons, "job")
    assert kept.result == expected
    assert kept == run


async def test_a_result_that_is_nested_deeply_reaches_hooks(make_crons: MakeCrons) -> None:
    deep: Any = "bottom"
    for _ in range(490):
        deep = [deep]
    crons = make_crons()
    told: list[Any] = []
    crons.add_after_run_hook(lambda job_name, context: told.append(context["result"]))
    crons.cron("0 0 1 1 *", name="job")(lambda: deep)
    await crons.start()
    assert (await crons.run_job("job")).status == "completed"
    (value,) = told
    while isinstance(value, list):
        (value,) = value
    assert value == "bottom"
