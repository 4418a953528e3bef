"""Damaged rows of a store. Each is left out and logged once, and affects nothing else.

Stores check what they have read with the functions `checked_…` of `state.checks` and `locking.checks`, which raise
`DamagedError`, and note what they leave out.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping
from typing import TypeVar

from fastapi_crons._util.text import cut, printable, safe_text

logger = logging.getLogger(__name__)

T = TypeVar("T")
#: `check(value, field)`: raises `DamagedError` for a value that this field can't have.
Check = Callable[[object, str], object]

#: Instants that every zone's calendar has, in Unix seconds: from the year 2 to the year 9998.
EARLIEST, LATEST = -62_104_000_000, 253_370_000_000
#: The largest number that every store can hold exactly.
MOST = 2**53
#: The longest text (characters) that names anything; a job's name has at most 200.
LONGEST_NAME = 300
#: How long (seconds) a damaged row is remembered after it was last read, and how many are.
_REMEMBERED, _MANY = 3_600.0, 1_000


class DamagedError(ValueError):
    """A stored value can't be right; the message names the field."""


#: What an attempt to read a damaged row raises.
UNREADABLE = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError)


class Damage:
    """The rows of one store that could not be read. Safe to use from any thread."""

    def __init__(self, store: str) -> None:
        self._store = store
        #: When each was last read, on the monotonic clock.
        self._read_at: dict[str, float] = {}

    def noted(self, row: str, make: Callable[[], T]) -> T | None:
        """What `make` returns; None where it fails, which is noted under the name of the row."""
        try:
            return make()
        except UNREADABLE as error:
            self.note(row, error)
            return None

    def note(self, row: str, why: object) -> None:
        """Note that a row, or a part of it, was left out."""
        name = cut(printable(row), 200)
        if name not in self._read_at:
            logger.error(
                "%s: %s is damaged, and is passed over: %s; nothing else is affected",
                self._store,
                name,
                printable(safe_text(why, 200)),
            )
            if len(self._read_at) >= _MANY:
                self._read_at.pop(next(iter(self._read_at)), None)
        self._read_at[name] = time.monotonic()

    def names(self) -> list[str]:
        since = time.monotonic() - _REMEMBERED
        return [f"{self._store}: {name}" for name, read_at in list(self._read_at.items()) if read_at > since]


def check(record: object, checks: Mapping[str, Check]) -> None:
    """Check fields of a record. Raises `DamagedError`."""
    for field, check_field in checks.items():
        check_field(getattr(record, field), field)


def text(value: object, field: str) -> str:
    """A text that can be written anywhere."""
    if not isinstance(value, str) or not (value.isascii() or _is_unicode(value)):
        raise DamagedError(f"{field} is not a text")
    return value


def name(value: object, field: str) -> str:
    """A text that names something."""
    found = text(value, field)
    if not 1 <= len(found) <= LONGEST_NAME:
        raise DamagedError(f"{field} is empty, or too long")
    return found


def whole(value: object, field: str, *, least: int = 0, most: int = MOST) -> int:
    """A whole number between bounds."""
    if type(value) is not int or not least <= value <= most:
        raise DamagedError(f"{field} is not a whole number, or is out of bounds")
    return value


def instant(value: object, field: str) -> float:
    """An instant in Unix seconds, which a calendar can show."""
    if not is_between(value, EARLIEST, LATEST):
        raise DamagedError(f"{field} is not a time")
    return value  # type: ignore[return-value]


def tick(value: object, field: str) -> int:
    """An instant in whole Unix seconds."""
    return whole(value, field, least=EARLIEST, most=LATEST)


def one_of(words: Collection[str]) -> Check:
    """The check for one of these words."""
    known = frozenset(words)

    def check_word(value: object, field: str) -> None:
        if not isinstance(value, str) or value not in known:
            raise DamagedError(f"{field} has an unknown value")

    return check_word


def optional(check_value: Check) -> Check:
    """The check for None, or what this check lets through."""
    return lambda value, field: None if value is None else check_value(value, field)


def is_between(value: object, least: float, most: float) -> bool:
    """Whether this is a number, and between bounds."""
    return type(value) in (int, float) and least <= value <= most  # type: ignore[operator]


def _is_unicode(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
