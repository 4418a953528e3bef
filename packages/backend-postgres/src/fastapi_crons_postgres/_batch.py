"""Writes that are sent together, as one statement."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import repeat
from operator import contains
from typing import Any

from fastapi_crons_postgres._driver import Driver

#: The largest whole number that is written: the server can still subtract any two. No record that can be read has larger ones.
_MOST = 2**62 - 1


def fit(value: object) -> object:
    """A value as the server takes it: a text with NUL and lone surrogates escaped, a whole number within its bounds."""
    if type(value) is int:
        return max(-_MOST, min(value, _MOST))
    if isinstance(value, str) and not value.isascii():
        value = value.encode("utf-8", "backslashreplace").decode()
    return value.replace("\x00", "\\x00") if isinstance(value, str) and "\x00" in value else value


def in_array(number: int, kind: str) -> str:
    """The parameter of this number, as `texts_of` gives it, as an array of a type.

    Of arrays other than of texts the driver would first ask the server how they are made: on each connection, four round
    trips, for which a transaction would hold its locks.
    """
    return f"${number}::text[]" if kind == "text" else f"${number}::text[]::{kind}[]"


def texts_of(column: Sequence[Any], kind: str) -> Sequence[str | None] | None:
    """The values of a column as the server takes them; None, which `unnest` fills up, where it has no value."""
    known = [value for value in column if value is not None]
    if not known:
        return None
    # Texts are nearly always so already: all are looked at together.
    if kind == "text" and all(map(str.isascii, known)) and not any(map(contains, known, repeat("\x00"))):
        return column
    return [None if value is None else str(fit(value)) for value in column]


class Batch:
    """What one transaction writes to the tables of a namespace. No row may be written twice."""

    def __init__(self, schema: str, namespace: str) -> None:
        self._schema = schema
        self.namespace = fit(namespace)
        #: The parameters of what is to be sent. The first is the namespace, `$1`.
        self.values: list[object] = [self.namespace]
        self._parts: list[str] = []

    def table(self, name: str) -> str:
        return f"{self._schema}.{name}"

    def put(
        self,
        table: str,
        types: Mapping[str, str],
        key: Sequence[str],
        rows: Collection[Sequence[object]],
        otherwise: str | None = None,
    ) -> None:
        """Insert rows, in the order of `types`. Where one with the same key is there, `otherwise` says how that `old` one is
        changed by the `excluded` one; by default the new one takes its place."""
        if rows:
            self._parts.append(self.insertion(table, types, key, rows, otherwise))

    def insertion(
        self,
        table: str,
        types: Mapping[str, str],
        key: Sequence[str],
        rows: Collection[Sequence[object]],
        otherwise: str | None = None,
    ) -> str:
        """The statement of `put`, whose parameters are in `values`."""
        columns = ", ".join(types)
        sets = otherwise or ", ".join(f"{column} = excluded.{column}" for column in types if column not in key)
        return (
            f"INSERT INTO {self.table(table)} AS old (namespace, {columns}) SELECT $1, {columns} FROM "
            f"{self._unnested(types, rows)} ORDER BY {', '.join(key)} "
            f"ON CONFLICT (namespace, {', '.join(key)}) DO UPDATE SET {sets}"
        )

    def update(self, table: str, types: Mapping[str, str], key: str, rows: Collection[Sequence[object]]) -> None:
        """Change columns of the rows that are there with this key."""
        if rows:
            sets = ", ".join(f"{column} = new.{column}" for column in types if column != key)
            self._parts.append(
                f"UPDATE {self.table(table)} AS old SET {sets} FROM {self._unnested(types, rows)} "
                f"WHERE old.namespace = $1 AND old.{key} = new.{key}"
            )

    def delete(self, table: str, key: str, wanted: Collection[str]) -> None:
        """Delete the rows with these keys."""
        if wanted:
            self.values.append([*map(fit, wanted)])
            self._parts.append(
                f"DELETE FROM {self.table(table)} WHERE namespace = $1 AND {key} = ANY (${len(self.values)}::text[])"
            )

    async def send(self, connection: Driver, question: str = "") -> object:
        """Write all of it, and return the answer to a question (SQL, in which `$1` is the namespace) that is sent along."""
        if not self._parts and not question:
            return None
        parts = ", ".join(f"part{number} AS ({part})" for number, part in enumerate(self._parts))
        written = f"WITH {parts} " if parts else ""
        # Named, so that the server knows the type of a parameter that nothing else has.
        return await connection.fetchval(
            f"{written}SELECT {question or 'true'} WHERE $1::text IS NOT NULL", *self.values
        )

    def _unnested(self, types: Mapping[str, str], rows: Collection[Sequence[object]]) -> str:
        arrays = []
        for column, kind in zip(zip(*rows, strict=True), types.values(), strict=True):
            self.values.append(texts_of(column, kind))
            arrays.append(in_array(len(self.values), kind))
        return f"unnest({', '.join(arrays)}) AS new ({', '.join(types)})"
