"""How often a job failed in a row, by what is on record."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastapi_crons import Crons

_FAILED = ("failed", "timed_out", "interrupted")
#: How many runs are read at a time: mostly the newest says it all.
_PAGE = 10


async def failures_before(crons: Crons, job_name: str, run_id: str, *, enough: int = 1_000) -> int:
    """How many runs of a job failed in a row before this one; counting stops at `enough`.

    From the history, because the runs before may have been other instances'. Raises a `StoreError` where it can't be read.
    """
    failures = 0
    while True:
        page = await crons.runs(job_name, limit=_PAGE, before=run_id)
        for run in page:
            failures += run.status in _FAILED
            if run.status == "completed" or failures == enough:
                return failures
        if len(page) < _PAGE:
            return failures
        run_id = page[-1].id
