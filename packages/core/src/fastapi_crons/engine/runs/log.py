"""Stores with each run what was logged during it.

A record factory sees every record, so that no logger, handler or level of the app has to be changed. A context variable says
which run a record belongs to. The run's tasks and its thread inherit it; threads that a job starts by itself do not. What
hooks log after a run comes too late for its record.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fastapi_crons._util.exceptions import exact_text, formatted
from fastapi_crons._util.text import cut, safe_text
from fastapi_crons.run import LogLine, current_run

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping

    from fastapi_crons.clock import Clock

    _Adapter = logging.LoggerAdapter[logging.Logger]
else:
    _Adapter = logging.LoggerAdapter

#: The logger that jobs find in their context.
JOB_LOGGER = "fastapi_crons.job"
_OWN = "fastapi_crons."
_KEPT = "fastapi_crons_kept"
#: How many characters a line counts for besides its texts.
_LINE_COST = 40
#: How many characters `cut` adds to a text at most.
_CUT_MARK = 40


class RunLog:
    """The newest records of one run, up to `limit` characters in all and `line_limit` for each.

    What a record has beyond `longest_line(limit)` is held for redaction only, and does not count. `redact` is called once for
    each text before it leaves; `on_growth` for each record, in its thread.
    """

    __slots__ = (
        "_chars",
        "_clock",
        "_closed",
        "_dropped",
        "_limit",
        "_line_limit",
        "_lines",
        "_lock",
        "_on_growth",
        "_redact",
        "_redacted",
        "_sizes",
    )

    def __init__(
        self,
        limit: int,
        line_limit: int,
        redact: Callable[[str], str] | None,
        clock: Clock,
        on_growth: Callable[[], None],
    ) -> None:
        self._limit, self._line_limit = limit, line_limit
        self._redact, self._clock, self._on_growth = redact, clock, on_growth
        self._lines: deque[LogLine] = deque()
        self._sizes: deque[int] = deque()
        self._chars = self._dropped = 0
        #: How many records, of all there were, have been redacted.
        self._redacted = 0
        self._lock = threading.Lock()
        self._closed = False

    @property
    def chars(self) -> int:
        """About how many characters it has."""
        return self._chars

    @property
    def total(self) -> int:
        """How many records there were, those that were dropped included."""
        return self._dropped + len(self._lines)

    def close(self) -> None:
        """The run is on record: what its abandoned thread logs from now on comes too late."""
        with self._lock:
            self._closed = True

    def add(self, record: logging.LogRecord) -> None:
        """Keep a record; the oldest ones are dropped where there is no room."""
        # Records of other processes come with a delay, and none of those has a virtual clock.
        made = self._clock.now() if record.process == os.getpid() else record.created
        line = LogLine(made, record.levelname, record.name, cut(record_text(record), self._line_limit))
        with self._lock:
            if self._closed:
                return
            self._lines.append(line)
            self._sizes.append(self._size(line))
            self._chars += self._sizes[-1]
            while self._chars > self._limit:
                self._lines.popleft()
                self._chars -= self._sizes.popleft()
                self._dropped += 1
        self._on_growth()

    def read(self) -> tuple[tuple[LogLine, ...], int]:
        """The records as they may be stored and shown, oldest first, and how many earlier ones did not fit."""
        with self._lock:
            lines, dropped = [*self._lines], self._dropped
        if self._redact is not None:
            # Without the lock: a hook may log, too.
            first = max(self._redacted - dropped, 0)
            lines[first:] = [replace(line, message=self._redact(line.message)) for line in lines[first:]]
            with self._lock:
                for number in range(max(dropped + first, self._dropped), dropped + len(lines)):
                    self._lines[number - self._dropped] = lines[number - dropped]
                self._redacted = dropped + len(lines)
        return tuple(lines), dropped

    def _size(self, line: LogLine) -> int:
        return _LINE_COST + len(line.logger) + min(len(line.message), longest_line(self._limit) + _CUT_MARK)


def longest_line(limit: int) -> int:
    """How many characters of one record are kept, where a run's log may have `limit`."""
    return limit // 2


class RunLogger(_Adapter):
    """The logger of one run: its records have the run's fields, besides those that the job gives."""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        kwargs["extra"] = {**(self.extra or {}), **(kwargs.get("extra") or {})}
        return msg, kwargs


class _JobLogger(logging.Logger):
    """Makes every record from level INFO up, to keep it with its run; handlers get those that the app's levels allow."""

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 - logging's name
        return level >= logging.INFO or super().isEnabledFor(level)

    def handle(self, record: logging.LogRecord) -> None:
        if super().isEnabledFor(record.levelno):
            super().handle(record)


def job_logger() -> logging.Logger:
    """The logger named `fastapi_crons.job`."""
    found = logging.getLogger(JOB_LOGGER)
    if type(found) is logging.Logger:
        # `setLoggerClass` is the app's to call: this one logger changes its class instead.
        found.__class__ = _JobLogger
    return found


class _Capture:
    """A record factory around the one that was set before: it keeps the records that are made inside runs."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __call__(self, *args: Any, **kwargs: Any) -> logging.LogRecord:
        record: logging.LogRecord = self.inner(*args, **kwargs)
        run = current_run.get()
        if run is not None and _is_wanted(record):
            # A second `_Capture` is around this one where the app has put a factory of its own in between.
            record.__dict__[_KEPT] = True
            with suppress(Exception):
                run.keep_record(record)
        return record


def capture_records() -> None:
    """From now on keep the records that are made inside runs. Other records cost a look at a context variable.

    An app that sets a record factory later has to call the one that was there, as `logging` advises.
    """
    if not isinstance(logging.getLogRecordFactory(), _Capture):
        logging.setLogRecordFactory(_Capture(logging.getLogRecordFactory()))


def _is_wanted(record: logging.LogRecord) -> bool:
    name = record.name or ""  # `logging.makeLogRecord` fills it in later
    ours = name.startswith(_OWN) and name != JOB_LOGGER and not name.startswith(f"{JOB_LOGGER}.")
    return bool(name) and not ours and _KEPT not in record.__dict__


def record_text(record: logging.LogRecord) -> str:
    """A record's text, even where formatting the objects in it fails."""
    try:
        text = exact_text(record.getMessage())
    except BaseException:
        text = f"{safe_text(record.msg, 1_000)} (with arguments that do not fit it)"
    error = record.exc_info[1] if record.exc_info else None
    return text if error is None else f"{text}\n{formatted(error)}"


def relay(fields: Mapping[str, object]) -> None:
    """Keep a record that was made in another process with the run, and give it to the handlers of its logger here."""
    record = logging.makeLogRecord(dict(fields))
    run = current_run.get()
    if run is not None:
        with suppress(Exception):
            run.keep_record(record)
    found = logging.getLogger(record.name)
    if found.isEnabledFor(record.levelno):
        found.handle(record)
