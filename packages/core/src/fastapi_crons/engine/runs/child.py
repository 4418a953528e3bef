"""What runs in a child process: one call of a job's function. Imports little, since each child imports it."""

from __future__ import annotations

import asyncio
import contextvars
import importlib
import inspect
import logging
import os
import pickle
import signal
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NamedTuple

from fastapi_crons._util.os_signals import Listener

#: How often (seconds) a child looks whether its parent is alive.
_LOOK_FOR_PARENT = 1.0
_LENGTH = struct.Struct("!I")
#: The key of the first report.
BEGINS = "begins"
_SIMPLE = (str, int, float, bool, type(None))


class Variable(NamedTuple):
    """A context variable, by where it is found, and its value, pickled."""

    module: str
    name: str
    value: bytes


class Task(NamedTuple):
    """What a child is to do."""

    function: Callable[..., object]
    arguments: Mapping[str, object]
    variables: tuple[Variable, ...]
    reports: str
    """The file to which the child writes that it begins, and what is logged."""
    log_level: int
    """The root logger's level in the parent."""
    parent: int
    """Its process id."""
    max_result_bytes: int


class Parts(NamedTuple):
    """An error that can't be pickled as it is, since its class takes other arguments than it keeps."""

    kind: type[BaseException]
    args: tuple[object, ...]
    values: Mapping[str, object]


class Answer(NamedTuple):
    """How the call ended. A result is JSON text; an error is pickled, where it can be."""

    result: str | None = None
    failed: bool = False
    error: bytes | None = None
    error_type: str = ""
    error_message: str = ""
    traceback: str = ""


def carry_out(pickled: bytes) -> Answer:
    """Call the function of a pickled `Task`. Raises nothing."""
    try:
        task: Task = pickle.loads(pickled)
        _heed_only(task.parent)
        # Where the file is gone, the run was cut off before it began.
        with open(task.reports, "ab", buffering=0, opener=_existing) as file, _own_streams():
            report = _Report(file.write)
            report.begins()
            return contextvars.copy_context().run(_called, task, report)
    except BaseException as error:
        return _failure(error)


def _existing(path: str, flags: int) -> int:
    return os.open(path, flags & ~os.O_CREAT)


class _Report:
    """Writes what is logged to the file of reports; stands for the run's log."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write
        self._lock = threading.Lock()

    def begins(self) -> None:
        self._send({BEGINS: os.getpid()})

    @property
    def log_fields(self) -> dict[str, object]:
        """The parent adds them."""
        return {}

    def keep_record(self, record: logging.LogRecord) -> None:
        from fastapi_crons.engine.runs.log import record_text

        fields = {key: value for key, value in record.__dict__.items() if isinstance(value, _SIMPLE)}
        self._send({**fields, "msg": record_text(record), "args": None, "exc_info": None, "exc_text": None})

    def _send(self, fields: dict[str, object]) -> None:
        frame = pickle.dumps(fields)
        with self._lock, suppress(OSError):
            self._write(_LENGTH.pack(len(frame)) + frame)


def reports_in(data: bytes) -> tuple[list[dict[str, object]], int]:
    """The reports that are whole in what was read, and how many bytes they take.

    The first one has the child's process id under `BEGINS`, the others the fields of a log record.
    """
    found: list[dict[str, object]] = []
    at = 0
    while len(data) >= at + _LENGTH.size:
        (length,) = _LENGTH.unpack_from(data, at)
        end = at + _LENGTH.size + length
        if end > len(data):
            break
        found.append(pickle.loads(data[at + _LENGTH.size : end]))
        at = end
    return found, at


def _called(task: Task, report: _Report) -> Answer:
    from fastapi_crons.engine.runs.log import capture_records
    from fastapi_crons.engine.runs.result_json import drained, result_json
    from fastapi_crons.run import current_run

    capture_records()
    logging.getLogger().setLevel(task.log_level)
    current_run.set(report)
    _set(task.variables)

    async def awaited(value: object) -> str | None:
        value = await value if inspect.isawaitable(value) else value
        return None if value is None else await result_json(value, task.max_result_bytes)

    try:
        return Answer(asyncio.run(awaited(drained(task.function(**task.arguments), task.max_result_bytes))))
    except BaseException as error:
        return _failure(error)


def _set(variables: Iterable[Variable]) -> None:
    for variable in variables:
        with suppress(Exception):  # one that this process can't have
            found: contextvars.ContextVar[object] = getattr(importlib.import_module(variable.module), variable.name)
            found.set(pickle.loads(variable.value))


def _failure(error: BaseException) -> Answer:
    from fastapi_crons._util.text import safe_text, traceback_text, type_name

    pickled = None
    for form in (lambda: error, lambda: Parts(type(error), error.args, _picklable(vars(error)))):
        with suppress(BaseException):
            pickled = pickle.dumps(form())
            pickle.loads(pickled)  # some can be written and not read
            break
    else:
        pickled = None
    return Answer(None, True, pickled, type_name(error), safe_text(error, 10_000), traceback_text(error, 10_000))


def _picklable(values: Mapping[str, object]) -> dict[str, object]:
    kept = {}
    for name, value in values.items():
        with suppress(Exception):
            pickle.loads(pickle.dumps(value))
            kept[name] = value
    return kept


@contextmanager
def _own_streams() -> Iterator[None]:
    """Keep the function, and what it starts, from the pipes by which this process hears of calls and answers them."""
    kept = [(number, os.dup(number)) for number in (0, 1, 2)]
    nowhere = os.open(os.devnull, os.O_RDWR)
    try:
        for number, _ in kept:
            os.dup2(nowhere, number)
        yield
    finally:
        with suppress(Exception):
            if sys.__stdout__ is not None:
                sys.__stdout__.flush()
        for number, pipe in kept:
            os.dup2(pipe, number)
            os.close(pipe)
        os.close(nowhere)


def _heed_only(parent: int) -> None:
    """Leave the signals of a terminal or a service manager to the parent, which ends this process; end with the parent.

    What the job starts is in the same process group, and ends with a run that is cut off.
    """
    if hasattr(os, "setpgid"):
        with suppress(OSError):
            os.setpgid(0, 0)
    _deaf.begin()
    if not any(thread.name == _Watch.NAME for thread in threading.enumerate()):
        _Watch(parent).start()


class _Deaf(Listener):
    """Does nothing at SIGINT and SIGTERM. Unlike `SIG_IGN`, that is not inherited by the children of a job."""

    def begin(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            self.listen(number, self._ignore)

    def _ignore(self, number: int, frame: FrameType | None) -> None: ...


_deaf = _Deaf()


class _Watch(threading.Thread):
    NAME = "fastapi-crons-parent"

    def __init__(self, parent: int) -> None:
        super().__init__(name=self.NAME, daemon=True)
        self._parent = parent

    def run(self) -> None:
        while os.getppid() == self._parent:
            time.sleep(_LOOK_FOR_PARENT)
        if hasattr(os, "killpg"):
            os.killpg(os.getpgrp(), signal.SIGKILL)
        os._exit(1)
