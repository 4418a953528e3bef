"""Which way imports point in core: from the top of this list to the bottom, never back."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import fastapi_crons
import fastapi_crons_postgres

pytestmark = pytest.mark.once

ROOT = Path(fastapi_crons.__file__).parent
#: The rooms, from the top down. What stands in one line may import each other, as long as no circle comes of it.
ROOMS = (
    ("", "__main__", "cli"),  # the package itself: its names are imported when they are asked for
    ("api", "testing"),
    ("management",),
    ("scheduler",),
    ("engine",),
    ("engine.fleet",),
    ("engine.dispatch",),
    ("engine.runs",),
    ("plugins",),
    ("state",),  # a state store may name the lock that goes with it
    ("locking",),
    ("job", "job_checks", "registry", "config", "logs", "functions"),
    ("schedules",),
    ("schedule",),
    ("run", "errors", "clock", "_util", "_elsewhere"),
)
#: Imports that point up, each with its reason.
EXCEPTIONS = {
    ("plugins.specs", "scheduler.crons"): "plugin authors read the type of `crons` in the hook specifications",
}


def modules() -> dict[str, Path]:
    """Each module by its name below `fastapi_crons`; a package's own file by the package's name."""
    found = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in ROOT.rglob("*.py")}
    return {name.removesuffix("__init__").rstrip("."): path for name, path in found.items()}


def imports() -> Iterator[tuple[str, str]]:
    """Each import of one module by another; those for types and those inside functions, too."""
    known = modules()
    for module, path in known.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and f"{node.module}.".startswith("fastapi_crons."):
                package = str(node.module).partition(".")[2]
                for alias in node.names:
                    inner = f"{package}.{alias.name}".lstrip(".")
                    yield module, inner if inner in known else package
            elif isinstance(node, ast.Import):
                for alias in node.names:
                    if alias.name.startswith("fastapi_crons."):
                        yield module, alias.name.partition(".")[2]


def height(module: str) -> int:
    """How far down the list a module's room stands."""
    parts = module.split(".")
    for end in range(len(parts), 0, -1):
        room = ".".join(parts[:end])
        for number, rooms in enumerate(ROOMS):
            if room in rooms:
                return number
    raise AssertionError(f"{module} is in no room: name it in ROOMS")


def circle(graph: dict[str, set[str]]) -> list[str]:
    """A way from a module back to itself, or nothing."""
    done: set[str] = set()

    def follow(module: str, way: list[str]) -> list[str]:
        if module in way:
            return [*way[way.index(module) :], module]
        if module not in done:
            for other in sorted(graph.get(module, ())):
                if found := follow(other, [*way, module]):
                    return found
            done.add(module)
        return []

    return next((found for module in sorted(graph) if (found := follow(module, []))), [])


def test_imports_point_down() -> None:
    up = {(one, other) for one, other in imports() if height(other) < height(one)}
    assert up == EXCEPTIONS.keys(), sorted(up ^ EXCEPTIONS.keys())


def test_no_circle_of_imports() -> None:
    graph: dict[str, set[str]] = {}
    for one, other in set(imports()) - EXCEPTIONS.keys():
        if one != other:
            graph.setdefault(one, set()).add(other)
    assert len(graph) > 50
    assert circle(graph) == []


def test_the_postgres_stores_are_written_against_public_doors() -> None:
    private = []
    files = list(Path(fastapi_crons_postgres.__file__).parent.rglob("*.py"))
    for path in files:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and f"{node.module}.".startswith("fastapi_crons."):
                names = [*str(node.module).split("."), *(alias.name for alias in node.names)]
                private += [(path.name, name) for name in names if name.startswith("_")]
    assert len(files) > 10
    assert private == []


def test_no_folder_holds_more_than_a_dozen_files() -> None:
    folders: dict[Path, int] = {}
    for path in modules().values():
        folders[path.parent] = folders.get(path.parent, 0) + (path.name != "__init__.py")
    assert {folder.name: number for folder, number in folders.items() if number > 12} == {}
