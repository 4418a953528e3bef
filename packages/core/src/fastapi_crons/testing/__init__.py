"""For tests of jobs, and of backends: virtual time, and a fresh start between tests::

    clock = VirtualClock("2026-03-01T00:00:00Z")
    crons = Crons(state_backend=MemoryStateBackend(), clock=clock)
    ...
    await crons.start()
    await clock.advance(crons, days=3)

Nothing of that takes longer than what the jobs do.
"""

from typing import TYPE_CHECKING, Any

from fastapi_crons.scheduler.crons import reset
from fastapi_crons.testing.clock import VirtualClock
from fastapi_crons.testing.lock_contract import LockContract
from fastapi_crons.testing.state_contract import StateContract

if TYPE_CHECKING:
    from fastapi_crons.testing.lock_walk import LockWalk

__all__ = ["LockContract", "LockWalk", "StateContract", "VirtualClock", "reset"]


def __getattr__(name: str) -> Any:
    if name != "LockWalk":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from fastapi_crons.testing.lock_walk import LockWalk
    except ModuleNotFoundError as error:
        raise ImportError("LockWalk needs hypothesis: pip install hypothesis", name=error.name) from error
    return LockWalk
