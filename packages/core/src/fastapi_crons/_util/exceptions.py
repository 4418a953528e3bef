"""Reads exceptions and other foreign objects safely, whatever their own code does when they are read.

An attribute of an exception may be a property, and the name of its class may come from a metaclass: either can raise anything,
even `SystemExit`, which would end the process. These functions read what Python itself keeps, past such code.
"""

from __future__ import annotations

import traceback
from types import TracebackType

_NAME = type.__dict__["__name__"]
_TRACEBACK = BaseException.__dict__["__traceback__"]
#: Up to so many exceptions and characters, Python formats them itself: that takes some ten milliseconds.
_MOST_EXCEPTIONS = 300
_MOST_CHARS = 100_000
#: How many members of a larger group are shown.
_SHOWN = 5


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
    except BaseException:  # a foreign class may decide by its own code what its subclasses are
        return False


def traceback_of(error: BaseException) -> TracebackType | None:
    """Where an exception was raised."""
    found: TracebackType | None = _TRACEBACK.__get__(error)
    return found


def formatted(error: BaseException, frames: int | None = None) -> str:
    """An exception and its causes with their tracebacks, as Python shows them; only its own frames where that fails.

    `frames` limits each traceback to its innermost frames. Of very many causes and members, or of very long texts, a part is
    shown.
    """
    limit = None if frames is None else -frames
    if _is_moderate(error):
        return _whole(error, limit)
    parts = [_alone(error, limit)]
    for inner in _next_inside(error):
        shown = _whole(inner, limit) if _is_moderate(inner) else _alone(inner, limit)
        parts.append(f"Caused by, or containing:\n\n{shown}")
    return "\n\n".join([*parts, "There is more than is shown."])


def _whole(error: BaseException, limit: int | None) -> str:
    try:
        text = "".join(traceback.format_exception(type(error), error, traceback_of(error), limit=limit))
    except BaseException:
        text = f"{_frames(error, limit)}{class_name(error)}"
    return text.rstrip()


def _alone(error: BaseException, limit: int | None) -> str:
    """An exception without its causes and members."""
    try:
        text = exact_text(str(error))[:_MOST_CHARS]
    except BaseException:
        text = "<its text can't be made>"
    return f"{_frames(error, limit)}{class_name(error)}: {text}"


def _is_moderate(error: BaseException) -> bool:
    """Whether Python can format it quickly: that walks through every cause and member.

    A member counts as often as its group contains it, because it is shown as often.
    """
    waiting, count, size = [error], 0, 0
    seen: set[int] = set()
    try:
        while waiting:
            one = waiting.pop()
            count += 1
            size += len(exact_text(str(one))) + sum(len(note) for note in getattr(one, "__notes__", ()))
            if count > _MOST_EXCEPTIONS or size > _MOST_CHARS:
                return False
            members = _members(one)
            if len(members) > _MOST_EXCEPTIONS:
                return False
            waiting += members
            before = (each for each in (one.__cause__, one.__context__) if each is not None and id(each) not in seen)
            for each in before:
                seen.add(id(each))
                waiting.append(each)
    except BaseException:  # formatting will fail in the same way, and handles that
        return True
    return True


def _next_inside(error: BaseException) -> list[BaseException]:
    """Its cause, and its first members."""
    try:
        inside = (error.__cause__ or error.__context__, *_members(error)[:_SHOWN])
        return [each for each in inside if each is not None]
    except BaseException:
        return []


def _members(error: BaseException) -> tuple[BaseException, ...]:
    """The members of a group."""
    members = getattr(error, "exceptions", ())
    return tuple(each for each in members if is_a(each, BaseException)) if type(members) is tuple else ()


def _frames(error: BaseException, limit: int | None) -> str:
    try:
        return "Traceback (most recent call last):\n" + "".join(traceback.format_tb(traceback_of(error), limit=limit))
    except BaseException:  # the source comes from the module's loader, which can raise anything
        return ""
