"""Backfills of a process that runs no ticks itself, as the command is: what they wait for."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from fastapi_crons import Crons
from fastapi_crons.engine.backfills import Backfill, Span
from fastapi_crons.locking import LiveInstance
from fastapi_crons.locking.instance import Instance
from fastapi_crons.management.management import Management
from fastapi_crons.testing import VirtualClock
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
