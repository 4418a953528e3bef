"""Asks the management API of a scheduler in this process."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from fastapi import FastAPI
from httpx2 import ASGITransport, AsyncClient, Response

from fastapi_crons import Crons, get_cron_router

STRANGER = {"host": "jobs.example.com"}


def client_of(crons: Crons, **options: Any) -> AsyncClient:
    """A client on this machine. `options` go to `get_cron_router`."""
    app = FastAPI()
    app.include_router(get_cron_router(crons, **options), prefix="/api")
    return AsyncClient(transport=ASGITransport(app), base_url="http://localhost:8000/api")


def path(job: str, *rest: str) -> str:
    """The path of a job, or of something of it."""
    return "/".join(["/crons", *(quote(part, safe="") for part in (job, *rest))])


def problem(answer: Response) -> tuple[int, str]:
    """The status and the sentence of an answer that is a problem, which must be of the right form."""
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    body = answer.json()
    assert body.keys() == {"type", "title", "status", "detail"}
    assert body["status"] == answer.status_code
    assert len(answer.content) < 1_000
    return answer.status_code, body["detail"]


async def ended(api: AsyncClient, job: str, run_id: str) -> Any:
    run = (await api.get(path(job, "runs", run_id))).json()
    return run if run["status"] not in ("running", 404) else None
