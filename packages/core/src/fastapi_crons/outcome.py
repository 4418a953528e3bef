"""What a run returned or raised, as text that is safe to keep: bounded, and free of what a store could not take."""

from __future__ import annotations

import json
import re
import traceback
from collections.abc import Iterator

from fastapi_crons._exceptions import class_name, exact_text, formatted, traceback_of
from fastapi_crons.run import RunError

# In JSON text the two halves of a pair stand side by side.
_LONE_SURROGATE = re.compile(
    r"(?<!\\)(?:\\\\)*(?:\\ud[89ab][0-9a-f]{2}(?!\\ud[c-f])|(?<!\\ud[89ab][0-9a-f]{2})\\ud[c-f])"
)
_PASSWORD_IN_URL = re.compile(r"([A-Za-z][\w+.-]*://[^\s/@:?#]*):[^\s/@]+@")
_LONGEST_PASSWORD = 500
#: How many frames of an exception are kept, the innermost ones.
_FRAMES = 20
_SIMPLE = (bool, int, float, type(None))


def result_json(value: object, limit: int) -> str | None:
    """A result as JSON text of at most `limit` bytes; None for None.

    What can't be kept (not JSON, cyclic, NaN, too large) becomes `{"type": …, "stored": false, "reason": …}`.
    """
    if value is None:
        return None
    try:
        if isinstance(value, (str, bytes)) and len(value) > limit:
            return _not_stored(value, f"larger than {limit} bytes")
        text = _bounded_json(value, limit)
        if text is not None and _LONE_SURROGATE.search(text):
            text = json.dumps(_without_surrogates(json.loads(text)), allow_nan=False)
    except RecursionError:
        return _not_stored(value, "nested too deeply")
    except BaseException as error:  # whatever the value does when it is looked at
        return _not_stored(value, safe_text(error, 200))
    return _not_stored(value, f"larger than {limit} bytes") if text is None else text


def json_or_text(text: str) -> str:
    """The text where it is JSON, else the text as a JSON string."""
    try:
        json.loads(text)
    except ValueError:
        return json.dumps(text)
    return text


def error_of(error: BaseException, limit: int) -> RunError:
    """An exception's type, message and traceback, each cut to `limit` characters."""
    return RunError(type_name(error), safe_text(error, limit), cut(formatted(error, _FRAMES), limit))


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
    """At most `limit` characters of a text and its full length, without NUL, lone surrogates, and passwords in URLs."""
    kept = text
    if "://" in text:
        # With what follows the end, so that no half of a password is left there.
        kept = _PASSWORD_IN_URL.sub(r"\1:***@", text[: limit + _LONGEST_PASSWORD])
    if len(text) > limit:
        kept = f"{kept[:limit]}… ({len(text)} characters)"
    return kept.encode("utf-8", "backslashreplace").decode().replace("\x00", "\\x00")


def _bounded_json(value: object, limit: int) -> str | None:
    """The JSON text, or None as soon as it is longer than `limit` bytes."""
    if isinstance(value, _SIMPLE):
        text = json.dumps(value, allow_nan=False)
        return text if len(text) <= limit else None
    pieces, size = [], 0
    chunks: Iterator[str] = json.JSONEncoder(ensure_ascii=True, allow_nan=False).iterencode(value)
    for chunk in chunks:
        size += len(chunk)
        if size > limit:
            return None
        pieces.append(chunk)
    return "".join(pieces)


def _without_surrogates(value: object) -> object:
    """The value with halves of surrogate pairs, which no UTF-8 text can hold, spelt out."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, list):
        return [_without_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {_without_surrogates(key): _without_surrogates(item) for key, item in value.items()}
    return value


def _not_stored(value: object, reason: str) -> str:
    return json.dumps({"type": type_name(value), "stored": False, "reason": reason})
