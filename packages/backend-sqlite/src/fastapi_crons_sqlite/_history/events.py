"""Events across the processes of a host, through the file.

Subscribers have a row in the file. While there is one, each write adds the ids of its records to a table that subscribers read.
Transactions never overlap, so the ids are in the order in which the records were committed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Iterator, Sequence
from time import time
from uuid import uuid4

from fastapi_crons.errors import StoreError, StoreUnavailableError
from fastapi_crons.run import Run
from fastapi_crons.state.base import Event, Record
from fastapi_crons.state.checks import Damage
from fastapi_crons_sqlite._database import Database
from fastapi_crons_sqlite._history.rows import MISSED_COLUMNS, RUN_COLUMNS, missed_of, run_of
from fastapi_crons_sqlite._names import Names
from fastapi_crons_sqlite._transaction import Row, Transaction, as_json

logger = logging.getLogger("fastapi_crons.sqlite")

#: How often (seconds) a subscriber reads.
_INTERVAL = 0.5
#: How long (seconds) the row of a subscriber is valid, and after how long it is renewed.
_VALID, _RENEWED = 30.0, 10.0
#: How long (seconds) events are kept.
_KEPT = 60.0
_AT_A_TIME = 1_000
#: Greater numbers are damaged. After the greatest number of all SQLite would take the disk for full.
_LAST = 2**62

#: Of the runs that are running, the second list, those that are on record are not published again.
_PUBLISH = """
    INSERT INTO job_event (namespace, record_id, told_ts) SELECT ?, noted.value, ? FROM json_each(?) AS noted
    WHERE EXISTS (SELECT 1 FROM job_listener WHERE namespace = ? AND until_ts > ?)
    AND NOT (noted.value IN (SELECT value FROM json_each(?)) AND EXISTS (SELECT 1 FROM job_run WHERE id = noted.value))"""


def _of(table: str, columns: str) -> str:
    return ", ".join(f"{table}.{column}" for column in columns.split(", "))


_PUBLISHED = f"""
    SELECT event.seq, event.record_id, {_of("run", RUN_COLUMNS)}, {_of("missed", MISSED_COLUMNS)} FROM job_event AS event
    LEFT JOIN job_run AS run ON run.id = event.record_id LEFT JOIN job_missed AS missed ON missed.id = event.record_id
    WHERE event.seq > ? AND event.namespace = ? ORDER BY event.seq LIMIT {_AT_A_TIME}"""
_MISSED_AT = 2 + len(RUN_COLUMNS.split(", "))
#: All that a new file holds, in the form of `_PUBLISHED`. Ids are in the order of time.
_WRITTEN = f"""
    SELECT 0, noted.id, {_of("run", RUN_COLUMNS)}, {_of("missed", MISSED_COLUMNS)}
    FROM (SELECT id FROM job_run UNION SELECT id FROM job_missed) AS noted
    LEFT JOIN job_run AS run ON run.id = noted.id LEFT JOIN job_missed AS missed ON missed.id = noted.id
    ORDER BY noted.id LIMIT {_AT_A_TIME}"""


def publish(transaction: Transaction, namespace: str, records: Sequence[Record]) -> None:
    """Let subscribers of this namespace know of the records that this transaction is about to write."""
    now = time()
    ids = [record.id for record in records]
    running = [record.id for record in records if isinstance(record, Run) and record.status == "running"]
    transaction.execute("DELETE FROM job_event WHERE seq > ?", _LAST)
    transaction.execute("UPDATE sqlite_sequence SET seq = 0 WHERE name = 'job_event' AND seq > ?", _LAST)
    transaction.execute(_PUBLISH, namespace, now, as_json(ids), namespace, now, as_json(running))


def clean_up(transaction: Transaction) -> None:
    """Delete what no subscriber will ask for: processes that were killed leave it."""
    now = time()
    # A clock that was set back leaves instants far ahead.
    transaction.execute("DELETE FROM job_listener WHERE abs(until_ts - ?) > ?", now, _VALID)
    transaction.execute(
        "DELETE FROM job_event WHERE abs(told_ts - ?) > ? OR NOT EXISTS (SELECT 1 FROM job_listener)", now, _KEPT
    )


async def subscribe(database: Database, namespace: str, damage: Damage) -> AsyncGenerator[Event, None]:
    """What is written from now on. Raises `StoreUnavailableError`."""
    subscriber, names = str(uuid4()), Names(namespace)

    def begin(transaction: Transaction) -> tuple[float, int, Sequence[Row]]:
        until = time() + _VALID
        transaction.insert("INSERT INTO job_listener (id, namespace, until_ts)", [[subscriber, namespace, until]])
        ((newest,),) = transaction.plain_rows("SELECT coalesce(max(seq), 0) FROM job_event")
        # In a file that was not there before all is new, though none of it was published.
        return until, newest, () if was_there else transaction.plain_rows(_WRITTEN)

    def renew(transaction: Transaction) -> float:
        now = time()
        until = now + _VALID
        if not transaction.execute("UPDATE job_listener SET until_ts = ? WHERE id = ?", until, subscriber):
            raise StoreUnavailableError(f"events of {database.path} have ended: the file was replaced")
        clean_up(transaction)
        return until

    def end(transaction: Transaction) -> None:
        transaction.execute("DELETE FROM job_listener WHERE id = ?", subscriber)
        clean_up(transaction)

    was_there = database.is_there
    while not database.is_there:  # noqa: ASYNC110 - no event says that another process has made a file
        await asyncio.sleep(_INTERVAL)
    seen = None
    try:
        until, newest, written = await database.write(begin)
        for event in _events(written, names, damage):
            yield event
        while True:
            left = until - time()
            if left < 0:
                raise StoreUnavailableError(
                    f"events of {database.path} have ended: the subscriber was too slow, it did not ask for {_VALID:g} s"
                )
            if not _VALID - _RENEWED <= left <= _VALID:
                until = await database.write(renew)
            # Costs next to nothing, and changes whenever another connection has written.
            ((version,),) = await database.plain_rows("PRAGMA data_version")
            if version != seen:
                rows = await database.plain_rows(_PUBLISHED, newest, namespace)
                for event in _events(rows, names, damage):
                    yield event
                newest = rows[-1][0] if rows else newest
                if len(rows) == _AT_A_TIME:
                    continue
                seen = version
            await asyncio.sleep(_INTERVAL)
    finally:
        try:
            await database.write(end)
        except StoreError as error:
            logger.debug("the row of a subscriber was not deleted: %s", error)


def _events(rows: Sequence[Row], names: Names, damage: Damage) -> Iterator[Event]:
    """The records of rows, each once; what was deleted since is left out."""
    for row in {row[1]: row for row in rows}.values():
        run, missed = row[2:_MISSED_AT], row[_MISSED_AT:]
        job = names.own(run[1] or missed[1] or "")
        # A run that was vetoed has a record of each kind.
        if job and run[0] and (found := run_of(run, job, damage)) is not None:
            yield found
        if job and missed[0] and (ticks := missed_of(missed, job, damage)) is not None:
            yield ticks
