"""The scheduler's log lines: visible where only a server has set up logging, and with the tracebacks of failed runs."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from fastapi_crons.outcome import printable

#: How much of a traceback goes into the log.
Tracebacks = Literal["full", "short", "off"]

_PACKAGE = "fastapi_crons"
#: The loggers of servers that set up their own, and no others.
_SERVERS = ("uvicorn", "gunicorn.error")
_FRAME = '  File "'
_OUR_FRAME = f"{_FRAME}{Path(__file__).parent}"


def adopt_server_handlers() -> None:
    """Under plain `uvicorn app:app` only the server's own loggers have handlers: use those, as long as nobody else cares."""
    package = logging.getLogger(_PACKAGE)
    server = next((found for name in _SERVERS if (found := logging.getLogger(name)).handlers), None)
    if server is None or package.hasHandlers():
        return
    for handler in server.handlers:
        package.addHandler(handler)
    if package.level == logging.NOTSET:
        package.setLevel(server.level or logging.INFO)


def log_error(
    logger: logging.Logger, traceback: str, message: str, *arguments: object, extra: Mapping[str, object]
) -> None:
    """Log an error with a traceback that is there as text, as it may be kept: `exc_info` would show what was redacted."""
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
    """As much of a traceback as is wanted in the log: all, the innermost frame, or nothing."""
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
