"""Tags: what a job is tagged with decides who hears of its failures, and whether it may run during a sale."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from fastapi_crons import Crons, SkipRun, get_cron_router

app = FastAPI(title="Tags")
crons = Crons(app)
app.include_router(get_cron_router(), prefix="/api")

sale = False


@crons.cron("* * * * * */2", name="send_invoices", tags=["billing", "critical"])
async def send_invoices() -> None:
    raise TimeoutError("the mail server does not answer")


@crons.cron("* * * * * */2", name="refresh_ratings", tags=["shop"])
async def refresh_ratings() -> None:
    raise ValueError("a rating of 11 stars")


@crons.cron("* * * * * */2", name="rebuild_index", tags=["shop", "heavy"])
def rebuild_index() -> str:
    return "12,000 products"


@crons.cron("* * * * * */2", name="export_books", tags=["billing", "heavy"])
def export_books() -> str:
    return "books.csv"


async def alert(job_name: str, context: dict[str, Any]) -> None:
    """A hook for all jobs that looks at the tags."""
    channel = "pager" if "critical" in context["tags"] else "chat"
    print(f"to the {channel}: {job_name} failed: {context['error']}", flush=True)


def not_during_a_sale(job_name: str) -> None:
    """A hook for the jobs that it is added to."""
    if sale:
        raise SkipRun("there is a sale")


crons.add_on_error_hook(alert)
for job in crons.get_jobs(tags=["heavy"]):
    crons.add_before_run_hook(not_during_a_sale, job_name=job.name)


@app.post("/sale/{on}")
async def set_sale(on: bool) -> dict[str, list[str]]:
    """Begin or end a sale; says which jobs wait meanwhile."""
    global sale
    sale = on
    return {"held back": [job.name for job in crons.get_jobs(tags=["heavy"])] if on else []}
