"""Backfills of a process that runs no ticks itself, as the command is: what they wait for, and what the dead left."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from fastapi_crons import CronConfig, Crons, Run, TickRefusedError
from fastapi_crons.clock import utc_datetime
from fastapi_crons.engine.backfills import Backfill, Span
from fastapi_crons.locking import ClaimRequest, LeaseTerms, LiveInstance
from fastapi_crons.locking.instance import Instance
from fastapi_crons.management.management import Management
from fastapi_crons.run import RunIds
from fastapi_crons.testing import VirtualClock
from tests.fleet_lock import FleetLock
from tests.support import nothing
from tests.virtual_time.ticks.servers import Servers

HOURLY = "0 * * * *"


@pytest_asyncio.fixture
async def servers(clock: VirtualClock) -> AsyncIterator[Servers]:
    found = Servers(clock, "memory")
    yield found
    for crons in found.started:
        await crons.stop()


async def begin(crons: Crons, first: float, last: float) -> Backfill:
    job = Management(crons).definition("job")
    return await Management(crons).backfills.start(Span(job, int(first), int(last), one_by_one=True))


async def with_overdue_ticks(servers: Servers) -> Crons:
    """An operator, while the ticks of three hours wait for a scheduler."""
    await servers.stop(await servers.start(HOURLY, nothing))
    await servers.advance(hours=3, minutes=1)
    return await servers.start(HOURLY, nothing, role="operator")


async def test_it_gives_no_way_to_ticks_that_nobody_runs(servers: Servers, clock: VirtualClock) -> None:
    began = clock.now()
    operator = await with_overdue_ticks(servers)
    backfill = await begin(operator, began - 4 * 3_600, began - 1)
    await servers.advance(seconds=4)
    assert (backfill.status, backfill.done) == ("completed", 4)


async def test_it_gives_way_once_to_a_tick_that_is_not_handled(servers: Servers, clock: VirtualClock) -> None:
    began = clock.now()
    operator = await with_overdue_ticks(servers)
    with_other_jobs = Instance.of_this_process("other")
    servers.fleet.living[with_other_jobs.owner] = LiveInstance(with_other_jobs, clock.now() + 60, jobs="others")
    backfill = await begin(operator, began - 4 * 3_600, began - 1)
    await servers.advance(seconds=9)
    assert backfill.done == 0
    await servers.advance(seconds=5)
    assert (backfill.status, backfill.done) == ("completed", 4)


async def killed(servers: Servers, tick: float, *, again: bool = True) -> str:
    """The id of a run of a tick, which was run again unless told otherwise, when its process was killed."""
    locks, instance, run_id = FleetLock(servers.fleet), Instance.of_this_process("killed"), RunIds(servers.clock.now)()
    await locks.open(instance, CronConfig().namespace, LeaseTerms(60, 4), servers.clock)
    await locks.beat()
    request = ClaimRequest("job", run_id, int(tick), HOURLY, "UTC", again=again)
    (claimed,) = await locks.claim([request])
    assert claimed.outcome == "granted"
    now = servers.clock.now()
    run = Run(run_id, "job", int(tick), "again" if again else "schedule", 1, "killed", claimed.token, "running", now)
    await servers.state.write([run])
    return run_id


async def test_a_tick_whose_run_was_killed_is_run_without_any_scheduler(servers: Servers, clock: VirtualClock) -> None:
    began = clock.now()
    operator = await with_overdue_ticks(servers)
    run_id = await killed(servers, began - 2 * 3_600)
    management = Management(operator)
    span = Span(management.definition("job"), int(began) - 4 * 3_600, int(began) - 1, one_by_one=True)
    plan = await management.backfills.plan(span)
    assert (plan.running, len(plan.to_run)) == (1, 3), "its process may be alive"
    await servers.advance(seconds=10)
    backfill = await management.backfills.start(span)
    assert (backfill.plan.running, backfill.plan.ran) == (0, 0)
    await servers.advance(seconds=5)
    assert (backfill.status, backfill.done) == ("completed", 4)
    assert (await management.run("job", run_id)).status == "interrupted"


async def test_a_process_that_dies_meanwhile_holds_nothing_up(servers: Servers, clock: VirtualClock) -> None:
    began = clock.now()
    operator = await with_overdue_ticks(servers)
    await killed(servers, began - 2 * 3_600)
    backfill = await begin(operator, began - 4 * 3_600, began - 1)
    await servers.advance(seconds=2)
    assert backfill.done == 0
    await servers.advance(seconds=20)
    assert (backfill.status, backfill.done) == ("completed", 3)


async def test_it_is_run_again_by_its_tick_too(servers: Servers, clock: VirtualClock) -> None:
    began = clock.now()
    operator = await with_overdue_ticks(servers)
    await killed(servers, began - 3_600)
    with pytest.raises(TickRefusedError, match="is running since"):
        await operator.run_job("job", tick=utc_datetime(began - 3_600))
    await servers.advance(seconds=10)
    run = await operator.run_job("job", tick=utc_datetime(began - 3_600))
    assert run.status == "completed"


async def test_a_scheduler_shows_and_cancels_that_of_a_command(servers: Servers, clock: VirtualClock) -> None:
    began = clock.now()
    scheduler = await servers.start(HOURLY, lambda: clock.sleep(60))
    operator = await servers.start(HOURLY, lambda: clock.sleep(60), role="operator")
    backfill = await begin(operator, began - 4 * 3_600, began - 1)
    await servers.advance(seconds=90)
    (seen,) = await Management(scheduler).backfills.of_job("job")
    assert (seen.id, seen.status, seen.done) == (backfill.id, "running", 1)
    await Management(scheduler).backfills.cancel("job", seen.id)
    await servers.advance(seconds=5)
    assert (backfill.status, backfill.done, backfill.failed) == ("cancelled", 1, 1)


async def test_a_run_that_was_cut_off_is_left_to_the_scheduler_that_comes(
    servers: Servers, clock: VirtualClock
) -> None:
    began = clock.now()
    operator = await with_overdue_ticks(servers)
    await killed(servers, began + 3_600, again=False)
    await servers.advance(seconds=10)
    backfill = await begin(operator, began - 3_600, began + 2 * 3_600)
    assert (backfill.plan.running, backfill.plan.waiting) == (0, 2)
    await servers.advance(seconds=10)
    assert (backfill.status, backfill.done) == ("completed", 2)
    await servers.start(HOURLY, nothing)
    await servers.advance(seconds=30)
    runs = [(run.tick_ts, run.status) for run in await operator.runs("job", limit=100) if run.tick_ts == began + 3_600]
    assert runs == [(began + 3_600, "completed"), (began + 3_600, "interrupted")]
