"""Nox from any environment makes one of its own in a fresh clone, by uv where that is on PATH."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.system.clones import A_TEST, run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


# What pip installs for all tests is what dev.py installs; a session with less shows that nox calls it.
# By uv, whole sessions of CI are made, if not from another environment.
@pytest.mark.parametrize(("session", "with_uv"), [("lint", False), pytest.param("tests", True, marks=pytest.mark.full)])
def test_nox_from_another_environment(clone: Path, tools: Path, uv: Path, session: str, with_uv: bool) -> None:
    nox_and_session = (tools / "bin" / "python", "-m", "nox", "-s", session, "--", "-p", "no:cacheprovider", A_TEST)
    said = run(clone, *nox_and_session, path=uv if with_uv else None)
    assert " passed" in said
    made = (clone / ".nox" / session / "pyvenv.cfg").read_text(encoding="utf-8")
    assert ("\nuv = " in made) is with_uv
