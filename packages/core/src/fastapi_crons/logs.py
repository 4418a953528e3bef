"""Makes the scheduler's log lines visible where nobody has set up logging but a server."""

from __future__ import annotations

import logging

_PACKAGE = "fastapi_crons"
_SERVER = "uvicorn"


def adopt_server_handlers() -> None:
    """Under plain `uvicorn app:app` only the server's own loggers have handlers: use those, as long as nobody else cares."""
    package = logging.getLogger(_PACKAGE)
    server = logging.getLogger(_SERVER)
    if package.hasHandlers() or not server.handlers:
        return
    for handler in server.handlers:
        package.addHandler(handler)
    if package.level == logging.NOTSET:
        package.setLevel(server.level or logging.INFO)
