"""Small helpers for tests."""

from __future__ import annotations

from fastapi_crons import Crons, MissedTicks, Run
from fastapi_crons.state import StateBackend


def state_of(crons: Crons) -> StateBackend:
    """The state store of a running scheduler."""
    engine = crons.engine
    assert engine is not None
    return engine.state


async def runs_of(crons: Crons, job: str) -> list[Run]:
    """A job's runs, oldest first."""
    return (await state_of(crons).runs(job, limit=500))[::-1]


async def missed_of(crons: Crons, job: str) -> list[MissedTicks]:
    """A job's records of ticks that were let go, oldest first."""
    return (await state_of(crons).missed(job, limit=500))[::-1]


def at(run: Run) -> str:
    """A run's tick as HH:MM:SS."""
    assert run.tick is not None
    return run.tick.strftime("%H:%M:%S")


async def nothing() -> None:
    """A job that does nothing."""
