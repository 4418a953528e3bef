"""A scheduler that is down for a while."""

from __future__ import annotations

from typing import Any

from fastapi_crons import Crons
from fastapi_crons.testing import VirtualClock


async def downtime(clock: VirtualClock, crons: Crons, **length: Any) -> None:
    """The scheduler is down for a while; its stores keep what they know."""
    await crons.stop()
    await clock.advance(**length)
    await crons.start()
    await clock.settle(crons)
