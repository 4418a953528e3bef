"""A folder with an app, and the command line as a process."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.programs import Program
from tests.system.cli.commands import APP, HARD, MODULE, Start


@pytest.fixture(autouse=True)
def _project() -> None:
    Path("main.py").write_text(APP)


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a command beside the test; what it writes is read when it has ended."""
    processes: list[subprocess.Popen[str]] = []

    def start(*arguments: str, **environment: str) -> subprocess.Popen[str]:
        process = Program(
            [*MODULE, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **environment},
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture
def hard() -> None:
    Path("main.py").write_text(HARD)
