"""The jobs of one warehouse; the app includes them once for each."""

from __future__ import annotations

from fastapi_crons import JobContext, JobGroup

jobs = JobGroup(tags=["stock"], overlap="queue", timeout=30)


@jobs.cron("*/15 * * * *")
async def count(context: JobContext) -> str:
    """Every quarter of an hour, in each warehouse."""
    warehouse, _, _ = context["job_name"].partition(".")
    return f"counted in {warehouse}"
