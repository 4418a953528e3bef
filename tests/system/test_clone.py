"""What a fresh clone can be worked with: uv and pip, each as people use it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import nox.project
import pytest
from packaging.requirements import Requirement

from tests.system import check_installed
from tests.system.clones import A_TEST, run
from tests.system.conftest import PACKAGES, ROOT, new_environment

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

DISTRIBUTIONS = {"fastapi-crons", *(package.replace("_", "-") for package in PACKAGES)}


def places_of(frozen: str) -> Iterator[tuple[str, str]]:
    """Our distributions and where they are installed from, of what `pip freeze` says."""
    for line in frozen.splitlines():
        name, at, place = line.partition(" @ ")
        if at and name.startswith("fastapi-crons"):
            yield name, place


@pytest.mark.full
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
    run(clone, uv / "uv", "pip", "install", "-q", "--python", python, ".[all]")
    assert run(clone, python.with_name("fastapi-crons"), "--version").startswith("fastapi-crons ")
    listed = run(clone, uv / "uv", "pip", "list", "-q", "--format", "json", "--python", python)
    assert {each["name"] for each in json.loads(listed)} >= DISTRIBUTIONS


def test_pip_install_takes_the_pieces_from_the_clone(clone: Path, tmp_path: Path) -> None:
    python = new_environment(tmp_path / "fresh", has_pip=True)
    run(clone, python, "-m", "pip", "install", "-q", ".[all]")
    assert run(clone, python.with_name("fastapi-crons"), "--version").startswith("fastapi-crons ")
    places = dict(places_of(run(clone, python, "-m", "pip", "freeze")))
    assert places.keys() == DISTRIBUTIONS
    assert all(place.startswith(clone.resolve().as_uri()) for place in places.values())


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
