"""Which way imports point in the dashboard, and what of core it uses: what is open to every plugin."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import fastapi_crons_dashboard

pytestmark = pytest.mark.once

ROOT = Path(fastapi_crons_dashboard.__file__).parent
#: From the top down; what stands in one line does not import each other.
ROOMS = (("", "plugin"), ("router",), ("pages",), ("serving",), ("svg",), ("words",))
STABLE = Path(__file__).parents[2] / "docs" / "plugins" / "index.md"


def imports(package: str) -> Iterator[tuple[str, str]]:
    """Each module of the dashboard, below it, with each module of a package that it imports."""
    for path in ROOT.rglob("*.py"):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix("__init__").rstrip(".")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            yield from ((module, name) for name in names if f"{name}.".startswith(f"{package}."))


def height(module: str) -> int:
    return next(number for number, rooms in enumerate(ROOMS) if module.partition(".")[0] in rooms)


def test_imports_of_the_dashboard_point_down() -> None:
    found = {(one, other.partition(".")[2]) for one, other in imports("fastapi_crons_dashboard")}
    assert len(found) > 20
    assert {(one, other) for one, other in found if height(other) < height(one)} == set()


def test_the_dashboard_uses_what_core_opens_to_every_plugin() -> None:
    page = STABLE.read_text(encoding="utf-8").partition("## What is stable")[2]
    stable = set(re.findall(r"`(fastapi_crons[\w.]*)`", page))
    used = {module for _, module in imports("fastapi_crons")}
    assert {"fastapi_crons.api", "fastapi_crons.management"} <= used
    assert used <= stable, sorted(used - stable)
