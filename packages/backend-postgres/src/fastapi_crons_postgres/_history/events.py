"""Events and signals of all instances. Rows are the truth; a notification only wakes who waits for them."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Sequence
from hashlib import blake2b
from time import time
from uuid import uuid4

import asyncpg

from fastapi_crons.errors import StoreError, StoreUnavailableError
from fastapi_crons.run import Run
from fastapi_crons.state.base import Event, Record, Signal
from fastapi_crons.state.checks import Damage
from fastapi_crons_postgres._batch import fit
from fastapi_crons_postgres._connection import Connection, Driver
from fastapi_crons_postgres._history.rows import MISSED_COLUMNS, RUN_COLUMNS, missed_of, runs_of

logger = logging.getLogger("fastapi_crons.postgres")

#: How often (seconds) is asked for events where notifications wake, and where they don't, as behind a pooler.
_AT_LEAST, _POLLED = 5.0, 0.5
#: How long (seconds) the row of a subscriber is valid, and after how long it is renewed.
_VALID, _RENEWED = 30.0, 10.0
#: How long (seconds) events are kept, and how long a notification to ourselves may take.
_KEPT, _HEARD = 60.0, 1.0
_AT_A_TIME = 1_000


class Events:
    """What one namespace tells, and hears."""

    def __init__(self, connection: Connection, namespace: str, damage: Damage) -> None:
        self._connection, self._namespace, self._damage = connection, namespace, damage
        digest = blake2b(f"fastapi-crons events {connection.schema} {namespace}".encode(), digest_size=8).digest()
        self._order = int.from_bytes(digest, "big", signed=True)
        self.channel = f"crons_{digest.hex()}"
        self._schema = connection.schema

    async def are_wanted(self, driver: Driver) -> bool:
        """Whether somebody subscribes to records."""
        found: bool = await driver.fetchval(
            f"SELECT EXISTS (SELECT 1 FROM {self._schema}.crons_listener WHERE namespace = $1 "
            "AND until_ts > extract(epoch FROM clock_timestamp()))",
            fit(self._namespace),
        )
        return found

    async def publish(self, driver: Driver, ids: Sequence[str], signal: Signal | None = None) -> None:
        """Tell of records, or of a signal, as the last thing that a transaction does."""
        # Numbers are given out in the order in which transactions are committed: one by one.
        await driver.execute(f"SELECT pg_advisory_xact_lock({self._order})")
        await driver.execute(
            f"INSERT INTO {self._schema}.crons_event (namespace, record_id, signal, told_ts) "
            "SELECT $1, record_id, signal, extract(epoch FROM clock_timestamp()) "
            "FROM unnest($2::text[], $3::text[]) WITH ORDINALITY AS new (record_id, signal, number) ORDER BY number",
            fit(self._namespace),
            [*ids] if signal is None else [None],
            [None] * len(ids) if signal is None else [json.dumps(signal)],
        )
        await driver.execute(f"NOTIFY {self.channel}")

    async def subscribe(self, *, records: bool) -> AsyncGenerator[Event, None]:
        """What is told from now on. Raises `StoreUnavailableError`."""
        subscriber, woken = str(uuid4()), asyncio.Event()
        newest, until = await self._begin(subscriber, records=records)
        try:
            interval = _AT_LEAST if await self._is_woken(woken) else _POLLED
            while True:
                woken.clear()
                rows = await self._told(newest, records=records)
                for row in rows:
                    newest = row["seq"]
                for event in await self._events(rows):
                    yield event
                if len(rows) == _AT_A_TIME:
                    continue
                left = until - time()
                if records and left < 0:
                    raise StoreUnavailableError(
                        f"events of {self._connection.place} have ended: the subscriber was too slow, it did not ask for "
                        f"{_VALID:g} s"
                    )
                if records and not _VALID - _RENEWED <= left <= _VALID:
                    until = await self._renew(subscriber)
                await self._connection.listen(self.channel, woken)
                try:
                    await asyncio.wait_for(woken.wait(), interval)
                except asyncio.TimeoutError:
                    continue
        finally:
            self._connection.unlisten(self.channel, woken)
            if records:
                await self._end(subscriber)

    async def _begin(self, subscriber: str, *, records: bool) -> tuple[int, float]:
        async def work(driver: Driver) -> int:
            if records:
                await driver.execute(
                    f"INSERT INTO {self._schema}.crons_listener (namespace, id, until_ts) "
                    f"VALUES ($1, $2, extract(epoch FROM clock_timestamp()) + {_VALID})",
                    fit(self._namespace),
                    subscriber,
                )
            # What is being committed at this moment has begun before.
            await driver.execute(f"SELECT pg_advisory_xact_lock({self._order})")
            newest: int = await driver.fetchval(f"SELECT coalesce(max(seq), 0) FROM {self._schema}.crons_event")
            return newest

        return await self._connection.write(work), time() + _VALID

    async def _is_woken(self, woken: asyncio.Event) -> bool:
        """Whether notifications arrive: a pooler may take them."""
        await self._connection.listen(self.channel, woken)
        await self._connection.notify_from_elsewhere(self.channel)
        try:
            await asyncio.wait_for(woken.wait(), _HEARD)
        except asyncio.TimeoutError:
            logger.debug("%s sends no notifications; it is asked every %g s", self._connection.place, _POLLED)
            return False
        return True

    async def _renew(self, subscriber: str) -> float:
        async def work(driver: Driver) -> None:
            done = await driver.execute(
                f"UPDATE {self._schema}.crons_listener SET until_ts = extract(epoch FROM clock_timestamp()) + {_VALID} "
                "WHERE namespace = $1 AND id = $2",
                fit(self._namespace),
                subscriber,
            )
            if done == "UPDATE 0":
                raise StoreUnavailableError(f"events of {self._connection.place} have ended: its records were lost")

        await self._connection.write(work)
        return time() + _VALID

    async def _end(self, subscriber: str) -> None:
        async def work(driver: Driver) -> None:
            await driver.execute(
                f"DELETE FROM {self._schema}.crons_listener WHERE namespace = $1 AND id = $2",
                fit(self._namespace),
                subscriber,
            )

        try:
            await self._connection.write(work)
        except StoreError as error:
            logger.debug("the row of a subscriber was not deleted: %s", error)

    async def _told(self, newest: int, *, records: bool) -> list[asyncpg.Record]:
        kinds = "" if records else "AND signal IS NOT NULL"
        return await self._connection.rows(
            f"SELECT seq, record_id, signal FROM {self._schema}.crons_event WHERE namespace = $1 AND seq > $2 {kinds} "
            f"ORDER BY seq LIMIT {_AT_A_TIME}",
            fit(self._namespace),
            newest,
        )

    async def _events(self, rows: Sequence[asyncpg.Record]) -> list[Event]:
        """What rows tell of, each record once; what was deleted since is left out."""
        ids = list(dict.fromkeys(row["record_id"] for row in rows if row["record_id"] is not None))
        found: dict[str, list[Record]] = {}
        if ids:
            for columns, table in ((RUN_COLUMNS, "crons_run"), (MISSED_COLUMNS, "crons_missed")):
                of_table = await self._connection.rows(
                    f"SELECT {columns} FROM {self._schema}.{table} WHERE namespace = $1 AND id = ANY ($2)",
                    fit(self._namespace),
                    ids,
                )
                records: Sequence[Record] = (
                    runs_of(of_table, self._damage) if table == "crons_run" else missed_of(of_table, self._damage)
                )
                for record in records:
                    # A run that was vetoed has a record of each kind.
                    found.setdefault(record.id, []).append(record)
        events: list[Event] = []
        for row in rows:
            if row["signal"] is not None:
                events.append(Signal(*json.loads(row["signal"])))
            else:
                events += found.pop(row["record_id"], [])
        return events


async def clean_up(driver: Driver, schema: str) -> None:
    """Delete what no subscriber will ask for: processes that were killed leave it."""
    now = "extract(epoch FROM clock_timestamp())"
    # A clock that was set back leaves instants far ahead.
    await driver.execute(f"DELETE FROM {schema}.crons_listener WHERE abs(until_ts - {now}) > {_VALID}")
    await driver.execute(f"DELETE FROM {schema}.crons_event WHERE abs(told_ts - {now}) > {_KEPT}")


def to_be_told(records: Sequence[Record], running: set[str]) -> list[str]:
    """The ids of records that subscribers hear of: of runs, when they begin and end. `running` are those on record before."""
    return [
        record.id
        for record in records
        if not (isinstance(record, Run) and record.status == "running" and record.id in running)
    ]
