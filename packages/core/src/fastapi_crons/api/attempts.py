"""Slows down who guesses tokens."""

from __future__ import annotations

import ipaddress
from asyncio import sleep
from collections import Counter, OrderedDict, deque
from time import monotonic

from fastapi import HTTPException

from fastapi_crons.api.owners import ip_address

#: After so many wrong tokens from one address within so many seconds, answers to it are delayed by so many seconds.
WRONG = 10
WITHIN = 60.0
DELAY = 1.0
#: So many of its requests wait at a time; more are refused.
WAITING = 10
#: So many addresses are remembered, those that were wrong last.
ADDRESSES = 10_000


class Attempts:
    """Wrong tokens of late, by address; for IPv6 by network, as whoever has one address there has them all."""

    def __init__(self) -> None:
        self._wrong: OrderedDict[str, deque[float]] = OrderedDict()
        self._waiting: Counter[str] = Counter()

    async def wait(self, address: str) -> None:
        """Wait before a token from this address is looked at, where many were wrong; raises a 429 where many wait."""
        origin = _origin(address)
        if not self._is_slowed(origin):
            return
        # Whoever asks without waiting for the answers must not get more of them.
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
        """A wrong token came from this address."""
        origin = _origin(address)
        self._wrong.setdefault(origin, deque(maxlen=WRONG)).append(monotonic())
        self._wrong.move_to_end(origin)
        if len(self._wrong) > ADDRESSES:
            self._wrong.popitem(last=False)

    def _is_slowed(self, origin: str) -> bool:
        wrong = self._wrong.get(origin)
        return wrong is not None and len(wrong) == WRONG and monotonic() - wrong[0] < WITHIN


def _origin(address: str) -> str:
    found = ip_address(address)
    if isinstance(found, ipaddress.IPv6Address):
        return str(ipaddress.IPv6Network((found.packed, 128)).supernet(new_prefix=64))
    return address if found is None else str(found)
