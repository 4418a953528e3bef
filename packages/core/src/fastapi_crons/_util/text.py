"""Texts that are safe to keep and to show: bounded, without secrets, free of what a store can't take; numbers in words."""

from __future__ import annotations

import traceback

from fastapi_crons._util.exceptions import class_name, exact_text, formatted, traceback_of
from fastapi_crons._util.hiding import beginning_without_secrets

#: How many frames of an exception are kept, the innermost ones.
FRAMES = 20


def traceback_text(error: BaseException, limit: int = 10_000) -> str:
    """An exception and its causes with their tracebacks, without secrets, cut to `limit` characters."""
    return cut(formatted(error, FRAMES), limit)


def printable(text: str) -> str:
    """The text with everything escaped that is not printable, line breaks included."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )


def one_line(error: BaseException, limit: int = 500) -> str:
    """The type and the message of an exception, as one line of at most about `limit` characters."""
    return f"{type_name(error)}: {printable(safe_text(error, limit))}"


def type_name(value: object) -> str:
    """The name of an object's class, safe to keep and to show."""
    return cut(printable(class_name(value)), 200)


def where_raised(error: BaseException) -> str:
    """File and line that an exception comes from."""
    frames = list(traceback.walk_tb(traceback_of(error)))
    return f"{frames[-1][0].f_code.co_filename}:{frames[-1][1]}" if frames else "no traceback"


def safe_text(value: object, limit: int) -> str:
    """`str(value)`, whatever that does, cut to `limit` characters."""
    try:
        text = exact_text(str(value))
    except BaseException as error:
        text = f"<{type_name(value)} whose text can't be made: {type_name(error)}>"
    return cut(text, limit)


def cut(text: str, limit: int) -> str:
    """At most `limit` characters of a text and its full length, without secrets, NUL and lone surrogates."""
    kept, whole = beginning_without_secrets(text, limit)
    if len(kept) > limit or not whole:
        kept = f"{kept[:limit]}… ({len(text)} characters)"
    return storable(kept)


def storable(text: str) -> str:
    """A text with NUL and lone surrogates escaped, which no store could take."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\x00", "\\x00")


def counted(number: int, noun: str, *, more: bool = False) -> str:
    """`1 tick`, `3 ticks`; with `more`, `at least 3 ticks`."""
    return f"{'at least ' if more else ''}{number} {noun}{'' if number == 1 else 's'}"


def span(seconds: float) -> str:
    """A duration in the one or two units that matter."""
    left, parts = max(0, round(seconds)), []
    for unit, name in ((86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second")):
        number, left = divmod(left, unit)
        if number:
            parts.append(counted(number, name))
    return " and ".join(parts[:2]) or "0 seconds"


def brief(value: object, limit: int = 60) -> str:
    """A value for an error message: escaped, and at most `limit` characters long."""
    try:
        text = ascii(value)
    except Exception:
        text = f"<{type(value).__name__}>"
    return text if len(text) <= limit else f"{text[: limit - 3]}..."
