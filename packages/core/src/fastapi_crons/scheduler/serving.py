"""Calls a function when this process has served an app for a while."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable
from types import FrameType

from fastapi_crons.clock import Timer

#: Seconds after the import of an app until it counts as served.
SERVES_AFTER = 10.0
_SERVERS = frozenset({"uvicorn", "gunicorn", "hypercorn", "granian", "daphne"})


def in_tests() -> bool:
    """Whether tests are running, which make schedulers and apps that are never served."""
    return "pytest" in sys.modules


def when_serving(call: Callable[[], object]) -> Timer | None:
    """Call this when the process has served for a while. None where no event loop is running and no server imports the app.

    A server that imports the app before its event loop is running gets a thread for the timer.
    """
    if in_tests():
        return None
    try:
        return asyncio.get_running_loop().call_later(SERVES_AFTER, call)
    except RuntimeError:
        if not _imported_by_a_server():
            return None
    timer = threading.Timer(SERVES_AFTER, call)
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
