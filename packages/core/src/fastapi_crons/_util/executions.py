"""Whether something is done again because its module was executed again.

A module is executed twice where `python main.py` runs a server that imports `main`, where it is reloaded, or where a cell of a
notebook is run again. What it registered the first time is then not something else of the same name: it is the same once
more.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable
from functools import lru_cache
from types import CodeType, FrameType
from typing import NamedTuple

from fastapi_crons._util.callables import label, unwrapped

_PACKAGE = __name__.partition(".")[0]


class Caller(NamedTuple):
    """Where in people's code a call of ours comes from."""

    file: str
    line: int
    module: str
    """`__main__` for a script, whatever its name is for those who import it."""
    spec: object
    """What its module was loaded by: another one each time that it is executed."""

    def is_later_execution_than(self, other: Caller) -> bool:
        """Whether both are in one module, which was executed again since the other call."""
        return self.file == other.file and (self.module != other.module or self.spec is not other.spec)

    def __str__(self) -> str:
        return f"{os.path.basename(self.file)}, line {self.line}"


def caller() -> Caller:
    """The nearest caller outside of this package."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        names = frame.f_globals
        module = names.get("__name__")
        if not (isinstance(module, str) and (module == _PACKAGE or module.startswith(f"{_PACKAGE}."))):
            file = _real(frame.f_code.co_filename)
            return Caller(file, frame.f_lineno, str(module), names.get("__spec__"))
        frame = frame.f_back
    return Caller("", 0, "", None)


class Executions:
    """Notices for one scheduler that a module which registers something with it is executed again."""

    def __init__(self) -> None:
        self._newest: dict[str, Caller] = {}

    def is_another(self, now: Caller) -> bool:
        """Whether this call comes from a module that was executed again since its last one."""
        before = self._newest.get(now.file)
        self._newest[now.file] = now
        return before is not None and now.is_later_execution_than(before)


def same_function(former: Callable[..., object], new: Callable[..., object], *, moved: bool) -> bool:
    """Whether these are one function of one file, made once more where they are two objects.

    `moved` says that it may stand in another line now, because its module was changed and executed again.
    """
    one, other = _innermost(former), _innermost(new)
    if one is other:
        return True
    code, other_code = _code(one), _code(other)
    if code is None or other_code is None:
        return code is other_code and label(former) == label(new)
    if getattr(one, "__qualname__", "") != getattr(other, "__qualname__", None):
        return False
    if _real(code.co_filename) != _real(other_code.co_filename):
        return False
    return moved or code.co_firstlineno == other_code.co_firstlineno


def run_again_in_a_notebook(former: Callable[..., object], new: Callable[..., object]) -> bool:
    """Whether a function of a notebook, or of Python's prompt, was defined once more: each cell is an execution."""
    one, other = _innermost(former), _innermost(new)
    names = getattr(other, "__globals__", {})
    if names.get("__name__") != "__main__" or "__file__" in names or getattr(one, "__globals__", None) is not names:
        return False
    code, other_code = _code(one), _code(other)
    if code is None or other_code is None or code is other_code:
        return False
    # Two in one cell, or in a script that is piped to Python, stand in different lines of one text.
    again = code.co_filename != other_code.co_filename or code.co_firstlineno == other_code.co_firstlineno
    return again and getattr(one, "__qualname__", "") == getattr(other, "__qualname__", None)


def told_apart(function: Callable[..., object]) -> str:
    """A function for a message that tells it from another of its name: `module:qualname (file, line n)`."""
    code = _code(_innermost(function))
    place = "" if code is None else f" ({os.path.basename(code.co_filename)}, line {code.co_firstlineno})"
    return f"{label(function)}{place}"


def _innermost(function: Callable[..., object]) -> object:
    inner = inspect.unwrap(unwrapped(function))
    return getattr(inner, "__func__", inner)


def _code(function: object) -> CodeType | None:
    code = getattr(function, "__code__", None)
    return code if isinstance(code, CodeType) else None


@lru_cache(maxsize=1024)
def _real(file: str) -> str:
    return file if file.startswith("<") else os.path.realpath(file)
