"""The guides for authors of plugins, followed word for word in a fresh environment: files, commands, and what they print.

Until they are released, our own distributions come from wheels.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.system.conftest import ROOT
from tests.system.pages.pages import agrees, blocks


class Shell:
    """One shell for all commands of a page: it keeps its variables, and the environment that was activated."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            ["bash"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            bufsize=1,
            env=environment,
        )

    def run(self, command: str) -> str:
        """Run a command; returns what it prints. Raises `AssertionError` where it fails."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        end = f"end-{secrets.token_hex(8)}"
        self._process.stdin.write(f"{{ {command}\n}} </dev/null\necho {end} $?\n")
        printed: list[str] = []
        for line in self._process.stdout:
            if line.startswith(end):
                assert line == f"{end} 0\n", f"{command}\n{''.join(printed)}"
                return "".join(printed)
            printed.append(line)
        raise AssertionError(f"the shell has ended at {command}")

    @classmethod
    @contextmanager
    def started(cls, environment: dict[str, str]) -> Iterator[Shell]:
        shell = cls(environment)
        try:
            yield shell
        finally:
            shell._process.kill()
            shell._process.communicate()


def follow(page: Path, environment: dict[str, str]) -> None:
    """Do what a page says, in the current folder."""
    with Shell.started(environment) as shell:
        for block in blocks(page):
            if block.path is not None:
                Path(block.path).parent.mkdir(parents=True, exist_ok=True)
                Path(block.path).write_text(block.text)
            elif block.language == "bash":
                for command in block.text.splitlines():
                    shell.run(command)
            else:
                assert block.language == "console", f"line {block.line}: a file says its path first"
                for part in block.text.removeprefix("$ ").split("\n$ "):
                    command, _, shown = part.partition("\n")
                    printed = shell.run(command)
                    assert agrees(shown, printed), f"line {block.line}: {command} printed\n{printed}\nnot\n{shown}"


@pytest.mark.slow
@pytest.mark.parametrize("guide", ["hook-plugin", "backend", "lock-store"])
def test_a_guide_leads_from_an_empty_folder_to_a_plugin(guide: str, wheels: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    environment |= {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PIP_FIND_LINKS": " ".join([str(wheels), *os.environ.get("PIP_FIND_LINKS", "").split()]),
        "COLUMNS": "100",
    }
    follow(ROOT / "docs" / "plugins" / f"{guide}.md", environment)
