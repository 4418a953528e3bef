"""Transaction: statements for whole batches, on one connection.

`sqlite3` releases the interpreter lock around every step, so that a batch done row by row would crawl while the event loop is
busy. So hundreds of rows are written by one statement, names are passed as one JSON parameter, and many rows are read as one
JSON value.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain, compress
from typing import Any

#: What a column can hold, as JSON.
Value = str | int | float | None
Row = Sequence[Any]

# Few different statements, so that SQLite's prepared ones are used again. One takes at most 32,766 parameters.
_ROWS_AT_A_TIME = (256, 32, 4, 1)


class Transaction:
    """Statements on one connection, each for a whole batch."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def rows(self, columns: str, rest: str, *parameters: Value) -> list[Row]:
        """The rows of `SELECT columns rest`, for many: they are read as one JSON value, in which numbers have 15 digits."""
        try:
            (found,) = self._connection.execute(f"SELECT json_group_array(json_array({columns})) {rest}", parameters)
            rows: list[Row] = json.loads(found[0])
        except (sqlite3.OperationalError, ValueError):
            # There is something that JSON can't hold: a blob, an infinite number, text that is not UTF-8.
            return self.plain_rows(f"SELECT {columns} {rest}", *parameters)
        return rows

    def plain_rows(self, sql: str, *parameters: Value) -> list[Row]:
        """The rows of a query, for few, with exact numbers. Text that is not UTF-8 comes as bytes."""
        try:
            return self._connection.execute(sql, parameters).fetchall()
        except sqlite3.OperationalError as error:
            if "decode" not in str(error):
                raise
        self._connection.text_factory = _text_or_bytes
        try:
            return self._connection.execute(sql, parameters).fetchall()
        finally:
            self._connection.text_factory = str

    def insert(self, head: str, rows: Sequence[Row], tail: str = "") -> None:
        """Run `head VALUES (…), (…) tail` over all rows."""
        done = 0
        for size in _ROWS_AT_A_TIME:
            while len(rows) - done >= size:
                columns = list(zip(*rows[done : done + size], strict=True))
                # `sqlite3` takes longer for a None than for any other value, and many columns hold nothing else.
                bound = tuple([column[0] is not None or column.count(None) < size for column in columns])
                given = zip(*compress(columns, bound), strict=True)
                self._connection.execute(_insertion(head, bound, size, tail), list(chain.from_iterable(given)))
                done += size

    def execute(self, sql: str, *parameters: Value) -> int:
        """Run a statement; returns how many rows it changed."""
        return self._connection.execute(sql, parameters).rowcount


class NoRows(Transaction):
    """Reads from a file that does not exist."""

    def __init__(self) -> None: ...

    def rows(self, columns: str, rest: str, *parameters: Value) -> list[Row]:
        return []

    def plain_rows(self, sql: str, *parameters: Value) -> list[Row]:
        return []


def _text_or_bytes(value: bytes) -> str | bytes:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value


@lru_cache(maxsize=64)
def _insertion(head: str, bound: tuple[bool, ...], rows: int, tail: str) -> str:
    row = f"({','.join('?' if is_bound else 'NULL' for is_bound in bound)})"
    return f"{head} VALUES {','.join([row] * rows)} {tail}"


def as_json(rows: Sequence[object]) -> str:
    """A batch as one parameter."""
    return json.dumps(rows, ensure_ascii=False)
