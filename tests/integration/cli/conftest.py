"""Commands of the command line, in this process, on apps in the current folder and on real SQLite files."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from fastapi_crons.testing import reset
from fastapi_crons_cli.main import app as cli
from tests.integration.cli.commands import APP, Cli
from tests.support import without_progress


@pytest.fixture(autouse=True)
def _fresh_imports(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every test has modules of its own, whatever their names."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield
    for name in ("main", "app", "app.main", "factory", "worker"):
        if name not in before:
            sys.modules.pop(name, None)


@pytest.fixture
def fastapi_crons() -> Cli:
    """Runs a command as a process of its own would."""

    def call(*arguments: str, input: str | None = None) -> Result:
        reset()
        importlib.invalidate_caches()
        for name in ("main", "app", "app.main", "factory", "worker"):
            sys.modules.pop(name, None)
        result = CliRunner().invoke(cli, arguments, input=input)
        result.stderr_bytes = without_progress(result.stderr).encode()
        return result

    return call


@pytest.fixture
def project() -> Path:
    """A folder with an app in main.py."""
    path = Path("main.py")
    path.write_text(APP)
    return path
