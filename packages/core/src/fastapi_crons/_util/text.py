"""What a run returned or raised, as text that is safe to keep: bounded, and free of what a store could not take."""

from __future__ import annotations

import traceback

from fastapi_crons._util.exceptions import class_name, exact_text, formatted, traceback_of
from fastapi_crons._util.hiding import beginning_without_secrets
from fastapi_crons.run import RunError

#: How many frames of an exception are kept, the innermost ones.
_FRAMES = 20


def error_of(error: BaseException, limit: int) -> RunError:
    """An exception's type, message and traceback, each cut to `limit` characters."""
    return RunError(type_name(error), safe_text(error, limit), cut(f"{formatted(error, _FRAMES)}\n", limit))


def traceback_text(error: BaseException, limit: int = 10_000) -> str:
    """An exception and its causes with their tracebacks, without secrets, cut to `limit` characters."""
    return cut(formatted(error, _FRAMES), limit)


def printable(text: str) -> str:
    """The text with everything escaped that could break a line or hide in it."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )


def one_line(error: BaseException, limit: int = 500) -> str:
    """What an exception is and says, as one line of at most about `limit` characters."""
    return f"{type_name(error)}: {printable(safe_text(error, limit))}"


def type_name(value: object) -> str:
    """The name of an object's class, fit to be kept and shown."""
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
    """A text with NUL and lone surrogates, which no store could take, spelt out."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\x00", "\\x00")
