"""Processes: calls functions in child processes, which can be ended whatever they do."""

from __future__ import annotations

import asyncio
import contextvars
import io
import json
import logging
import os
import pickle
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from anyio import BrokenWorkerProcess, CapacityLimiter, to_process

from fastapi_crons.engine.runs.child import BEGINS, Answer, Parts, Task, Variable, carry_out, reports_in
from fastapi_crons.errors import ProcessError

#: How often (seconds) a child's reports are read: until it begins, and after that.
_LOOK_FOR_BEGIN = 0.02
_LOOK = 0.25

Report = Mapping[str, object]


class Processes:
    """Calls functions in at most `size` child processes at a time, which are kept for the next calls."""

    def __init__(self, size: int, max_result_bytes: int) -> None:
        self._size = size
        self._max_result_bytes = max_result_bytes
        self._limiter: CapacityLimiter | None = None
        #: Where context variables were found; None for one that no module has.
        self._places: dict[contextvars.ContextVar[object], tuple[str, str] | None] = {}

    async def call(
        self,
        function: Callable[..., object],
        arguments: Mapping[str, object],
        on_begin: Callable[[], None],
        on_log: Callable[[Report], None],
    ) -> object:
        """Call a function in a child, with the context variables that can be pickled; returns what it returned, as JSON has it.

        `on_begin` is called when the function begins, `on_log` with the fields of each record that it logs. A caller that is
        cancelled ends the child. Raises what the function raises; `ProcessError` where that error or the call can't be
        pickled, and where the child dies.
        """
        if self._limiter is None:
            self._limiter = CapacityLimiter(self._size)
        async with self._limiter:
            reports = _Reports(on_begin, on_log)
            try:
                answer = await self._carry_out(function, arguments, reports)
            except BaseException:
                reports.close()
                reports.end_group()
                raise
            reports.close()
        if answer.failed:
            raise _error_of(answer) from _RemoteTracebackError(answer.traceback)
        return None if answer.result is None else json.loads(answer.result)

    async def _carry_out(
        self, function: Callable[..., object], arguments: Mapping[str, object], reports: _Reports
    ) -> Answer:
        task = Task(
            function,
            arguments,
            tuple(self._variables()),
            reports.path,
            logging.getLogger().level,
            os.getpid(),
            self._max_result_bytes,
        )
        try:
            pickled = pickle.dumps(task)
        except Exception as error:
            raise ProcessError(f"the call can't be passed to another process: {error}") from None
        following = asyncio.create_task(reports.follow())
        # The limit of processes is ours.
        call = to_process.run_sync(carry_out, pickled, cancellable=True, limiter=CapacityLimiter(1))
        try:
            return await _uninterrupted_start(asyncio.create_task(call), reports, following)
        except BrokenWorkerProcess as error:
            raise ProcessError("the process of the run died before the function had ended") from error
        finally:
            following.cancel()

    def _variables(self) -> list[Variable]:
        found = []
        for variable, value in contextvars.copy_context().items():
            place = self._place_of(variable)
            if place is not None:
                with suppress(Exception):  # a value that belongs to this process
                    found.append(Variable(*place, pickle.dumps(value)))
        return found

    def _place_of(self, variable: contextvars.ContextVar[object]) -> tuple[str, str] | None:
        """The module and the name of a context variable of the app, by which a child finds its own one."""
        if variable not in self._places:
            self._places[variable] = next(
                (
                    (module_name, name)
                    for module_name, module in list(sys.modules.items())
                    if not module_name.startswith(_OWN)
                    for name, value in list(getattr(module, "__dict__", {}).items())
                    if value is variable
                ),
                None,
            )
        return self._places[variable]


_OWN = ("fastapi_crons.", "anyio", "asyncio", "sniffio", "starlette")


class _Reports:
    """What one child reports, read from a file: it is there even where the child was ended."""

    def __init__(self, on_begin: Callable[[], None], on_log: Callable[[Report], None]) -> None:
        handle, self.path = tempfile.mkstemp(prefix="fastapi-crons-")
        self._file = os.fdopen(handle, "rb")
        self._on_begin, self._on_log = on_begin, on_log
        self._unread = b""
        self._pid: int | None = None
        #: Done when the function begins.
        self.begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def follow(self) -> None:
        """Pass on what is reported, until this is cancelled."""
        while True:
            await asyncio.sleep(_LOOK_FOR_BEGIN if self._pid is None else _LOOK)
            self._read()

    def close(self) -> None:
        """Pass on what is left, and remove the file."""
        with suppress(Exception):  # half of a report, of a child that was ended
            self._read()
        self._file.close()
        self.remove()

    def remove(self) -> None:
        """Remove the file. A child that has not opened it does not call the function."""
        with suppress(OSError):
            os.remove(self.path)

    def end_group(self) -> None:
        """End what the child has started: it is in the child's process group."""
        if self._pid is not None and hasattr(os, "killpg"):
            with suppress(OSError):  # there is nothing left
                os.killpg(self._pid, signal.SIGKILL)

    def _read(self) -> None:
        self._unread += self._file.read()
        found, length = reports_in(self._unread)
        self._unread = self._unread[length:]
        for report in found:
            pid = report.get(BEGINS)
            if not isinstance(pid, int):
                self._on_log(report)
            elif self._pid is None:
                self._pid = pid
                self.begun.set_result(None)
                self._on_begin()


async def _uninterrupted_start(call: asyncio.Task[Answer], reports: _Reports, following: asyncio.Task[None]) -> Answer:
    """What a call in a child returns.

    A cancellation lets a child start, and keeps it from calling the function: anyio forgets a child that it does not see start.
    """
    cut = False
    while not call.done():
        waits: tuple[asyncio.Future[Any], ...] = (call,)
        if cut and (reports.begun.done() or following.done()):
            call.cancel()
        elif cut:
            reports.remove()
            waits = (call, reports.begun, following)
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            cut = True
    if cut and not call.cancelled():
        call.exception()  # of interest to nobody any more
        raise asyncio.CancelledError
    return call.result()


class _RemoteTracebackError(Exception):
    """The traceback of an error in a child, as the cause of that error here."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f"\n{self.text}"


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> object:
        # What a script defines is in `__mp_main__` in a child.
        return super().find_class("__main__" if module == "__mp_main__" else module, name)


def _error_of(answer: Answer) -> BaseException:
    error: object = None
    if answer.error is not None:
        with suppress(Exception):
            error = _Unpickler(io.BytesIO(answer.error)).load()
            if isinstance(error, Parts):
                kind, args, values = error
                error = kind.__new__(kind, *args)
                vars(error).update(values)
    if not isinstance(error, BaseException):
        error = ProcessError(f"{answer.error_type}: {answer.error_message}")
    return error
