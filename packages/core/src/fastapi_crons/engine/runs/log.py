"""Log records that are made inside a run, kept with it.

Records are seen where `logging` makes them, so that no logger, handler or level of the app has to be changed. They are
told to a run by a context variable, which the run's tasks and its thread inherit; threads that a job makes by itself do
not, and what hooks log after a run comes too late for it.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from contextlib import suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol

from fastapi_crons._util.exceptions import exact_text, formatted
from fastapi_crons._util.text import cut, safe_text
from fastapi_crons.run import LogLine

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    _Adapter = logging.LoggerAdapter[logging.Logger]
else:
    _Adapter = logging.LoggerAdapter

#: The logger that jobs find in their context.
JOB_LOGGER = "fastapi_crons.job"
_OWN = "fastapi_crons."
_KEPT = "fastapi_crons_kept"
#: What a line costs beside its texts, in characters.
_LINE_COST = 40
#: What `cut` adds to a text, at most.
_CUT_MARK = 40

current_log: ContextVar[LogKeeper | None] = ContextVar("fastapi_crons_run_log", default=None)


class LogKeeper(Protocol):
    """A run, whose log is made when it is wanted: most runs log nothing."""

    def keep_log(self) -> RunLog: ...


class RunLog:
    """The newest records of one run, up to `limit` characters.

    `line_limit` is how much of one is held. What exceeds `longest_line(limit)` is held for redaction only: it does not count.
    """

    __slots__ = ("_chars", "_limit", "_line_limit", "_lines", "_lock", "closed", "dropped")

    def __init__(self, limit: int, line_limit: int) -> None:
        self._limit = limit
        self._line_limit = line_limit
        self._lines: deque[LogLine] | None = None
        self._chars = 0
        self._lock = threading.Lock()
        self.dropped = 0
        #: Whether the run is on record, so that what a thread it left behind logs comes too late.
        self.closed = False

    @property
    def lines(self) -> tuple[LogLine, ...]:
        """The records, oldest first."""
        with self._lock:
            return tuple(self._lines or ())

    def add(self, record: logging.LogRecord) -> None:
        """Keep a record; the oldest ones go where there is no room."""
        line = LogLine(record.created, record.levelname, record.name, cut(_text(record), self._line_limit))
        with self._lock:
            if self.closed:
                return
            if self._lines is None:
                self._lines = deque()
            self._lines.append(line)
            self._chars += self._size(line)
            while self._chars > self._limit:
                self._chars -= self._size(self._lines.popleft())
                self.dropped += 1

    def _size(self, line: LogLine) -> int:
        return _LINE_COST + len(line.logger) + min(len(line.message), longest_line(self._limit) + _CUT_MARK)


def longest_line(limit: int) -> int:
    """How much of one record is kept of a run whose log may have `limit` characters."""
    return limit // 2


class RunLogger(_Adapter):
    """The logger of one run: its records carry the run's fields beside those that the job gives."""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        kwargs["extra"] = {**(self.extra or {}), **(kwargs.get("extra") or {})}
        return msg, kwargs


class _JobLogger(logging.Logger):
    """Makes every record from level INFO up, so that it is kept with its run; handlers get what the levels let through."""

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 - logging's name
        return level >= logging.INFO or super().isEnabledFor(level)

    def handle(self, record: logging.LogRecord) -> None:
        if super().isEnabledFor(record.levelno):
            super().handle(record)


def job_logger() -> logging.Logger:
    """The logger named `fastapi_crons.job`."""
    found = logging.getLogger(JOB_LOGGER)
    if type(found) is logging.Logger:
        # `setLoggerClass` is the app's to set; this one logger of ours becomes what it is to be.
        found.__class__ = _JobLogger
    return found


class _Capture:
    """The record factory that keeps what is made inside runs, around the one that was there before."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __call__(self, *args: Any, **kwargs: Any) -> logging.LogRecord:
        record: logging.LogRecord = self.inner(*args, **kwargs)
        keeper = current_log.get()
        if keeper is not None and _is_wanted(record):
            # Two of these stand around each other where the app has put a factory of its own in between.
            record.__dict__[_KEPT] = True
            with suppress(Exception):
                keeper.keep_log().add(record)
        return record


def capture_records() -> None:
    """See to it that records made inside runs are kept, from now on; costs others a look at a context variable.

    An app that sets a record factory later has to call the one that was there, as `logging` advises.
    """
    if not isinstance(logging.getLogRecordFactory(), _Capture):
        logging.setLogRecordFactory(_Capture(logging.getLogRecordFactory()))


def _is_wanted(record: logging.LogRecord) -> bool:
    name = record.name or ""  # `logging.makeLogRecord` fills it in later
    ours = name.startswith(_OWN) and name != JOB_LOGGER and not name.startswith(f"{JOB_LOGGER}.")
    return bool(name) and not ours and _KEPT not in record.__dict__


def _text(record: logging.LogRecord) -> str:
    """A record's text, whatever the objects in it do when they are looked at."""
    try:
        text = exact_text(record.getMessage())
    except BaseException:
        text = f"{safe_text(record.msg, 1_000)} (with arguments that do not fit it)"
    error = record.exc_info[1] if record.exc_info else None
    return text if error is None else f"{text}\n{formatted(error)}"
