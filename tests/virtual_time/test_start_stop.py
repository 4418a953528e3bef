"""StartStop: starts and stops one scheduler for all who use it; and whether a scheduler is at rest."""

from __future__ import annotations

import asyncio
import logging

import pytest

from fastapi_crons import CronsError
from fastapi_crons.testing import VirtualClock
from tests.conftest import MakeCrons
from tests.support import nothing


async def test_a_scheduler_runs_until_its_last_user_ends(make_crons: MakeCrons) -> None:
    crons = make_crons()
    first, second = object(), object()
    await crons.begin_for(first)
    await crons.begin_for(second)
    await crons.end_for(first)
    assert crons.running
    await crons.end_for(first)
    assert crons.running, "who has ended does not count again"
    await crons.end_for(second)
    assert not crons.running


async def test_starts_and_stops_at_the_same_time_happen_one_after_another(
    make_crons: MakeCrons, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "fastapi_crons")
    crons = make_crons()
    await asyncio.gather(crons.start(), crons.start(), crons.start())
    assert caplog.text.count("Cron scheduler started with") == 1
    await asyncio.gather(crons.stop(), crons.stop())
    assert caplog.text.count("Cron scheduler stopped") == 1
    assert not crons.running


async def test_a_stop_during_a_start_waits_for_it(make_crons: MakeCrons) -> None:
    crons = make_crons()
    starting = asyncio.create_task(crons.start())
    await asyncio.sleep(0)
    await crons.stop()
    await starting
    assert not crons.running


@pytest.mark.parametrize(
    ("role", "refused"), [(None, "the scheduler is not running"), ("observer", "was started as an observer")]
)
async def test_a_request_says_what_can_not_be_done_and_why(
    make_crons: MakeCrons, role: str | None, refused: str
) -> None:
    crons = make_crons()
    crons.cron("* * * * *", name="job")(nothing)
    if role is not None:
        await crons.start(role)  # type: ignore[arg-type]
    requests = {
        "run job 'job'": crons.run_job("job"),
        "pause job 'job'": crons.pause("job"),
        "resume job 'job'": crons.resume("job"),
        "cancel run 'r'": crons.cancel_run("r"),
    }
    for action, request in requests.items():
        with pytest.raises(CronsError, match=f"^can't {action}: .*{refused}"):
            await request


async def test_virtual_time_stands_still_while_a_scheduler_has_something_to_do(
    make_crons: MakeCrons, clock: VirtualClock
) -> None:
    crons = make_crons()
    assert crons.is_at_rest((), finish_runs=True), "it has not started"
    go_on = asyncio.Event()
    crons.cron("* * * * *", name="waits")(go_on.wait)
    await crons.start()
    await clock.advance(crons, minutes=1, finish_runs=False)
    settling = asyncio.create_task(clock.settle(crons))
    assert await asyncio.wait({settling}, timeout=0.1) == (set(), {settling}), "the run has not ended"
    go_on.set()
    await settling
