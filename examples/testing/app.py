"""An app with two jobs, a hook and an endpoint; `test_app.py` says what they do."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from fastapi_crons import Crons, JobContext, get_cron_router, hookimpl

app = FastAPI(title="Orders")
crons = Crons(app)
app.include_router(get_cron_router(), prefix="/api")

orders: list[str] = []
sent: list[str] = []
alerts: list[str] = []


def send(order: str) -> None:
    """Send an invoice; stands for a mail server."""
    sent.append(order)


@crons.cron(
    "30 2 * * *", name="send_invoices", timezone="Europe/Berlin", max_retries=2, retry_delay=60, retry_on=(OSError,)
)
async def send_invoices(context: JobContext) -> int:
    """Every night. What was sent is not sent again by the next attempt."""
    context.logger.info("%d orders", len(orders))
    done = 0
    while orders:
        send(orders[0])
        orders.pop(0)
        done += 1
    return done


@crons.cron("*/15 * * * *", name="clean_up", misfire_grace_time=60)
def clean_up() -> None:
    """Every quarter of an hour, in a thread."""


class Alerts:
    """Tells of failures."""

    @hookimpl
    def on_error(self, job_name: str, context: dict[str, Any]) -> None:
        alerts.append(f"{job_name}: {context['error']}")


crons.plugins.register(Alerts())


@app.post("/orders/{order}", status_code=201)
async def add_order(order: str) -> int:
    """Take an order; says how many wait for the night."""
    orders.append(order)
    return len(orders)
