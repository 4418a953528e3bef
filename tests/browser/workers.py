"""The app under several workers, each of which serves it on an address of its own too: nobody can choose a worker of theirs."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from uvicorn import Config, Server

from tests.browser.app import app as site

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

PORTS = "*.port"
#: What serves beside the worker's own server.
_beside: set[asyncio.Task[None]] = set()


class _Beside(Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # they are for the worker's own server


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        listening = socket.create_server(("127.0.0.1", 0))
        server = _Beside(Config(site, lifespan="off", log_level="warning"))
        _beside.add(asyncio.create_task(server.serve([listening])))
        Path(PORTS.replace("*", str(os.getpid()))).write_text(str(listening.getsockname()[1]))
    await site(scope, receive, send)
