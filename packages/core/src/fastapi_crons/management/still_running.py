"""Which runs on record as running still are: running instances hold their leases."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fastapi_crons.locking.base import REACHES
from fastapi_crons.state.base import JobState
from fastapi_crons.state.client import answer_of

if TYPE_CHECKING:
    from fastapi_crons.engine.engine import Engine


async def with_interrupted(states: dict[str, JobState], engine: Engine, timeout: float) -> dict[str, JobState]:
    """Show jobs as interrupted that are on record as running by an instance that is gone: no scheduler has done so yet.

    Each store answers within `timeout` seconds.
    """
    running = [name for name, state in states.items() if state.status == "running"]
    if not running or REACHES.index(engine.state.reach) > REACHES.index(engine.locks.backend.reach):
        return states
    still_running = set((await running_runs(running, engine, timeout)).values())
    gone = {name: states[name]._replace(status="interrupted") for name in running if name not in still_running}
    return {**states, **gone}


async def running_runs(jobs: Sequence[str], engine: Engine, timeout: float) -> dict[str, str]:
    """The runs of these jobs that running instances hold a lease for, each with its job."""
    known, instances = await asyncio.gather(
        answer_of(engine.locks.known(jobs), timeout, "the store"),
        answer_of(engine.locks.instances(), timeout, "the store"),
    )
    owners = {found.instance.owner for found in instances}
    return {lease.run_id: job.job for job in known for lease in job.leases if lease.instance in owners}
