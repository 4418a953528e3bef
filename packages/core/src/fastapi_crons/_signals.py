"""Tells a real Ctrl-C from a job that raises KeyboardInterrupt by itself."""

from __future__ import annotations

import signal
import threading
from types import FrameType


class InterruptWatch:
    """Notices SIGINT where Python's default handler would raise KeyboardInterrupt inside whatever is running.

    Servers and `asyncio.run` (Python 3.11 and newer) bring handlers of their own, which are left alone.
    """

    def __init__(self) -> None:
        self.seen = False

    def start(self) -> None:
        if _in_main_thread() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self._notice)

    def stop(self) -> None:
        if _in_main_thread() and signal.getsignal(signal.SIGINT) == self._notice:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def _notice(self, number: int, frame: FrameType | None) -> None:
        self.seen = True
        signal.default_int_handler(number, frame)


def _in_main_thread() -> bool:
    """Signal handlers can be set in the main thread only."""
    return threading.current_thread() is threading.main_thread()
