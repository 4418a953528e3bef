"""Which runs on record as running still are: running instances hold their leases."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from fastapi_crons.locking.base import REACHES
from fastapi_crons.run import INTERRUPTED, Run, RunError
from fastapi_crons.state.base import JobState
from fastapi_crons.state.client import answer_of

if TYPE_CHECKING:
    from fastapi_crons.engine.engine import Engine

_GONE = RunError(INTERRUPTED, "its instance is gone; a scheduler that starts puts that on record")


async def with_interrupted(states: dict[str, JobState], engine: Engine, timeout: float) -> dict[str, JobState]:
    """Show jobs as interrupted that are on record as running by an instance that is gone: no scheduler has done so yet.

    Each store answers within `timeout` seconds.
    """
    running = [name for name, state in states.items() if state.status == "running"]
    if not running or not _knows_who_lives(engine):
        return states
    still_running = set((await running_runs(running, engine, timeout)).values())
    gone = {name: states[name]._replace(status="interrupted") for name in running if name not in still_running}
    return {**states, **gone}


async def gone_runs(engine: Engine, timeout: float) -> dict[str, Run]:
    """The runs that are on record as running by instances that are gone, by id, as interrupted, with their logs.

    None except for an observer: a scheduler records them by itself. Each store answers within `timeout` seconds.
    """
    if engine.role != "observer" or not _knows_who_lives(engine):
        return {}
    running = await answer_of(engine.state.unfinished(), timeout, "the store")
    if not running:
        return {}
    held = await running_runs(sorted({run.job for run in running}), engine, timeout)
    living = {found.instance.id for found in await answer_of(engine.locks.instances(), timeout, "the store")}
    # A run gives up its lease a little before its end is on record.
    gone = [run.id for run in running if run.id not in held and run.instance not in living]
    still = await answer_of(engine.state.runs_by_id(gone), timeout, "the store") if gone else {}
    return {
        run.id: replace(run, status="interrupted", error=_GONE) for run in still.values() if run.status == "running"
    }


async def running_runs(jobs: Sequence[str], engine: Engine, timeout: float) -> dict[str, str]:
    """The runs of these jobs that running instances hold a lease for, each with its job."""
    known, instances = await asyncio.gather(
        answer_of(engine.locks.known(jobs), timeout, "the store"),
        answer_of(engine.locks.instances(), timeout, "the store"),
    )
    owners = {found.instance.owner for found in instances}
    return {lease.run_id: job.job for job in known for lease in job.leases if lease.instance in owners}


def _knows_who_lives(engine: Engine) -> bool:
    """Whether all instances that write to the state store are seen in the lock store."""
    reach = engine.locks.backend.reach
    return reach != "process" and REACHES.index(engine.state.reach) <= REACHES.index(reach)
