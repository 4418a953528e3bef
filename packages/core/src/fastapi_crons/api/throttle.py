"""Throttle: slows down clients that guess tokens."""

from __future__ import annotations

import ipaddress
from asyncio import sleep
from collections import Counter, OrderedDict, deque
from time import monotonic

from fastapi import HTTPException

from fastapi_crons.api.owners import ip_address

#: After this many wrong tokens from an address within this many seconds, each answer to it is delayed by this many seconds.
WRONG = 10
WITHIN = 60.0
DELAY = 1.0
#: How many requests of an address may wait at a time; more are refused.
WAITING = 10
#: How many addresses are remembered, those with the latest wrong tokens.
ADDRESSES = 10_000


class Throttle:
    """Recent wrong tokens by address; for IPv6 by network of 64 bits, whose addresses all belong to one client."""

    def __init__(self) -> None:
        self._wrong: OrderedDict[str, deque[float]] = OrderedDict()
        self._waiting: Counter[str] = Counter()

    async def wait(self, address: str) -> None:
        """Delay a token from an address with many wrong ones; raises a 429 where many of its requests wait already."""
        origin = _origin(address)
        wrong = self._wrong.get(origin)
        if wrong is None or len(wrong) < WRONG or monotonic() - wrong[0] >= WITHIN:
            return
        # A client must not get more answers by sending requests in parallel.
        if self._waiting[origin] >= WAITING:
            raise HTTPException(429, "too many wrong tokens came from this address", {"Retry-After": f"{DELAY:.0f}"})
        self._waiting[origin] += 1
        try:
            await sleep(DELAY)
        finally:
            self._waiting[origin] -= 1
            if not self._waiting[origin]:
                del self._waiting[origin]

    def was_wrong(self, address: str) -> None:
        origin = _origin(address)
        self._wrong.setdefault(origin, deque(maxlen=WRONG)).append(monotonic())
        self._wrong.move_to_end(origin)
        if len(self._wrong) > ADDRESSES:
            self._wrong.popitem(last=False)


def _origin(address: str) -> str:
    found = ip_address(address)
    if isinstance(found, ipaddress.IPv6Address):
        return str(ipaddress.IPv6Network((found.packed, 128)).supernet(new_prefix=64))
    return address if found is None else str(found)
