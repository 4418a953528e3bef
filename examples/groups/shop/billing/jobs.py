"""The jobs of billing. They know nothing of the app, nor of a scheduler."""

from __future__ import annotations

from typing import Any

from fastapi_crons import JobGroup
from shop import mail

jobs = JobGroup(prefix="billing.", tags=["billing"], timezone="Europe/Berlin", max_retries=2, retry_delay=60)


@jobs.cron("0 2 * * *")
async def invoices() -> int:
    """Every night at two in Berlin, in an app with the default prefix as `billing.invoices`."""
    mail.send("invoice for tea")
    return 1


@jobs.cron("0 8 1 * *", name="dunning", max_retries=0)
def remind_debtors() -> None:
    """On the first of each month, and not tried again: nobody is to be reminded twice."""
    raise LookupError("the list of debtors is empty")


@jobs.add_on_error_hook
async def alert(job_name: str, context: dict[str, Any]) -> None:
    """Called for the jobs of this group only."""
    mail.send(f"{job_name} {context['status']}: {context['error']}")
