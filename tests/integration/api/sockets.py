"""What it takes to look at the sockets of this machine."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI

from fastapi_crons import Crons, get_cron_router

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="Linux lists its sockets in /proc/net")
#: Becomes another user when all is imported: where Python is installed, that user may not be let in.
BECOME = """
import encodings.idna, os, socket, sys, threading
user = int(sys.argv.pop(1))
if user != os.geteuid():
    os.setgroups([])
    os.setgid(user)
    os.setuid(user)
"""


#: Sends what it is given to a port, from wherever its user is told; or passes on whatever comes to a port of its own.
ASK = """
family, host, port, request = sys.argv[1:]
with socket.socket(getattr(socket, family)) as to:
    to.connect((host, int(port)))
    to.sendall(request.encode())
    while data := to.recv(65536):
        sys.stdout.buffer.write(data)
"""


def request_of(host: str, *headers: str, method: str = "POST", path: str = "/api/crons/job/run") -> str:
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", "Connection: close", *headers]
    return "\r\n".join([*lines, "", ""])


def as_user(user: int | None, code: str, *arguments: str) -> list[str]:
    """The command that runs code as a user, or as the own one."""
    return [sys.executable, "-c", BECOME + code, str(os.geteuid() if user is None else user), *arguments]


def ask(port: int, request: str, *, family: str = "AF_INET", host: str = "127.0.0.1", user: int | None = None) -> str:
    """The answer to a request of another process."""
    command = as_user(user, ASK, family, host, str(port), request)
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30, cwd="/").stdout


def status_of(answer: str) -> int:
    return int(answer.split()[1])


class Served:
    """A management API behind a real server, which listens on a socket of the test's choice."""

    def __init__(self, crons: Crons, listener: socket.socket) -> None:
        app = FastAPI()
        app.include_router(get_cron_router(crons), prefix="/api")
        self.listener = listener
        self.server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_level="critical", loop="asyncio"))
        self.task = asyncio.create_task(self.server.serve(sockets=[listener]))

    @property
    def port(self) -> int:
        port: int = self.listener.getsockname()[1]
        return port

    async def ask(self, request: str, **how: Any) -> str:
        return await asyncio.to_thread(ask, how.pop("port", self.port), request, **how)

    async def stop(self) -> None:
        self.server.should_exit = True
        await self.task


Serve = Callable[..., Any]
