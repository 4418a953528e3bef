"""The endpoints of orders."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel

from bookshop.models import Order
from bookshop.resources import SessionDep

router = APIRouter(prefix="/orders", tags=["orders"])


class NewOrder(BaseModel):
    """What a customer sends."""

    region: Literal["eu", "us"]
    customer: str
    book: str
    cents: int


@router.post("", status_code=201)
async def place(order: NewOrder, db: SessionDep) -> None:
    """Place an order."""
    db.add(Order(**order.model_dump()))
