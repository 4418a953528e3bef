"""`create_app()` makes the app: once for a server, and once for each test."""

from __future__ import annotations

from fastapi import FastAPI

from fastapi_crons import Crons, get_cron_router
from fastapi_crons.clock import Clock
from fastapi_crons.state import StateBackend
from shop.billing.jobs import jobs as billing
from shop.stock.jobs import jobs as stock


def create_app(*, state_backend: StateBackend | None = None, clock: Clock | None = None) -> FastAPI:
    """An app with a scheduler of its own."""
    app = FastAPI(title="Shop")
    crons = Crons(app, state_backend=state_backend, clock=clock)
    crons.include(billing)
    for warehouse in ("berlin", "tokyo"):
        crons.include(stock, prefix=f"{warehouse}.", tags=[warehouse])
    app.include_router(get_cron_router(crons), prefix="/api")
    return app
