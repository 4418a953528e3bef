"""Events across the processes of a host, through the file.

Who listens says so in the file; while somebody does, writers leave there what they wrote, and listeners look for it.
Transactions follow one another, so what is left there has the order in which it was committed, and nothing is overtaken.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Iterator, Sequence
from time import time
from uuid import uuid4

from fastapi_crons._util.damage import Damage
from fastapi_crons.errors import StoreError, StoreUnavailableError
from fastapi_crons.state.base import Event
from fastapi_crons_sqlite._database import Database
from fastapi_crons_sqlite._names import Names
from fastapi_crons_sqlite._rows import MISSED_COLUMNS, RUN_COLUMNS, missed_of, run_of
from fastapi_crons_sqlite._transaction import Row, Transaction, as_json

logger = logging.getLogger("fastapi_crons.sqlite")

#: How often (seconds) a listener looks.
_INTERVAL = 0.5
#: For how long (seconds) a listener is told after it has said that it listens, and after how long it says so again.
_LASTS, _SAID_AGAIN = 30.0, 10.0
#: For how long (seconds) what was told is kept.
_KEPT = 60.0
_AT_A_TIME = 1_000
#: Numbers beyond are damaged. Behind the last number that there is SQLite would take the disk for full.
_LAST = 2**62

_TELL = """
    INSERT INTO job_event (namespace, record_id, told_ts) SELECT ?, value, ? FROM json_each(?)
    WHERE EXISTS (SELECT 1 FROM job_listener WHERE namespace = ? AND until_ts > ?)"""


def _of(table: str, columns: str) -> str:
    return ", ".join(f"{table}.{column}" for column in columns.split(", "))


_TOLD = f"""
    SELECT event.seq, event.record_id, {_of("run", RUN_COLUMNS)}, {_of("missed", MISSED_COLUMNS)} FROM job_event AS event
    LEFT JOIN job_run AS run ON run.id = event.record_id LEFT JOIN job_missed AS missed ON missed.id = event.record_id
    WHERE event.seq > ? AND event.namespace = ? ORDER BY event.seq LIMIT {_AT_A_TIME}"""
_MISSED_AT = 2 + len(RUN_COLUMNS.split(", "))
#: What a file holds at first, in the form of `_TOLD`. Ids are in the order of time.
_WRITTEN = f"""
    SELECT 0, noted.id, {_of("run", RUN_COLUMNS)}, {_of("missed", MISSED_COLUMNS)}
    FROM (SELECT id FROM job_run UNION SELECT id FROM job_missed) AS noted
    LEFT JOIN job_run AS run ON run.id = noted.id LEFT JOIN job_missed AS missed ON missed.id = noted.id
    ORDER BY noted.id LIMIT {_AT_A_TIME}"""


def tell(transaction: Transaction, namespace: str, ids: Sequence[str]) -> None:
    """Tell whoever listens in this namespace of the records that are written in this transaction."""
    now = time()
    transaction.execute("DELETE FROM job_event WHERE seq > ?", _LAST)
    transaction.execute("UPDATE sqlite_sequence SET seq = 0 WHERE name = 'job_event' AND seq > ?", _LAST)
    transaction.execute(_TELL, namespace, now, as_json(ids), namespace, now)


def clean_up(transaction: Transaction) -> None:
    """Delete what nobody will ask for any more: those who were killed while they listened leave it behind."""
    now = time()
    # A clock that was put back leaves instants far ahead.
    transaction.execute("DELETE FROM job_listener WHERE abs(until_ts - ?) > ?", now, _LASTS)
    transaction.execute(
        "DELETE FROM job_event WHERE abs(told_ts - ?) > ? OR NOT EXISTS (SELECT 1 FROM job_listener)", now, _KEPT
    )


async def listen(database: Database, namespace: str, damage: Damage) -> AsyncGenerator[Event, None]:
    """What is written from now on. Raises `StoreUnavailableError`."""
    listener, names = str(uuid4()), Names(namespace)

    def begin(transaction: Transaction) -> tuple[float, int, Sequence[Row]]:
        until = time() + _LASTS
        transaction.insert("INSERT INTO job_listener (id, namespace, until_ts)", [[listener, namespace, until]])
        ((newest,),) = transaction.plain_rows("SELECT coalesce(max(seq), 0) FROM job_event")
        # All that is in a file that was not there is new, though nobody was told: nobody could say that they listen.
        return until, newest, () if was_there else transaction.plain_rows(_WRITTEN)

    def go_on(transaction: Transaction) -> float:
        now = time()
        until = now + _LASTS
        if not transaction.execute("UPDATE job_listener SET until_ts = ? WHERE id = ?", until, listener):
            raise StoreUnavailableError(f"{database.path} can't be listened to: it is not the file that it was")
        clean_up(transaction)
        return until

    def end(transaction: Transaction) -> None:
        transaction.execute("DELETE FROM job_listener WHERE id = ?", listener)
        clean_up(transaction)

    was_there = database.is_there
    while not database.is_there:  # noqa: ASYNC110 - no event says that another process has made a file
        await asyncio.sleep(_INTERVAL)
    seen = None
    try:
        until, heard, written = await database.write(begin)
        for event in _events(written, names, damage):
            yield event
        while True:
            left = until - time()
            if left < 0:
                raise StoreUnavailableError(
                    f"{database.path} can't be listened to: the listener was too slow, it did not ask for {_LASTS:g} s"
                )
            if not _LASTS - _SAID_AGAIN <= left <= _LASTS:
                until = await database.write(go_on)
            # Costs next to nothing, and changes whenever another connection has written.
            ((version,),) = await database.plain_rows("PRAGMA data_version")
            if version != seen:
                rows = await database.plain_rows(_TOLD, heard, namespace)
                for event in _events(rows, names, damage):
                    yield event
                heard = rows[-1][0] if rows else heard
                if len(rows) == _AT_A_TIME:
                    continue
                seen = version
            await asyncio.sleep(_INTERVAL)
    finally:
        try:
            await database.write(end)
        except StoreError as error:
            logger.debug("a listener did not say that it has gone: %s", error)


def _events(rows: Sequence[Row], names: Names, damage: Damage) -> Iterator[Event]:
    """The records of rows, each once; what was deleted since is left out."""
    for row in {row[1]: row for row in rows}.values():
        run, missed = row[2:_MISSED_AT], row[_MISSED_AT:]
        job = names.own(run[1] or missed[1] or "")
        # A run that was vetoed has a record of each kind.
        if job and run[0] and (told := run_of(run, job, damage)) is not None:
            yield told
        if job and missed[0] and (let_go := missed_of(missed, job, damage)) is not None:
            yield let_go
