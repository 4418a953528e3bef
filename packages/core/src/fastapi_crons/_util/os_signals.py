"""Handles the signals that end a process: to stop in time, and to tell a real Ctrl-C from a job that raises KeyboardInterrupt.

Handlers are set with `signal.signal`. An event loop's own (`add_signal_handler`) are woken through a pipe that a forked child
shares: a signal to the child would reach its parent.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from types import FrameType

from fastapi_crons._util.part import Part

Handler = Callable[[int, FrameType | None], object]

ENDING = (signal.SIGTERM, signal.SIGINT)


class Listener:
    """Handles signals by methods of its own. In a child that this process forks Python's default handlers take their place."""

    def listen(self, number: int, handler: Handler) -> None:
        """Make a method of this object the handler of a signal. In the main thread only."""
        _prepare_children()
        signal.signal(number, handler)


class InterruptWatch(Listener):
    """Notices SIGINT where Python's default handler would raise KeyboardInterrupt inside whatever is running.

    Servers and `asyncio.run` (Python 3.11 and newer) set handlers of their own, which are left alone.
    """

    def __init__(self) -> None:
        self.seen = False

    def start(self) -> None:
        if in_main_thread() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            self.listen(signal.SIGINT, self._notice)

    def stop(self) -> None:
        if in_main_thread() and signal.getsignal(signal.SIGINT) == self._notice:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def _notice(self, number: int, frame: FrameType | None) -> None:
        self.seen = True
        signal.default_int_handler(number, frame)


class StopSignals(Listener):
    """Notices SIGTERM and SIGINT, then calls the handlers that were set before.

    A server that waits for open responses ends its lifespan long after the signal, or never. Signals without a handler are
    left alone: they end the process by themselves.
    """

    def __init__(self, on_signal: Callable[[], object]) -> None:
        self._on_signal = on_signal
        self._before: dict[int, Callable[[int, FrameType | None], object]] = {}
        self._listening = True

    def start(self) -> None:
        if not in_main_thread():
            return
        for number in ENDING:
            before = signal.getsignal(number)
            if callable(before) and before is not signal.default_int_handler:
                self._before[number] = before
                self.listen(number, self._handle)

    def stop(self) -> None:
        # Where another handler was set over ours, ours stays, and only passes signals on.
        self._listening = False
        if not in_main_thread():
            return
        for number, before in self._before.items():
            if signal.getsignal(number) == self._handle:
                signal.signal(number, before)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        try:
            if self._listening:
                self._on_signal()
        finally:
            self._before[number](number, frame)


class Signals(Part):
    """The signals that concern a scheduler while it is started. Made on the loop that it runs on."""

    def __init__(self, *, watch_interrupts: bool) -> None:
        self.interrupts = InterruptWatch()
        self._watch_interrupts = watch_interrupts
        self._stop_signals: StopSignals | None = None
        self._loop = asyncio.get_running_loop()

    async def startup(self) -> None:
        if self._watch_interrupts:
            self.interrupts.start()

    def on_stop(self, call: Callable[[], object]) -> None:
        """Call this on the loop when the process gets a signal to end. It replaces an earlier call."""
        if self._stop_signals is not None:
            self._stop_signals.stop()
        self._stop_signals = StopSignals(lambda: self._loop.call_soon_threadsafe(call))
        self._stop_signals.start()

    @contextmanager
    def heeded(self, call: Callable[[], object]) -> Iterator[None]:
        """Call this on the loop when the process gets a signal to end meanwhile."""
        self.on_stop(call)
        try:
            yield
        finally:
            if self._stop_signals is not None:
                self._stop_signals.stop()

    async def shutdown(self, timeout: float) -> None:
        self.interrupts.stop()
        if self._stop_signals is not None:
            self._stop_signals.stop()


def in_main_thread() -> bool:
    """Signal handlers can be set in the main thread only."""
    return threading.current_thread() is threading.main_thread()


def default_handler(number: int) -> Handler | signal.Handlers:
    return signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL


def _ours() -> list[int]:
    """The signals whose handler is a listener of ours."""
    return [number for number in ENDING if isinstance(getattr(signal.getsignal(number), "__self__", None), Listener)]


_forking = threading.local()


@cache
def _prepare_children() -> None:
    """Make children that this process forks begin without our handlers."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_begin_as_child)


def _before_fork() -> None:
    # A child may be sent a signal before it has begun: the signal waits until the handlers are reset.
    _forking.masked = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING) if _ours() else None


def _after_fork() -> None:
    masked = getattr(_forking, "masked", None)
    if masked is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, masked)


def _begin_as_child() -> None:
    ours = _ours()
    with suppress(ValueError):  # in a subinterpreter
        if ours:
            # A signal to the child must not reach the event loop of its parent, whoever set the handler.
            signal.set_wakeup_fd(-1)
        for number in ours:
            signal.signal(number, signal.SIG_DFL)
        # A signal that has waited ends the child here: an exception would be lost, as nothing calls this.
        _after_fork()
        for number in ours:
            signal.signal(number, default_handler(number))
