"""Tells a second execution of a module from a second thing of the same name.

A module is executed twice where `python main.py` runs a server that imports `main`, where it is reloaded, or where a cell of a
notebook is run again. What it registers then is no second thing of that name: it is the first one again.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Iterable
from functools import lru_cache
from types import CodeType, FrameType
from typing import NamedTuple

from fastapi_crons._util.callables import label, unwrapped

_PACKAGE = __name__.partition(".")[0]


class Caller(NamedTuple):
    """Where in the user's code a call of ours comes from."""

    file: str
    line: int
    module: str
    """`__main__` for a script, by whatever name others import it."""
    spec: object
    """The spec of its module: a new one each time that the module is executed."""
    in_notebook: bool = False
    """Whether it is in a notebook, or at Python's prompt: each cell is an execution."""

    def is_later_execution_than(self, other: Caller) -> bool:
        """Whether both are in one module, which was executed again since the other call."""
        return self.file == other.file and (self.module != other.module or self.spec is not other.spec)

    def is_again(self, other: Caller) -> bool:
        """Whether this is the call of the other place, made once more because the module or the cell was executed again."""
        if self.in_notebook and other.in_notebook:
            return self.file != other.file or self.line == other.line
        return self.line == other.line and self.is_later_execution_than(other)

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
            in_notebook = module == "__main__" and "__file__" not in names
            return Caller(file, frame.f_lineno, str(module), names.get("__spec__"), in_notebook)
        frame = frame.f_back
    return Caller("", 0, "", None)


class Executions:
    """Notices when a module that registers something is executed again."""

    def __init__(self) -> None:
        #: The newest call from each file.
        self._newest: dict[str, Caller] = {}

    def is_another(self, now: Caller) -> bool:
        """Whether this call comes from a module that was executed again since its last call."""
        before = self._newest.get(now.file)
        self._newest[now.file] = now
        return before is not None and now.is_later_execution_than(before)


class Again:
    """Functions that may take the place of others, because the module that registers them is executed again."""

    def __init__(self) -> None:
        #: The names that may be registered once more, and whether the functions may be in other lines by then.
        self._expected: dict[str, bool] = {}

    def expect(self, names: Iterable[str], *, moved: bool) -> None:
        """Allow each of these names to be registered once more."""
        self._expected.update(dict.fromkeys(names, moved))

    def allows(self, name: str, former: Callable[..., object], new: Callable[..., object]) -> bool:
        """Whether the new function may take the place of the former one of this name."""
        moved = self._expected.get(name)
        if moved is not None and same_function(former, new, moved=moved):
            return True
        return run_again_in_a_notebook(former, new)

    def happened(self, name: str) -> None:
        """The name was registered once more."""
        self._expected.pop(name, None)


def same_function(former: Callable[..., object], new: Callable[..., object], *, moved: bool) -> bool:
    """Whether these are the same function of the same file, even if two executions made two objects of it.

    `moved` allows it to be on another line: its module was changed and executed again.
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
    """Whether a function of a notebook, or of Python's prompt, was defined again: each cell is an execution."""
    one, other = _innermost(former), _innermost(new)
    names = getattr(other, "__globals__", {})
    if names.get("__name__") != "__main__" or "__file__" in names or getattr(one, "__globals__", None) is not names:
        return False
    code, other_code = _code(one), _code(other)
    if code is None or other_code is None or code is other_code:
        return False
    # Two functions in one cell, or in a script piped to Python, are on different lines of one text.
    again = code.co_filename != other_code.co_filename or code.co_firstlineno == other_code.co_firstlineno
    return again and getattr(one, "__qualname__", "") == getattr(other, "__qualname__", None)


def told_apart(function: Callable[..., object]) -> str:
    """How a message names a function to tell it from another of its name: `module:qualname (file, line n)`."""
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
