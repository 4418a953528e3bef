"""Clocks that differ between processes, and clocks that are set while they run."""

from __future__ import annotations

import signal
import time

import pytest

from tests.faults.conftest import Place, Report, on_time, place_of
from tests.faults.fleet import Fleet, Line
from tests.faults.redis_server import needs_redis

pytestmark = [pytest.mark.slow, needs_redis]

#: The process's clock is ahead by SKEW seconds, and from SIGUSR1 on by STEP. What jobs write down has the true time.
OTHER_CLOCK = """
clock.ahead = float(os.environ.get("SKEW", "0"))

def step(*_):
    clock.ahead = float(os.environ["STEP"])

signal.signal(signal.SIGUSR1, step)
"""


@pytest.fixture
def across_hosts(request: pytest.FixtureRequest) -> Place:
    return place_of("Redis across hosts", request)


@pytest.fixture
def sqlite(request: pytest.FixtureRequest) -> Place:
    return place_of("SQLite", request)


def starts(fleet: Fleet, since: float = 0) -> list[Line]:
    return [line for line in fleet.lines() if line.event == "start" and line.at > since]


@on_time
@pytest.mark.full
@pytest.mark.parametrize("skew", [2, 15])
def test_clocks_that_differ_start_nothing_early_and_nothing_twice(
    skew: int, across_hosts: Place, report: Report
) -> None:
    with across_hosts.fleet(jobs=10, extra=OTHER_CLOCK) as fleet:
        for ahead in (0, skew, -skew):
            fleet.start(SKEW=str(ahead))
        since = time.time() + 1
        time.sleep(7)
        seen_until = time.time() - 1
        fleet.stop()
        assert min(line.at - line.tick for line in starts(fleet)) > -1.01
        sums = fleet.sums(since, seen_until, across_hosts.history(fleet))
        recovered = fleet.recovered_at(since, until=seen_until)
        report(f"clocks ±{skew} s, Redis", sums, recovered)
        assert recovered == 0, "a tick was late by more than a second"


@on_time
@pytest.mark.full
@pytest.mark.parametrize("skew", [2, 45])
def test_a_lone_process_whose_clock_is_fast_runs_every_tick_by_the_clock_of_the_store(
    skew: int, across_hosts: Place, report: Report
) -> None:
    with across_hosts.fleet(jobs=5, extra=OTHER_CLOCK) as fleet:
        fleet.start(SKEW=str(skew))
        since = time.time() + 2
        time.sleep(15)  # the store is asked for its clock meanwhile
        seen_until = time.time() - 1
        fleet.stop()
        assert all(line.at - line.tick > -1.01 for line in starts(fleet))
        sums = fleet.sums(since, seen_until, across_hosts.history(fleet))
        report(f"clock of the only process +{skew} s, Redis", sums, fleet.recovered_at(since, until=seen_until))
        assert sums.on_record == 0


@on_time
@pytest.mark.full
@pytest.mark.parametrize("step", [3600, -40])
def test_a_clock_that_is_set_in_one_process_leaves_the_ticks_to_the_others(
    step: int, across_hosts: Place, report: Report
) -> None:
    with across_hosts.fleet(jobs=10, extra=OTHER_CLOCK) as fleet:
        fleet.start(1)
        (other,) = fleet.start(1, STEP=str(step))
        since = time.time() + 1
        time.sleep(2.5)
        assert {line.pid for line in starts(fleet)} == {process.pid for process in fleet.processes}
        other.send_signal(signal.SIGUSR1)
        stepped = time.time()
        time.sleep(6)
        seen_until = time.time() - 1
        fleet.stop()
        assert min(line.at - line.tick for line in starts(fleet)) > -1.01
        if step < 0:
            assert "the clock was set back by 40 s" in fleet.log.read_text()
        recovered = fleet.recovered_at(stepped, until=seen_until)
        report(
            f"{step:+} s step of one clock, Redis",
            fleet.sums(since, seen_until, across_hosts.history(fleet)),
            recovered,
        )
        assert recovered == 0, "a tick was late by more than a second"


@on_time
@pytest.mark.full
def test_after_a_step_of_an_hour_each_job_runs_once_for_it_and_goes_on_by_the_new_clock(sqlite: Place) -> None:
    with sqlite.fleet(jobs=10, extra=OTHER_CLOCK) as fleet:
        fleet.start(2, STEP="3600")
        time.sleep(2)
        for process in fleet.processes:
            process.send_signal(signal.SIGUSR1)
        stepped = time.time()
        time.sleep(6)
        fleet.stop()
        for number in range(10):
            after = [line for line in starts(fleet, stepped + 0.1) if line.job == f"job-{number}"]
            ticks = [line.tick for line in after if line.tick > stepped + 3000]
            assert len(ticks) == len(set(ticks))
            assert ticks[0] - stepped - 3600 < 2
            # One run for the hour, then each second of the new clock.
            following = set(range(ticks[0] + 1, int(stepped + 3600 + 5)))
            assert following <= set(ticks), following - set(ticks)
            assert all(line.at + 3600 - line.tick < 1 for line in after if line.tick in following)
        coalesced = [run for run in sqlite.runs("job-0") if run.missed_ticks > 3000]
        assert len(coalesced) == 1


@on_time
@pytest.mark.full
def test_after_a_step_back_nothing_runs_twice_and_jobs_go_on_when_the_time_has_passed(sqlite: Place) -> None:
    with sqlite.fleet(jobs=10, extra=OTHER_CLOCK) as fleet:
        fleet.start(2, STEP="-10")
        time.sleep(3)
        for process in fleet.processes:
            process.send_signal(signal.SIGUSR1)
        stepped = time.time()
        time.sleep(14)
        fleet.stop()
        assert fleet.log.read_text().count("the clock was set back by 10 s") == 2
        assert len({(line.job, line.tick) for line in starts(fleet)}) == len(starts(fleet)), "a tick ran twice"
        for number in range(10):
            after = [line for line in starts(fleet, stepped + 1) if line.job == f"job-{number}"]
            assert 8.5 < after[0].at - stepped < 11.1
            ticks = {line.tick for line in starts(fleet) if line.job == f"job-{number}"}
            assert set(range(min(ticks), max(ticks) + 1)) == ticks
            assert all(line.at - 10 - line.tick < 1 for line in after)
