"""What pages of documentation install: ours, what tests use, or what is installed here."""

from __future__ import annotations

import re
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from tests.system.conftest import ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_PIP_OPTIONS = {
    "-e",
    "-q",
    "-r",
    "-U",
    "-y",
    "--upgrade",
    "--no-deps",
    "--force-reinstall",
    "--no-cache-dir",
}
#: Where a reader has the clone, in words.
_CLONE = "/path/to/clone/"


def check_distributions(words: list[str]) -> None:
    """What a page installs or takes away is ours, or what tests use, or installed here; and so are its extras."""
    files = [ROOT / "requirements-dev.txt", ROOT / "tests/requirements.txt", ROOT / "docs/requirements.txt"]
    used = {name for path in files for name in re.findall(r"^[\w-]+", path.read_text(), re.MULTILINE)}
    of_file = False
    for word in words:
        if of_file:
            assert Path(word).exists(), f"{word} is not shown before"
        elif word.startswith("-"):
            assert word in _PIP_OPTIONS, f"pip's {word} is not known here"
        elif word.startswith((".", _CLONE)):
            _check_folder(word.replace(_CLONE, "./"))
        else:
            _check_requirement(Requirement(word), used)
        of_file = word == "-r"


def _check_folder(word: str) -> None:
    """Of a clone, or one that the page has shown."""
    folder, _, extras = word.rstrip("]").partition("[")
    if folder == "." and not Path("pyproject.toml").exists():
        return  # what the page makes, named in passing
    project = next((path for root in (Path(), ROOT) if (path := root / folder / "pyproject.toml").exists()), None)
    assert project is not None, f"there is no {folder}"
    _check_extras(word, set(filter(None, extras.split(","))), _extras(project))


def _check_requirement(wanted: Requirement, used: set[str]) -> None:
    ours = {
        _table(path)["name"]: path
        for path in (
            ROOT / "pyproject.toml",
            *ROOT.glob("packages/**/pyproject.toml"),
            *ROOT.glob("examples/**/pyproject.toml"),
        )
        if "name" in _table(path)
    }
    if wanted.name in ours:
        _check_extras(wanted.name, wanted.extras, _extras(ours[wanted.name]))
        if wanted.name.startswith("fastapi-crons") and "examples" not in ours[wanted.name].parts:
            version = (ROOT / "VERSION").read_text().strip()
            assert wanted.specifier.contains(version, prereleases=True), f"{wanted} is not {version}"
        return
    try:
        found = distribution(wanted.name)
    except PackageNotFoundError:
        assert wanted.name in used, f"{wanted.name} is not known here"
        assert not wanted.extras, f"the extras of {wanted.name} are not known here"
    else:
        _check_extras(wanted.name, wanted.extras, set(found.metadata.get_all("Provides-Extra") or ()))


def _check_extras(name: str, wanted: set[str], there: set[str]) -> None:
    assert wanted <= there, f"{name} has no extra {', '.join(sorted(wanted - there))}"


def _extras(project: Path) -> set[str]:
    return set(_table(project).get("optional-dependencies", {}))


def _table(project: Path) -> dict[str, Any]:
    table: dict[str, Any] = tomllib.loads(project.read_text(encoding="utf-8")).get("project", {})
    return table
