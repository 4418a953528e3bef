"""Whether this process serves, and a look at something once it has for a while."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Protocol

#: How long (seconds) after its import an app is taken for one that serves.
SERVES_AFTER = 10.0
_SERVERS = frozenset({"uvicorn", "gunicorn", "hypercorn", "granian", "daphne"})


class Cancellable(Protocol):
    """A look that is to come."""

    def cancel(self) -> object: ...


def in_tests() -> bool:
    """Whether tests run here: they make schedulers and apps that are never to serve."""
    return "pytest" in sys.modules


def when_serving(look: Callable[[], object]) -> Cancellable | None:
    """Call this when the process has served for a while; None where nothing says that it is about to.

    A server imports the app on its event loop, or before that: then it takes a thread of its own, for want of a loop.
    """
    if in_tests():
        return None
    try:
        return asyncio.get_running_loop().call_later(SERVES_AFTER, look)
    except RuntimeError:
        if not _imported_by_a_server():
            return None
    timer = threading.Timer(SERVES_AFTER, look)
    timer.daemon = True
    timer.start()
    return timer


def _imported_by_a_server() -> bool:
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if str(frame.f_globals.get("__name__", "")).partition(".")[0] in _SERVERS:
            return True
        frame = frame.f_back
    return False
