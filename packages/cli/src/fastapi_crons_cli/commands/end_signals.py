"""EndSignals: how a command of ours ends when its process is told to."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from types import FrameType

from fastapi_crons._util.os_signals import ENDING, Listener, default_handler, in_main_thread


class EndSignals(Listener):
    """For a program that is all ours: calls `on_signal` on the running event loop at the first SIGTERM or SIGINT.

    A second signal ends the process at once, without a traceback. After `stop`, signals do what they do in Python.
    """

    def __init__(self, on_signal: Callable[[int], object]) -> None:
        self._on_signal = on_signal
        self._received = False
        self._loop = asyncio.get_running_loop()

    def start(self) -> None:
        if in_main_thread():
            for number in ENDING:
                self.listen(number, self._handle)

    def stop(self) -> None:
        if in_main_thread():
            for number in ENDING:
                signal.signal(number, signal.SIG_DFL if self._received else default_handler(number))

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._received = True
        self.stop()
        self._loop.call_soon_threadsafe(self._on_signal, number)
