"""Makes the scheduler's log lines visible where nobody has set up logging but a server."""

from __future__ import annotations

import logging

_PACKAGE = "fastapi_crons"
#: The loggers of servers that set up their own, and no others.
_SERVERS = ("uvicorn", "gunicorn.error")


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
