"""What the log and our errors say stands in one file, `messages.txt`, so that it can be read in one place.

`python tests/unit/test_messages.py` writes that file from the code.
"""

from __future__ import annotations

import ast
import builtins
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.once

ROOT = Path(__file__).parents[2]
LIST = Path(__file__).with_name("messages.txt")
LEVELS = ("debug", "info", "warning", "error", "exception", "critical")
#: What the names of our errors end with.
OURS = ("Error", "SkipRun")
NOT_OURS = {*dir(builtins), "RunError"}


def messages() -> str:
    """All messages of our distributions, by file: level or class of error, and the text with the places of its values."""
    found = []
    for path in sorted((ROOT / "packages").rglob("src/**/*.py")):
        lines = [f"    {kind}: {text}" for kind, text in _messages_of(ast.parse(path.read_text(encoding="utf-8")))]
        if lines:
            found += [path.relative_to(ROOT / "packages").as_posix().partition("/src/")[2], *lines, ""]
    return "\n".join(found)


def _messages_of(tree: ast.AST) -> Iterator[tuple[str, str]]:
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and node.args]
    for node in sorted(calls, key=lambda call: call.lineno):
        match node.func:
            case ast.Attribute(value=ast.Name(id="logger"), attr=level) if level in LEVELS:
                yield level, _text(node.args[0])
            case ast.Name(id=name) if name.endswith(OURS) and name not in NOT_OURS:
                yield name, _text(node.args[0])


def _text(node: ast.expr) -> str:
    """A message as its readers see it, with `{…}` for each value that is put in."""
    match node:
        case ast.Constant(value=str(text)):
            return text.replace("\n", "\\n")
        case ast.JoinedStr(values=parts):
            return "".join(_text(part) if isinstance(part, ast.Constant) else _value(part) for part in parts)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _text(left) + _text(right)
        case ast.IfExp(body=body, orelse=other):
            return f"{_text(body)} | {_text(other)}"
    return _value(node)


def _value(node: ast.expr) -> str:
    """What is put in; only what every Python writes in the same way."""
    match node:
        case ast.FormattedValue(value=value):
            return _value(value)
        case ast.Name() | ast.Attribute():
            return f"{{{ast.unparse(node)}}}"
        case ast.Call(func=ast.Name() | ast.Attribute() as function):
            return f"{{{_value(function)[1:-1]}(…)}}"
    return "{…}"


def test_what_users_read_is_what_the_list_says() -> None:
    assert LIST.read_text(encoding="utf-8") == messages(), (
        "run python tests/unit/test_messages.py, and read what changed"
    )


def test_the_list_has_messages_of_every_kind_and_distribution() -> None:
    lines = messages().splitlines()
    files = {line.partition("/")[0] for line in lines if line and not line.startswith(" ")}
    kinds = {line.partition(":")[0].strip() for line in lines if line.startswith(" ")}
    assert files >= {"fastapi_crons", "fastapi_crons_sqlite", "fastapi_crons_redis", "fastapi_crons_cli"}
    assert kinds >= {"info", "warning", "error", "ConfigurationError", "StoreUnavailableError"}


if __name__ == "__main__":
    LIST.write_text(messages(), encoding="utf-8")
    sys.stdout.write(f"{LIST} is written\n")
