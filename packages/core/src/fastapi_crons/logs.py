"""Log records: a filter and a formatter that show the run, tracebacks of failed runs, and the handlers of a server."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from fastapi_crons._util.text import printable
from fastapi_crons.clock import utc_datetime
from fastapi_crons.run import current_run, short_id

__all__ = ["JsonFormatter", "RunFilter"]

#: How much of a traceback goes into the log.
Tracebacks = Literal["full", "short", "off"]

_PACKAGE = "fastapi_crons"
#: The loggers of servers that set up their own, and no others.
_SERVERS = ("uvicorn", "gunicorn.error")
#: What was adopted from a server: its handlers, and the level that was set for them.
_adopted: list[logging.Handler] = []
_levels: list[int] = []
_FRAME = '  File "'
_OUR_FRAME = f"{_FRAME}{Path(__file__).parent}"
#: What a record says about its run: the one that it is about, or was made in.
_FIELDS = ("job", "run_id", "tick", "attempt")
#: What every record has, and what other libraries and we add for our own use.
_USUAL = {
    *vars(logging.makeLogRecord({})),
    *("message", "asctime", "taskName", "color_message", "fastapi_crons_kept", "of_run"),
}


class RunFilter(logging.Filter):
    """A filter for handlers: lets every record through, and adds the run that it is about, or was made in.

    Formats may then name `%(job)s`, `%(run_id)s`, `%(tick)s` and `%(attempt)s`, which are `-` where there is none, and
    `%(of_run)s`: a blank, the job and the end of the run's id in brackets, or nothing. A handler that hands records to another
    thread needs the filter before that.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Always true."""
        fields = _fields_of(record)
        job, run_id = fields.get("job"), fields.get("run_id")
        record.of_run = "" if job is None else f" [{job}{f' {short_id(str(run_id))}' if run_id else ''}]"
        for name in _FIELDS:
            value = fields.get(name)
            record.__dict__[name] = "-" if value is None else value
        return True


class JsonFormatter(logging.Formatter):
    """Each record as one line of JSON: `time` (UTC), `level`, `logger`, `message`, `job`, `run_id` and so on where it is about
    a run or was made in one, whatever else it was given as `extra`, and `exception` with the traceback.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        line: dict[str, Any] = {
            "time": utc_datetime(record.created).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: value for name, value in _fields_of(record).items() if value is not None}
        line |= {name: value for name, value in vars(record).items() if name not in _USUAL and name not in _FIELDS}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        elif record.exc_text:
            line["exception"] = record.exc_text
        if record.stack_info:
            line["stack"] = self.formatStack(record.stack_info)
        return json.dumps(line, default=str)


def _fields_of(record: logging.LogRecord) -> dict[str, object]:
    """What the record says itself, else what is known of the run that it was made in."""
    own = {name: value for name in _FIELDS if (value := record.__dict__.get(name)) not in (None, "-")}
    run = current_run.get()
    made_in = {} if run is None else run.log_fields
    # One run may log something about another one.
    return own if own.get("job", made_in.get("job")) != made_in.get("job") else {**made_in, **own}


def adopt_server_handlers() -> None:
    """Under plain `uvicorn app:app` only the server's own loggers have handlers: use those, unless the app set up logging."""
    package = logging.getLogger(_PACKAGE)
    for handler in _adopted:
        # They were adopted before the app set up logging, which it may have done since.
        package.removeHandler(handler)
    if _adopted and package.level == _levels.pop(0):
        package.setLevel(logging.NOTSET)
    _adopted.clear()
    server = next((found for name in _SERVERS if (found := logging.getLogger(name)).handlers), None)
    if server is None or package.hasHandlers():
        return
    for handler in server.handlers:
        package.addHandler(handler)
        _adopted.append(handler)
    if package.level == logging.NOTSET:
        package.setLevel(server.level or logging.INFO)
        _levels[:] = [package.level]
    else:
        _levels[:] = [logging.NOTSET]


def log_error(
    logger: logging.Logger, traceback: str, message: str, *arguments: object, extra: Mapping[str, object]
) -> None:
    """Log an error with a traceback that is given as text: `exc_info` would show what was redacted."""
    if not logger.isEnabledFor(logging.ERROR):
        return
    caller = sys._getframe(1)
    code = caller.f_code
    record = logger.makeRecord(
        logger.name, logging.ERROR, code.co_filename, caller.f_lineno, message, arguments, None, code.co_name, extra
    )
    if traceback:
        # Indented, so that no line of an error's text looks like a record of its own.
        record.exc_text = "\n".join(f"  {printable(line.expandtabs())}" for line in traceback.splitlines())
    logger.handle(record)


def shortened(traceback: str, how: Tracebacks) -> str:
    """The part of a traceback that goes into the log: all of it, the innermost frame, or nothing."""
    if how == "short":
        lines = traceback.splitlines()
        innermost = max((number for number, line in enumerate(lines) if line.startswith(_FRAME)), default=0)
        return "\n".join(lines[innermost:])
    return traceback if how == "full" else ""


def without_our_frames(traceback: str) -> str:
    """A traceback that begins where the scheduler called the job's function."""
    kept: list[str] = []
    leading = dropping = False
    for line in traceback.splitlines(keepends=True):
        if line.startswith("Traceback "):
            leading, dropping = True, False
        elif line.startswith(_FRAME):
            dropping = leading and line.startswith(_OUR_FRAME)
            leading = dropping
        elif not line.startswith("    "):  # what a frame shows of its source is indented more deeply
            dropping = False
        if not dropping:
            kept.append(line)
    shown = "".join(kept)
    return shown if _FRAME in shown else traceback
