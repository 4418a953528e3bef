"""`create_app()` makes the app: once for each worker of a server, and once for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from bookshop.alerts import alert_to
from bookshop.orders.api import router as orders
from bookshop.orders.jobs import jobs as order_jobs
from bookshop.reports.jobs import jobs as report_jobs
from bookshop.resources import carrier_client, open_database
from bookshop.settings import Settings
from fastapi_crons import CronConfig, Crons, get_cron_router
from fastapi_crons.clock import Clock


def create_app(
    settings: Settings | None = None, *, config: CronConfig | None = None, clock: Clock | None = None
) -> FastAPI:
    """An app with a scheduler of its own. `config` and `clock` are the scheduler's; tests have others."""
    settings = settings or Settings()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, object]]:
        async with open_database(settings) as sessions, carrier_client(settings) as carrier:
            yield {"sessions": sessions, "carrier": carrier}

    app = FastAPI(title="Bookshop", lifespan=lifespan)
    app.include_router(orders)
    crons = Crons(app, config=config, clock=clock)
    crons.include(order_jobs)
    crons.include(report_jobs)
    if settings.alert_url is not None:
        crons.add_on_error_hook(alert_to(settings.alert_url))
    app.include_router(get_cron_router(crons), prefix="/api")
    return app
