"""A fresh clone works with what people have: uv, pip, nox from wherever."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import nox.project
import pytest
from packaging.requirements import Requirement

from tests.system import check_installed
from tests.system.conftest import PACKAGES, ROOT, Once, new_environment

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

#: What a clone does not have.
_NOT_OURS = shutil.ignore_patterns(
    ".git", ".venv", ".nox", ".*_cache", ".hypothesis", "__pycache__", "*.egg-info", "build", "dist", "*.db*", "uv.lock"
)
DISTRIBUTIONS = {"fastapi-crons", *(package.replace("_", "-") for package in PACKAGES)}
#: Quick, and about what is installed.
A_TEST = "tests/unit/test_names.py"


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    return Path(shutil.copytree(ROOT, tmp_path / "clone", symlinks=True, ignore=_NOT_OURS))


@pytest.fixture(scope="session")
def tools(once: Once) -> Path:
    """The programs of an environment that has nothing to do with the clone: uv and nox."""

    def make(folder: Path) -> None:
        python = new_environment(folder)
        subprocess.run([python, "-m", "pip", "install", "-q", "nox", "uv"], check=True)
        # nox finds a uv beside it, too: it is in a folder of its own.
        (folder / "only-uv").mkdir()
        shutil.move(folder / "bin" / "uv", folder / "only-uv" / "uv")
        subprocess.run([python, "-m", "pip", "uninstall", "-q", "-y", "uv"], check=True)

    return once("tools", make)


@pytest.fixture
def uv(tools: Path) -> Path:
    return tools / "only-uv"


def run(clone: Path, *command: str | Path, path: Path | None = None) -> str:
    """Run a program in the clone, where uv is on PATH only if this folder of it is given; returns what it says."""
    places = [place for place in os.environ["PATH"].split(os.pathsep) if not (Path(place) / "uv").exists()]
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    environment["PATH"] = os.pathsep.join([*([] if path is None else [str(path)]), *places])
    environment |= {"UV_PYTHON": sys.executable, "UV_PYTHON_DOWNLOADS": "never"}
    done = subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def places_of(frozen: str) -> Iterator[tuple[str, str]]:
    """Our distributions and where they are installed from, of what `pip freeze` says."""
    for line in frozen.splitlines():
        name, at, place = line.partition(" @ ")
        if at and name.startswith("fastapi-crons"):
            yield name, place


def test_uv_sync_and_uv_run(clone: Path, uv: Path) -> None:
    run(clone, uv / "uv", "sync", "-q")
    assert " passed" in run(clone, uv / "uv", "run", "pytest", "-p", "no:cacheprovider", A_TEST)
    assert run(clone, uv / "uv", "run", "fastapi-crons", "--version").startswith("fastapi-crons ")
    modules = [module for module, *_ in check_installed.ENTRY_POINTS.values()]
    code = f"import sys, {', '.join(modules)}; print([sys.modules[name].__file__ for name in {modules}])"
    assert run(clone, uv / "uv", "run", "python", "-c", code).count(f"'{clone.resolve()}{os.sep}packages") == len(
        PACKAGES
    )
    assert "uv.lock" in (clone / ".gitignore").read_text().splitlines()


def test_uv_pip_install(clone: Path, uv: Path, tmp_path: Path) -> None:
    python = new_environment(tmp_path / "fresh")
    run(clone, uv / "uv", "pip", "install", "-q", "--python", python, ".[redis]")
    assert run(clone, python.with_name("fastapi-crons"), "--version").startswith("fastapi-crons ")
    listed = run(clone, uv / "uv", "pip", "list", "-q", "--format", "json", "--python", python)
    assert {each["name"] for each in json.loads(listed)} >= DISTRIBUTIONS


def test_pip_install_takes_the_pieces_from_the_clone(clone: Path, tmp_path: Path) -> None:
    python = new_environment(tmp_path / "fresh")
    run(clone, python, "-m", "pip", "install", "-q", ".[redis]")
    assert run(clone, python.with_name("fastapi-crons"), "--version").startswith("fastapi-crons ")
    places = dict(places_of(run(clone, python, "-m", "pip", "freeze")))
    assert places.keys() == DISTRIBUTIONS
    assert all(place.startswith(clone.resolve().as_uri()) for place in places.values())


@pytest.mark.parametrize("with_uv", [False, True])
def test_nox_from_another_environment(clone: Path, tools: Path, uv: Path, with_uv: bool) -> None:
    nox_and_session = (tools / "bin" / "python", "-m", "nox", "-s", "tests", "--", "-p", "no:cacheprovider", A_TEST)
    said = run(clone, *nox_and_session, path=uv if with_uv else None)
    assert " passed" in said
    made = (clone / ".nox" / "tests" / "pyvenv.cfg").read_text(encoding="utf-8")
    assert ("\nuv = " in made) is with_uv


def test_what_uv_installs_for_development_is_what_pip_does() -> None:
    project = nox.project.load_toml(ROOT / "pyproject.toml")
    group = {str(Requirement(text)) for text in project["dependency-groups"]["dev"]}
    pieces = {name.replace("_", "-") for name in PACKAGES}
    files = [ROOT / "requirements-dev.txt", ROOT / "tests/requirements.txt", ROOT / "docs/requirements.txt"]
    lines = [line for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    assert group - pieces == {str(Requirement(line)) for line in lines if line and line[0] not in "#-"}
    assert {line for line in lines if line.startswith("-e ")} == {f"-e {folder}" for folder in PACKAGES.values()}
    wanted = {Requirement(text).name for text in project["project"]["dependencies"]}
    assert pieces <= wanted | group
    assert project["tool"]["uv"]["sources"] == {name: {"workspace": True} for name in pieces}
