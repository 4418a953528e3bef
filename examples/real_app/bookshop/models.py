"""The tables."""

from __future__ import annotations

from sqlalchemy import ForeignKey
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """Knows all tables."""


class Order(Base):
    """One book for one customer."""

    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    region: Mapped[str]
    customer: Mapped[str]
    book: Mapped[str]
    cents: Mapped[int]
    status: Mapped[str] = mapped_column(default="paid")


class Parcel(Base):
    """An order that the carrier was told of."""

    __tablename__ = "parcels"

    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"))
    run_id: Mapped[str]


class Report(Base):
    """What a region has sold."""

    __tablename__ = "reports"

    id: Mapped[int] = mapped_column(primary_key=True)
    region: Mapped[str]
    cents: Mapped[int]
