"""Calls to a state store: each has a deadline, and whatever else a store raises becomes `StoreUnavailableError`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from fastapi_crons._util.exceptions import is_a
from fastapi_crons._util.hiding import as_cause
from fastapi_crons._util.tasks import is_cancellation
from fastapi_crons._util.text import one_line
from fastapi_crons.errors import CronsError, StoreUnavailableError

T = TypeVar("T")


async def answer_of(call: Awaitable[T], seconds: float, store: str = "the state store") -> T:
    """The answer of a store within so many seconds. Raises our own errors; any other becomes `StoreUnavailableError`."""
    try:
        return await asyncio.wait_for(call, seconds)
    except CronsError:
        raise
    except asyncio.TimeoutError:
        raise StoreUnavailableError(f"{store} gave no answer within {seconds:g} s") from None
    except BaseException as error:
        if is_cancellation(error) or is_a(error, (KeyboardInterrupt, SystemExit)):
            raise
        raise StoreUnavailableError(f"{store} failed: {one_line(error)}") from as_cause(error)
