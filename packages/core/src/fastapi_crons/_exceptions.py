"""Looks at exceptions, and at other objects of somebody else's, whatever these do when they are looked at.

An attribute of an exception may be a property, and the name of its class one of a metaclass: either can raise anything, and
also `SystemExit`, which ends a process where nobody expects it. What Python itself keeps is asked for here, past such code.
"""

from __future__ import annotations

import traceback
from types import TracebackType

_NAME = type.__dict__["__name__"]
_TRACEBACK = BaseException.__dict__["__traceback__"]


def class_name(value: object) -> str:
    """The name of an object's class."""
    return exact_text(_NAME.__get__(type(value)))


def exact_text(text: str) -> str:
    """The text as a `str` proper: a class derived from it may do anything."""
    return str.__str__(text)


def is_a(error: BaseException, kinds: type[BaseException] | tuple[type[BaseException], ...]) -> bool:
    """Whether an exception is of one of these classes; `isinstance` would ask the exception for its `__class__`."""
    try:
        return issubclass(type(error), kinds)
    except BaseException:  # a class of somebody else's that decides by itself what it has for subclasses
        return False


def traceback_of(error: BaseException) -> TracebackType | None:
    """Where an exception was raised."""
    found: TracebackType | None = _TRACEBACK.__get__(error)
    return found


def formatted(error: BaseException, frames: int | None = None) -> str:
    """An exception and its causes with their tracebacks, as Python shows them; only its own frames where that fails.

    Of each, so many frames, the innermost ones.
    """
    limit = None if frames is None else -frames
    try:
        text = "".join(traceback.format_exception(type(error), error, traceback_of(error), limit=limit))
    except BaseException:
        text = f"{_frames(error, limit)}{class_name(error)}"
    return text.rstrip()


def _frames(error: BaseException, limit: int | None) -> str:
    try:
        return "Traceback (most recent call last):\n" + "".join(traceback.format_tb(traceback_of(error), limit=limit))
    except BaseException:  # the source is asked for from whatever has loaded its module
        return ""
