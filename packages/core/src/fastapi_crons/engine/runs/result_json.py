"""Results: what a function returned, as JSON text of a bounded size.

Made piece by piece, so that what is too large is noticed at the limit and not at its end, and so that the event loop is
never held for long. What plain JSON can't hold becomes what FastAPI would answer for it (`jsonable_encoder`).
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import re
from collections import deque
from collections.abc import Iterable, Iterator
from decimal import Decimal
from enum import Enum
from itertools import chain, islice
from pathlib import PurePath
from time import perf_counter
from types import GeneratorType

from pydantic import BaseModel

from fastapi_crons._util.exceptions import exact_text, is_a
from fastapi_crons._util.text import safe_text, type_name

#: How many characters are stored of the reason why a result is not.
REASON_CHARS = 200
#: How long (seconds) the event loop is held at a time.
_SLICE = 0.004
#: JSON that is nested more deeply might not be readable: Python's own limit is 1,000, and the reader's callers count, too.
_MAX_DEPTH = 500
#: How many characters of a text are encoded at a time.
_CHUNK = 16_384
#: How often a value is converted at most, until it is of a type that JSON has.
_MAX_CONVERSIONS = 10
#: Python prints no whole number of more digits by default, and making one of a `Decimal` takes long.
_MAX_DIGITS = 4300
_SEQUENCES = (list, tuple, set, frozenset, deque, GeneratorType)
_SURROGATE = re.compile("[\ud800-\udfff]")


class _TooLargeError(Exception):
    """The text would exceed its limit."""


class _Encoder:
    """Encodes one value; `limit` is how many characters there may be."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        #: The containers that are being encoded, from the outermost: the items left, the closing bracket, the object itself.
        self._open: list[tuple[Iterator[object], str, object]] = []
        self._inside: set[int] = set()

    def pieces(self, value: object) -> Iterator[str]:
        """The JSON text, in pieces. Some are empty: they only let others have the event loop."""
        yield from self._value(value)
        at_start = True
        while self._open:
            items, end, of = self._open[-1]
            try:
                item = next(items)
            except StopIteration:
                self._open.pop()
                self._inside.discard(id(of))
                at_start = False
                yield end
                continue
            depth = len(self._open)
            if not at_start:
                yield ", "
            if end == "}":
                assert isinstance(item, tuple)
                yield from self._key(item[0])
                item = item[1]
            yield from self._value(item)
            at_start = len(self._open) > depth

    def _value(self, value: object) -> Iterator[str]:
        """All of a scalar, or the beginning of a container."""
        original = value
        for _ in range(_MAX_CONVERSIONS):
            if type(value) is str:
                yield from self._text(value)
                return
            if value is None or type(value) in (bool, int, float):
                yield self._number(value)
                return
            if isinstance(value, dict) and not isinstance(value, Enum):
                yield self._enter(iter(value.items()), "}", original)
                return
            if isinstance(value, _SEQUENCES) and not isinstance(value, Enum) and not dataclasses.is_dataclass(value):
                yield self._enter(iter(value), "]", original)
                return
            if isinstance(value, BaseModel):
                yield from self._weigh(_fields_of(value))
            value = self._converted(value)
        raise TypeError(f"a value of type {type_name(original)} can't be made JSON")

    def _key(self, key: object) -> Iterator[str]:
        for _ in range(_MAX_CONVERSIONS):
            if type(key) is str:
                yield from self._text(key)
                yield ": "
                return
            if key is None or type(key) in (bool, int, float):
                yield f'"{self._number(key)}": '
                return
            if isinstance(key, (dict, *_SEQUENCES)) and not isinstance(key, Enum):
                break
            key = self._converted(key)
        raise TypeError(f"a {type_name(key)} can't be a key in JSON")

    def _text(self, text: str) -> Iterator[str]:
        if len(text) > self._limit:
            raise _TooLargeError
        yield '"'
        for start in range(0, len(text), _CHUNK):
            chunk = text[start : start + _CHUNK]
            if not chunk.isascii() and _SURROGATE.search(chunk):
                # Halves of surrogate pairs, which no UTF-8 text can hold, are spelt out.
                chunk = chunk.encode("utf-8", "backslashreplace").decode()
            yield json.dumps(chunk)[1:-1]
        yield '"'

    def _number(self, number: object) -> str:
        if type(number) is int and number.bit_length() > 4 * self._limit:
            raise _TooLargeError
        return json.dumps(number, allow_nan=False)

    def _enter(self, items: Iterator[object], end: str, of: object) -> str:
        if id(of) in self._inside:
            raise ValueError("it contains itself")
        if len(self._open) >= _MAX_DEPTH:
            raise ValueError(f"it is nested more than {_MAX_DEPTH} levels deep")
        self._open.append((items, end, of))
        self._inside.add(id(of))
        return "{" if end == "}" else "["

    def _weigh(self, values: Iterable[object]) -> Iterator[str]:
        """Raise where a value that is converted in one go is larger than may be stored. A lower bound of its size is enough."""
        size, waiting = 0, [iter(values)]
        while waiting:
            for value in waiting[-1]:
                if isinstance(value, (str, bytes, bytearray)):
                    size += len(value)
                elif isinstance(value, dict):
                    waiting.append(chain(value, value.values()))
                elif isinstance(value, (list, tuple, set, frozenset, deque)):
                    waiting.append(iter(value))
                elif isinstance(value, BaseModel):
                    waiting.append(_fields_of(value))
                size += 1
                if size > self._limit:
                    raise _TooLargeError
                break
            else:
                waiting.pop()
            yield ""

    def _converted(self, value: object) -> object:
        """What stands for a value of a type that JSON has not; as `jsonable_encoder` converts it, but one level deep."""
        if isinstance(value, BaseModel):
            return value.model_dump(mode="json", by_alias=True)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return _own({field.name: getattr(value, field.name) for field in dataclasses.fields(value)})
        if isinstance(value, Enum):
            return value.value
        if isinstance(value, PurePath):
            return str(value)
        if isinstance(value, str):
            return exact_text(value)
        if isinstance(value, int):
            return int.__int__(value)
        if isinstance(value, float):
            return float.__float__(value)
        from fastapi.encoders import ENCODERS_BY_TYPE, jsonable_encoder

        if isinstance(value, tuple(ENCODERS_BY_TYPE)):
            if isinstance(value, bytes) and len(value) > self._limit:
                raise _TooLargeError
            if isinstance(value, Decimal) and value.is_finite():
                self._check_digits(value.adjusted() + 1)
            return jsonable_encoder(value)
        return self._as_dict(value)

    def _check_digits(self, digits: int) -> None:
        if digits > self._limit:
            raise _TooLargeError
        if digits > _MAX_DIGITS:
            raise ValueError(f"it holds a Decimal of {digits} digits; {_MAX_DIGITS} are kept at most")

    def _as_dict(self, value: object) -> dict[object, object]:
        """What `dict()` or `vars()` make of an object."""
        try:
            if hasattr(value, "keys"):
                return {key: value[key] for key in self._bounded(value.keys())}  # type: ignore[index]
            made: dict[object, object] = {}
            for number, pair in enumerate(value):  # type: ignore[arg-type, var-annotated]
                if number >= self._limit:
                    raise _TooLargeError
                made.update([pair])  # one by one: where it is no list of pairs, the first item fails
            return made
        except _TooLargeError:
            raise
        except Exception:
            try:
                return _own(vars(value))
            except TypeError:
                raise TypeError(f"a value of type {type_name(value)} can't be made JSON") from None

    def _bounded(self, items: object) -> list[object]:
        """The items. Raises where there are more than could be stored."""
        found = list(islice(iter(items), self._limit + 1))  # type: ignore[call-overload]
        if len(found) > self._limit:
            raise _TooLargeError
        return found


async def result_json(value: object, limit: int, reason_limit: int = REASON_CHARS) -> str | None:
    """A result as JSON text of at most `limit` bytes; None for None.

    What can't be kept (not JSON, cyclic, NaN, too large) becomes `{"type": …, "stored": false, "reason": …}`, whose reason has
    at most `reason_limit` characters.
    """
    if value is None:
        return None
    pieces: list[str] = []
    size, until = 0, perf_counter() + _SLICE
    try:
        for piece in _Encoder(limit).pieces(value):
            size += len(piece)
            if size > limit:
                raise _TooLargeError
            if piece:
                pieces.append(piece)
            if perf_counter() > until:
                await asyncio.sleep(0)
                until = perf_counter() + _SLICE
    except BaseException as error:  # the value may raise anything; the function has succeeded all the same
        return _not_stored(value, error, limit, reason_limit)
    return "".join(pieces)


def drained(value: object, limit: int) -> object:
    """The value that a function returned in a thread. A generator is exhausted there, because it may block."""
    if type(value) is not GeneratorType:
        return value
    return list(islice(value, limit // 3 + 2))


def json_or_text(text: str) -> str:
    """The text where it is JSON, else the text as a JSON string."""
    try:
        json.loads(text)
    except ValueError:
        return json.dumps(text)
    return text


def _not_stored(value: object, error: BaseException, limit: int, reason_limit: int) -> str:
    if is_a(error, _TooLargeError):
        reason = f"larger than {limit} bytes"
    elif is_a(error, asyncio.CancelledError):
        reason = "its scheduler stopped before it was encoded"
    else:
        reason = safe_text(error, reason_limit)
    return json.dumps({"type": type_name(value), "stored": False, "reason": reason})


def _fields_of(model: BaseModel) -> Iterator[object]:
    """The values that a model shows."""
    fields = type(model).model_fields
    shown = (value for name, value in vars(model).items() if name not in fields or not fields[name].exclude)
    return chain(shown, (model.model_extra or {}).values())


def _own(attributes: dict[str, object]) -> dict[object, object]:
    """Attributes without those that SQLAlchemy keeps on its objects."""
    return {name: value for name, value in attributes.items() if not name.startswith("_sa")}
