"""Log records that are made inside a run, kept with it.

Records are seen where `logging` makes them, so that no logger, handler or level of the app has to be changed. They are
told to a run by a context variable, which the run's tasks and its thread inherit.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol

from fastapi_crons.outcome import cut
from fastapi_crons.run import LogLine

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    _Adapter = logging.LoggerAdapter[logging.Logger]
else:
    _Adapter = logging.LoggerAdapter

#: The logger that jobs find in their context.
JOB_LOGGER = "fastapi_crons.job"
_OWN = "fastapi_crons."
_FORMATTER = logging.Formatter()

current_log: ContextVar[LogKeeper | None] = ContextVar("fastapi_crons_run_log", default=None)


class LogKeeper(Protocol):
    """A run, whose log is made when it is wanted: most runs log nothing."""

    def keep_log(self) -> RunLog: ...


class RunLog:
    """The newest records of one run, up to `limit` characters."""

    __slots__ = ("_chars", "_limit", "_lines", "_lock", "closed", "dropped")

    def __init__(self, limit: int) -> None:
        self._limit = limit
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
        line = LogLine(record.created, record.levelname, record.name, cut(_text(record), self._limit // 2))
        with self._lock:
            if self.closed:
                return
            if self._lines is None:
                self._lines = deque()
            self._lines.append(line)
            self._chars += len(line.message)
            while self._chars > self._limit:
                self._chars -= len(self._lines.popleft().message)
                self.dropped += 1


class RunLogger(_Adapter):
    """The logger of one run: its records carry the run's fields, and are kept with it whatever the levels are set to.

    From level INFO up every record is kept with the run; the app's own handlers get what the levels let through.
    """

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        kwargs["extra"] = {**(self.extra or {}), **(kwargs.get("extra") or {})}
        return msg, kwargs

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        if self.isEnabledFor(level):
            super().log(level, msg, *args, **kwargs)
        elif level >= logging.INFO:
            # Making the record is enough for it to be kept.
            self.logger.makeRecord(self.logger.name, level, "", 0, msg, args, None, extra=self.extra)


class _Capture:
    """The record factory that keeps what is made inside runs, around the one that was there before."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __call__(self, *args: Any, **kwargs: Any) -> logging.LogRecord:
        record: logging.LogRecord = self.inner(*args, **kwargs)
        keeper = current_log.get()
        if keeper is not None and (record.name == JOB_LOGGER or not record.name.startswith(_OWN)):
            keeper.keep_log().add(record)
        return record


def capture_records() -> None:
    """See to it that records made inside runs are kept, from now on; costs others a look at a context variable."""
    if not isinstance(logging.getLogRecordFactory(), _Capture):
        logging.setLogRecordFactory(_Capture(logging.getLogRecordFactory()))


def _text(record: logging.LogRecord) -> str:
    try:
        text = record.getMessage()
    except Exception:
        text = f"{record.msg!r} with arguments that do not fit it"
    if record.exc_info and record.exc_info[0] is not None:
        try:
            text = f"{text}\n{_FORMATTER.formatException(record.exc_info)}"
        except Exception:
            text = f"{text}\n{record.exc_info[0].__name__}"
    return text
