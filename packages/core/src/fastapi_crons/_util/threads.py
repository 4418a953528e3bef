"""A bounded pool of daemon threads.

`concurrent.futures` waits for its threads when the process ends; a job that never returns would keep the process for
ever. These threads are daemons, named after their pool.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections import deque
from collections.abc import Callable
from typing import NamedTuple


class Ended(NamedTuple):
    """How a call in a thread ended. An exception is data here: a future refuses some of them, such as StopIteration."""

    value: object
    error: BaseException | None


class _Call(NamedTuple):
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Ended]
    context: contextvars.Context
    function: Callable[[], object]
    on_start: Callable[[], object] | None


class ThreadPool:
    """Runs functions in at most `size` threads, which are made when needed and end when idle for a while."""

    def __init__(self, size: int, name: str, idle_seconds: float = 30.0) -> None:
        self.size = size
        self._name = name
        self._idle_seconds = idle_seconds
        self._calls: deque[_Call] = deque()
        self._wake = threading.Condition()
        self._threads = 0
        self._idle = 0
        self._made = 0
        #: Calls that are running and were not left behind. The thread of one that was no longer counts, and ends with it.
        self._running: set[asyncio.Future[Ended]] = set()

    @property
    def waiting(self) -> int:
        """How many calls wait for a thread."""
        return len(self._calls) if len(self._running) >= self.size else 0

    def submit(
        self, function: Callable[[], object], on_start: Callable[[], object] | None = None
    ) -> asyncio.Future[Ended]:
        """Call the function in a thread, with a copy of the caller's context; the future gives how it ended.

        All threads may be taken: `on_start` is called in the one that becomes free, right before the function.
        """
        loop = asyncio.get_running_loop()
        call = _Call(loop, loop.create_future(), contextvars.copy_context(), function, on_start)
        with self._wake:
            self._calls.append(call)
            if self._idle >= len(self._calls):
                self._wake.notify()
            else:
                self._start_thread()
        return call.future

    def withdraw(self, future: asyncio.Future[Ended]) -> bool:
        """Cancel a call whose result is not wanted any more; False where a thread has started it."""
        with self._wake:
            for call in self._calls:
                if call.future is future:
                    self._calls.remove(call)
                    return True
        future.add_done_callback(lambda future: _close(future.result()))
        return False

    def leave_behind(self, future: asyncio.Future[Ended]) -> None:
        """Stop counting the thread of a call that hangs, so that a new one takes its place."""
        with self._wake:
            if future in self._running:
                self._running.discard(future)
                self._threads -= 1
                if self._calls:
                    self._start_thread()

    def _start_thread(self) -> None:
        if self._threads < self.size:
            self._threads += 1
            self._made += 1
            threading.Thread(target=self._work, name=f"{self._name}-{self._made}", daemon=True).start()

    def _work(self) -> None:
        while (call := self._next()) is not None:
            try:
                if call.on_start is not None:
                    call.on_start()
                ended = Ended(call.context.run(call.function), None)
            except BaseException as error:
                ended = Ended(None, error)
            try:
                call.loop.call_soon_threadsafe(_settle, call.future, ended)
            except RuntimeError:  # the loop is closed, and nothing waits for the result
                _close(ended)
            with self._wake:
                if call.future not in self._running:
                    return
                self._running.discard(call.future)
            # Nothing of a finished call may live on in an idle thread.
            del call, ended

    def _next(self) -> _Call | None:
        with self._wake:
            self._idle += 1
            try:
                while not self._calls:
                    if not self._wake.wait(self._idle_seconds) and not self._calls:
                        self._threads -= 1
                        return None
                call = self._calls.popleft()
                self._running.add(call.future)
                return call
            finally:
                self._idle -= 1


def _settle(future: asyncio.Future[Ended], ended: Ended) -> None:
    if not future.done():
        future.set_result(ended)


def _close(ended: Ended) -> None:
    """Close a coroutine that a call has returned, and that nobody will await."""
    if asyncio.iscoroutine(ended.value):
        ended.value.close()
