"""The jobs of reports."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import combinations
from typing import Annotated, Literal

from pydantic import Field
from sqlalchemy import func, select

from bookshop.models import Order, Report
from bookshop.resources import SessionDep, open_database
from bookshop.settings import Settings
from fastapi_crons import JobGroup
from fastapi_crons.schedules import AnyOf

jobs = JobGroup(prefix="reports.", tags=["reports"], max_retries=2, retry_delay=30)


async def sales(region: Literal["eu", "us"], db: SessionDep, at_least: Annotated[int, Field(ge=0)] = 0) -> int:
    """What a region has sold, in cents, by orders of at least so many."""
    sold = select(func.coalesce(func.sum(Order.cents), 0)).where(Order.region == region, Order.cents >= at_least)
    cents = (await db.scalars(sold)).one()
    db.add(Report(region=region, cents=cents))
    return cents


jobs.cron("0 8 * * 1", name="sales_eu", timezone="Europe/Berlin", kwargs={"region": "eu"})(sales)
jobs.cron("0 8 * * 1", name="sales_us", timezone="America/New_York", kwargs={"region": "us"})(sales)


@jobs.cron(AnyOf("30 3 * * 1-5", "0 6 * * 6"), run_in="process", timeout=600)
async def bought_together(top: int = 3) -> list[tuple[str, str, int]]:
    """The pairs of books that most customers have. Keeps a processor busy, so it has a process and opens what it needs."""
    async with open_database(Settings()) as sessions, sessions() as db:
        orders = (await db.execute(select(Order.customer, Order.book))).tuples().all()
    books = defaultdict(set)
    for customer, book in orders:
        books[customer].add(book)
    pairs = Counter(pair for each in books.values() for pair in combinations(sorted(each), 2))
    return [(one, other, times) for (one, other), times in pairs.most_common(top)]
