"""A real uvicorn process in the current folder, and what its jobs wrote down themselves."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

from tests.programs import Program


class Server:
    """`uvicorn app:app` in the current folder, on a free port or on this one. Its output goes to `server.log`."""

    def __init__(self, *options: str, app: str = "app:app", port: int = 0) -> None:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        # By default a worker that has not answered for 5 s, on a machine that is busy, is killed.
        patient = ("--timeout-worker-healthcheck", "60")
        command = [sys.executable, "-m", "uvicorn", app, "--port", str(self.port), *patient, *options]
        with Path("server.log").open("a") as log:
            self.process = Program(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)

    @property
    def is_listening(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(f"{self.url}{path}", timeout=30) as answer:
            return json.load(answer)

    def post(self, path: str, body: object) -> Any:
        headers = {"content-type": "application/json"}
        request = urllib.request.Request(f"{self.url}{path}", json.dumps(body).encode(), headers, method="POST")
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def runs(self, job: str) -> list[dict[str, Any]]:
        """A job's runs, oldest first; none while the server does not answer."""
        try:
            return list(reversed(self.get(f"/api/crons/{job}/runs?limit=200")["runs"]))
        except OSError:
            return []

    def output(self) -> str:
        return Path("server.log").read_text()

    def end(self, with_signal: int = signal.SIGTERM) -> int:
        """Send a signal and wait for the end; returns the exit code."""
        self.process.send_signal(with_signal)
        return self.process.wait(30)

    def kill(self) -> None:
        """End it and all that it has started, whatever they do."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(30)


def truth(job: str) -> list[list[str]]:
    """What the jobs themselves wrote down: event, pid, time."""
    lines = Path("truth.txt").read_text().splitlines() if Path("truth.txt").exists() else []
    return [line.split()[1:] for line in lines if line.split()[0] == job]
