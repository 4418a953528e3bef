"""Processes that die in a run whose tick was made by the last run, or by the start of the fleet."""

from __future__ import annotations

import time

import pytest

from tests.faults.conftest import Place, on_time
from tests.faults.fleet import Fleet, Line
from tests.faults.redis_server import needs_redis

pytestmark = [pytest.mark.slow, needs_redis]

PERIOD = 2


def own_job(schedule: str, seconds: float) -> str:
    """One more job, as `extra`: a run takes so long."""
    return f"""
from fastapi_crons.schedules import AtStart, Every

@crons.cron({schedule}, name="own")
async def own(context: JobContext):
    note("start", context)
    await asyncio.sleep({seconds})
    note("end", context)
"""


AFTER_END = own_job(f'Every(seconds={PERIOD}, after="end")', 1)
AT_START = own_job("AtStart()", 1.5)


def starts(fleet: Fleet) -> list[Line]:
    return sorted((line for line in fleet.lines() if line.event == "start"), key=lambda line: line.at)


def statuses(place: Place) -> list[tuple[int, str]]:
    return [(run.attempt, run.status) for run in place.runs("own")]


@on_time
@pytest.mark.full
@pytest.mark.parametrize("rerun", ["true", "false"])
def test_a_period_begins_when_what_was_cut_off_by_kill_9_has_been_rerun_or_is_on_record(
    place: Place, rerun: str
) -> None:
    with place.fleet(jobs=0, extra=AFTER_END, settings={"CRON_RERUN_INTERRUPTED": rerun}) as fleet:
        fleet.start(3)
        cut_off = fleet.wait_for("own")
        time.sleep(0.3)
        killed = fleet.kill(fleet.by_pid(cut_off.pid))
        if rerun == "true":
            again = fleet.wait_for("own", attempt=2)
            assert (again.tick, again.pid != cut_off.pid) == (cut_off.tick, True)
            assert again.at - killed < place.takeover
            fleet.wait_for("own", "end", attempt=2)
        following = fleet.wait_for("own", since=killed)
        fleet.wait_for("own", "end", since=following.at)
        fleet.wait_for("own", since=following.at + 0.1)
        fleet.stop()
        first, *others = place.runs("own")
        assert (first.status, first.tick_ts) == ("interrupted", cut_off.tick)
        assert first.ended_ts is not None
        assert killed < first.ended_ts < killed + place.takeover
        ended = fleet.wait_for("own", "end", attempt=2).at if rerun == "true" else first.ended_ts
        assert PERIOD - 0.1 <= following.at - ended < PERIOD + 1.5
        assert {run.status for run in others} <= {"completed", "cancelled"}
        ticks = [line.tick for line in starts(fleet) if line.attempt == 1]
        assert len(set(ticks)) == len(ticks) == len(others) + (rerun == "false")
        assert place.missed("own") == []


@on_time
@pytest.mark.full
def test_a_start_whose_run_is_cut_off_by_kill_9_is_rerun_by_those_that_started_with_it(place: Place) -> None:
    with place.fleet(jobs=0, extra=AT_START) as fleet:
        fleet.start(2)
        cut_off = fleet.wait_for("own")
        time.sleep(0.3)
        killed = fleet.kill(fleet.by_pid(cut_off.pid))
        again = fleet.wait_for("own", attempt=2)
        assert (again.tick, again.pid != cut_off.pid) == (cut_off.tick, True)
        assert again.at - killed < place.takeover
        fleet.wait_for("own", "end", attempt=2)
        fleet.start()  # one that joins them
        time.sleep(2.5)
        fleet.stop()
        assert statuses(place) == [(1, "interrupted"), (2, "completed")]
        assert len(starts(fleet)) == 2
        assert place.missed("own") == []


@on_time
@pytest.mark.full
def test_after_the_death_of_all_processes_a_start_runs_once_and_not_for_the_former_one_too(place: Place) -> None:
    with place.fleet(jobs=0, extra=AT_START) as fleet:
        fleet.start(2)
        cut_off = fleet.wait_for("own")
        killed = [fleet.kill(process) for process in fleet.processes][-1]
        fleet.start(2)
        # On other hosts, where the dead ones count as alive for a while, this is no start yet.
        ended = fleet.wait_for("own", "end", since=killed, attempt=2 if place.elsewhere else 1)
        assert (ended.tick == cut_off.tick) is place.elsewhere
        time.sleep(3)
        fleet.stop()
        assert statuses(place) == [(1, "interrupted"), (2 if place.elsewhere else 1, "completed")]
        assert len(starts(fleet)) == 2
        assert place.missed("own") == []
