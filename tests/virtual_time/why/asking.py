"""What became of an instant on the first of March, asked in short."""

from __future__ import annotations

from datetime import datetime, timezone

from fastapi_crons import Crons
from fastapi_crons.management.fates.explain import TickFate
from fastapi_crons.management.management import Management

MIDNIGHT = datetime(2026, 3, 1, tzinfo=timezone.utc)


async def why(crons: Crons, at: str, job: str = "job", *, details: bool = True) -> TickFate:
    """What became of a time of the first of March, or of `DD HH:MM:SS`."""
    day, _, time = at.rpartition(" ")
    moment = datetime.fromisoformat(f"2026-03-{day or '01'}T{time}+00:00")
    return await Management(crons).explain_tick(job, moment, details=details)
