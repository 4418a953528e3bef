"""Parts are joined by constructors: no module gives another object's attribute a value after that was made."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tests.unit.test_directions import modules

#: The rooms whose parts this is about.
ROOMS = ("engine", "management", "locking.client", "locking.manager", "locking.leases", "state.client")
#: What modules may change of objects that are not their own: values that say how far something is, by their names there.
VALUES = {
    "run": "ActiveRun: whoever starts, calls or ends a run notes in it how far it is",
    "backfill": "Backfill: `Backfills`, beside it, notes in it how far it is",
    "unlogged": "a private class of the journal",
    "group.ticks": "SharedTicks: the timeline, which orders them, notes their next tick",
    "found": "`fastapi_crons.job` becomes a logger of our own class",
    "Feed": "the number of listeners is counted for the whole process",
}


def assigned(module: str) -> Iterator[str]:
    """The attributes that a module assigns to objects other than `self`, as they are written."""
    for node in ast.walk(ast.parse(modules()[module].read_text(encoding="utf-8"))):
        targets = node.targets if isinstance(node, ast.Assign) else ()
        if isinstance(node, (ast.AugAssign, ast.AnnAssign)):
            targets = [node.target]
        for target in targets:
            for each in target.elts if isinstance(target, (ast.Tuple, ast.List)) else [target]:
                if isinstance(each, ast.Attribute) and ast.unparse(each.value) not in ("self", "self.log"):
                    yield ast.unparse(each)


def test_nothing_is_assigned_after_construction() -> None:
    found = {
        (module, written)
        for module in modules()
        if module.startswith(ROOMS)
        for written in assigned(module)
        if written.rpartition(".")[0] not in VALUES
    }
    assert found == set()


def test_the_values_that_may_be_changed_are() -> None:
    owners = {
        written.rpartition(".")[0] for module in modules() if module.startswith(ROOMS) for written in assigned(module)
    }
    assert owners == VALUES.keys()
