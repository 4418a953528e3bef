"""Build hook: `pip install .` in a clone takes the pieces from the clone, where it would ask PyPI for them."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class PiecesOfTheClone(BuildHookInterface):
    """Replaces requirements by places while pip builds in a clone; what is released is built from an sdist, without them."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        # pip sets the variable. An editable installation is one of several, whose places pip knows by itself.
        if version == "editable" or "PIP_BUILD_TRACKER" not in os.environ:
            return
        places = _places(Path(self.root) / "packages")
        core = self.metadata.core
        for requirements in (core.dependencies, *core.optional_dependencies.values()):
            requirements[:] = [_placed(requirement, places) for requirement in requirements]


def _places(packages: Path) -> dict[str, str]:
    """Where the pieces are, by name."""
    files = [path for pattern in ("*", "*/*") for path in packages.glob(f"{pattern}/pyproject.toml")]
    named = ((re.search(r'^name = "(.+)"', path.read_text(encoding="utf-8"), re.MULTILINE), path) for path in files)
    return {found[1]: path.parent.resolve().as_uri() for found, path in named if found is not None}


def _placed(requirement: str, places: dict[str, str]) -> str:
    (name, *_) = re.findall(r"^[\w-]+", requirement)
    return f"{name} @ {places[name]}" if name in places else requirement
