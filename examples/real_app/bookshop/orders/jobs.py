"""The jobs of orders."""

from __future__ import annotations

from sqlalchemy import select

from bookshop.models import Order, Parcel
from bookshop.resources import CarrierDep, SessionDep
from fastapi_crons import JobContext, JobGroup
from fastapi_crons.schedules import Every

jobs = JobGroup(prefix="orders.", tags=["orders"])


@jobs.cron(Every(minutes=15), timeout=60)
async def ship(db: SessionDep, carrier: CarrierDep, context: JobContext) -> int:
    """Send what is paid: all of it, or nothing where the carrier refuses."""
    paid = (await db.scalars(select(Order).where(Order.status == "paid"))).all()
    for order in paid:
        answer = await carrier.put(f"/parcels/{order.id}", json={"book": order.book})
        answer.raise_for_status()
        db.add(Parcel(order_id=order.id, run_id=context.run_id))
        order.status = "shipped"
    return len(paid)
