"""Hears the signals that end a process: to stop in time, and to tell a real Ctrl-C from a job that raises one."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
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


class StopSignals:
    """Hears SIGTERM and SIGINT before the handlers that are there, which are called as ever.

    A server that waits for open responses ends its lifespan long after the signal, or never. Signals that nobody handles
    are left alone: they end the process by themselves.
    """

    def __init__(self, heard: Callable[[], object]) -> None:
        self._heard = heard
        self._before: dict[int, Callable[[int, FrameType | None], object]] = {}
        self._listening = True

    def start(self) -> None:
        if not _in_main_thread():
            return
        for number in (signal.SIGTERM, signal.SIGINT):
            before = signal.getsignal(number)
            if callable(before) and before is not signal.default_int_handler:
                self._before[number] = before
                signal.signal(number, self._hear)

    def stop(self) -> None:
        # Where somebody has put a handler over ours, ours stays, and only passes on.
        self._listening = False
        if not _in_main_thread():
            return
        for number, before in self._before.items():
            if signal.getsignal(number) == self._hear:
                signal.signal(number, before)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        try:
            if self._listening:
                self._heard()
        finally:
            self._before[number](number, frame)


def _in_main_thread() -> bool:
    """Signal handlers can be set in the main thread only."""
    return threading.current_thread() is threading.main_thread()
