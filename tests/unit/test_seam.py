"""The seam of tests: what it names is there, and tests reach inside nowhere else."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import mutants, seam

pytestmark = pytest.mark.once

TESTS = Path(__file__).parents[1]


@pytest.mark.parametrize("name", [name for name, value in vars(seam).items() if isinstance(value, seam.Inside)])
def test_what_the_seam_replaces_is_there(name: str) -> None:
    inside: seam.Inside = getattr(seam, name)
    assert inside.value is not None, f"{inside.module}.{inside.name} is gone: say in tests/seam.py what took its place"


def _our_modules(tree: ast.AST) -> set[str]:
    """The names under which a module of tests knows modules and classes of our distributions."""
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    ours = [node for node in imports if ast.unparse(node).split()[1].startswith("fastapi_crons")]
    return {(each.asname or each.name).split(".")[0] for node in ours for each in node.names}


def _replaced(tree: ast.AST) -> Iterator[str]:
    """What a module of tests replaces: by a monkeypatch, by `setattr`, or by an assignment to an attribute."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and node.args and ast.unparse(node.func).split(".")[-1] == "setattr":
            yield ast.unparse(node.args[0]).strip("'\"")
        elif isinstance(node, ast.Assign):
            yield from (ast.unparse(target.value) for target in node.targets if isinstance(target, ast.Attribute))


def test_tests_replace_what_is_inside_through_the_seam_alone() -> None:
    found, read = [], 0
    for path in TESTS.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        ours = _our_modules(tree)
        for what in _replaced(tree):
            read += 1
            if what.split(".")[0] in ours or what.startswith("fastapi_crons"):
                found.append(f"{path.relative_to(TESTS)}: {what}")
    assert found == []
    assert read > 50, "the test has stopped finding what is replaced"


def test_no_unit_test_starts_a_scheduler() -> None:
    """That belongs in `tests/virtual_time`."""
    read = 0
    for path in (TESTS / "unit").rglob("test_*.py"):
        calls = [ast.unparse(node.func) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        read += len(calls)
        assert not {"crons.start", "make_crons"} & set(calls), path.name
    assert read > 1000


def test_the_groups_of_mutants_name_what_there_is() -> None:
    core = mutants.ROOT / "packages/core/src/fastapi_crons"
    for name, group in mutants.GROUPS.items():
        named = [*(core / module for module in group.modules), *(TESTS / test for test in group.tests)]
        assert [str(path) for path in named if not path.exists()] == [], name
