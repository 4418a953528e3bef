"""How the time of working on a text grows with the text: no text, of whoever, may hold the event loop.

Every regular expression of every distribution is found here by itself, and measured the way the code uses it.
"""

from __future__ import annotations

import ast
import asyncio
import re
from collections.abc import Callable, Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from time import thread_time
from typing import NamedTuple

import pytest

from fastapi_crons._util.hiding import forget_all, know, without_secrets
from fastapi_crons._util.text import cut, printable
from fastapi_crons.engine.runs.result_json import result_json
from fastapi_crons_cli.configuration.all_settings import without_passwords

# It takes a minute, and is the same on each interpreter.
pytestmark = pytest.mark.slow

_PACKAGES = Path(__file__).parents[2] / "packages"
_METHODS = ("search", "match", "fullmatch", "sub", "subn", "split", "findall", "finditer")
#: The hostile inputs: what each is made of, again and again, and how it ends.
_PIECES = (
    "A", "a1", "0", "-", ".", ":", "/", "\\", '"', "'", '\\"', "@", "://", "x://", "a://b@", "redis://u:p@", "https://h.x/",
    "?a=", "&pass=", "?token", "=", "password", "password=", "token='", '"secret": "', "pwd=a,", ",a", ",a://", "[", "[[1]",
    " ", "\n", " \n", " #", "export ", "1-", "L", "\\ud800", "%41", "\xe4", "; settings can't be used: ",
)  # fmt: skip
_ENDS = ("", "@\x00")
#: A text that is so many times as long ...
_LONGER = 4
#: ... may take so many times as long. In proportion it takes 4 times as long, and where each character is compared with each
#: other 16 times: halfway between, a busy machine makes no difference.
_GROWTH = 8
#: A time (seconds) that is long enough to be measured, and the longest text that is tried to reach it.
_MEASURABLE = 0.0003
_LONGEST = 100_000
_TRIES = 60
_PARTS = 10


class Expression(NamedTuple):
    """A regular expression, where it stands, and by which methods the code uses it."""

    place: str
    pattern: re.Pattern[str]
    methods: tuple[str, ...]


def _expressions() -> Iterator[Expression]:
    for path in sorted(_PACKAGES.rglob("src/**/*.py")):
        if not path.is_symlink():
            yield from _in_module(path)


def _in_module(path: Path) -> Iterator[Expression]:
    source = path.read_text(encoding="utf-8")
    if re.search(r"\bre\.|pattern=|regex=", source) is None:
        return
    tree = ast.parse(source)
    module = ".".join(path.with_suffix("").parts[path.parts.index("src") + 1 :]).removesuffix(".__init__")
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield from _in_call(node, module, f"{module}:{node.lineno}", tree)


def _in_call(node: ast.Call, module: str, place: str, tree: ast.Module) -> Iterator[Expression]:
    function = node.func
    of_re = isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name) and function.value.id == "re"
    if isinstance(function, ast.Attribute) and of_re and function.attr not in ("escape", "error"):
        flags = [ast.unparse(keyword.value) for keyword in node.keywords if keyword.arg == "flags"]
        if function.attr == "compile":
            flags += [ast.unparse(argument) for argument in node.args[1:]]
        pattern = _value(node.args[0], module)
        if pattern is not None:
            compiled = re.compile(pattern, eval("|".join(flags) or "0", {"re": re}))
            methods = _uses(tree, node) if function.attr == "compile" else (function.attr,)
            yield Expression(place, compiled, methods or ("search", "fullmatch"))
    for keyword in node.keywords:
        pattern = _value(keyword.value, module) if keyword.arg in ("pattern", "regex") else None
        if pattern is not None:
            yield Expression(place, re.compile(pattern), ("search",))


def _value(node: ast.expr, module: str) -> str | None:
    """What an expression is that stands for a pattern; None for one that is put together while the program runs."""
    try:
        value: object = eval(ast.unparse(node), vars(import_module(module)))
    except NameError:
        return None
    assert isinstance(value, (str, bytes))
    return value if isinstance(value, str) else value.decode()


def _uses(tree: ast.Module, compiled: ast.Call) -> tuple[str, ...]:
    """The methods that a module calls of a pattern that it keeps under a name."""
    names = {
        ast.unparse(target)
        for node in ast.walk(tree)
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value is compiled
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
    }
    uses = {
        node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and ast.unparse(node.value) in names
    }
    return tuple(sorted(uses & set(_METHODS)))


def _call_of(pattern: re.Pattern[str], method: str) -> Callable[[str], object]:
    if method in ("sub", "subn"):
        return lambda text: pattern.sub("", text)
    if method == "finditer":
        return lambda text: sum(1 for _ in pattern.finditer(text))
    called: Callable[[str], object] = getattr(pattern, method)
    return called


def _took(call: Callable[[str], object], text: str) -> float:
    """The processor's time: what else this machine does does not count."""
    began = thread_time()
    call(text)
    return thread_time() - began


def _growth(call: Callable[[str], object], piece: str, end: str) -> float:
    """How many times as long it takes for a longer text; 0 where even a long text takes no time to speak of."""
    size = 1_000
    while _took(call, piece * (size // len(piece)) + end) < _MEASURABLE:
        size *= 4
        if size > _LONGEST:
            return 0.0
    number = size // len(piece)
    text, longer = piece * number + end, piece * _LONGER * number + end
    # In turns, so that a processor that changes its pace does so for both; the best of each has been disturbed the least.
    took, took_longer = _took(call, text), _took(call, longer)
    for _ in range(_TRIES):
        if took_longer <= _GROWTH * took:
            break
        took, took_longer = min(took, _took(call, text)), min(took_longer, _took(call, longer))
    return took_longer / took


def _too_fast(call: Callable[[str], object]) -> list[tuple[str, str, float]]:
    grown = ((piece, end, _growth(call, piece, end)) for piece in _PIECES for end in _ENDS)
    return [(piece, end, round(growth, 1)) for piece, end, growth in grown if growth > _GROWTH]


@cache
def _found() -> tuple[Expression, ...]:
    return tuple(_expressions())


def test_all_expressions_are_found() -> None:
    source = "\n".join(
        path.read_text(encoding="utf-8") for path in _PACKAGES.rglob("src/**/*.py") if not path.is_symlink()
    )
    written = len(re.findall(r"\bre\.(?:compile|search|match|fullmatch|subn?|split|findall|finditer)\(", source))
    put_together = source.count('re.compile("|".join(')
    assert len([each for each in _found() if each.methods]) >= written - put_together
    assert not re.search(r"\bfrom re import|\bimport regex|\bimport re as", source)


# In parts, each of which has its time; which expressions there are, only the worker looks for that tries them.
@pytest.mark.parametrize("part", range(_PARTS))
def test_the_time_of_an_expression_grows_with_the_text(part: int) -> None:
    for place, pattern, methods in _found()[part::_PARTS]:
        for method in methods:
            assert not _too_fast(_call_of(pattern, method)), (place, method, pattern.pattern)


def _lines(text: str) -> object:
    """The lines of a run's log, one after another."""
    return [cut(line, 8_192) for line in text.split("\n")]


@pytest.mark.parametrize(
    "call",
    [
        without_secrets,
        without_passwords,
        printable,
        lambda text: cut(text, 8_192),
        lambda text: cut(text, 10_000_000),
        lambda text: cut(f"bad answer of https://partner.example: {text}", 65_536),
        _lines,
        lambda text: asyncio.run(result_json([text], 1_000_000)),
    ],
    ids=["hidden", "setting", "printable", "cut", "whole", "error", "lines", "result"],
)
def test_the_time_of_hiding_and_cutting_grows_with_the_text(call: Callable[[str], object]) -> None:
    know("AAAAAAAAAAAAAAAAAAAAAAAAAAAAB")
    know("a://b@a://b@!")
    try:
        assert not _too_fast(call)
    finally:
        forget_all()
