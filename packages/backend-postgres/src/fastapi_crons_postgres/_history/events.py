"""Events and signals of all instances. Rows are the truth; a notification only wakes who waits for them."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Sequence
from hashlib import blake2b
from time import monotonic, time
from uuid import uuid4

import asyncpg

from fastapi_crons.errors import StoreError, StoreUnavailableError
from fastapi_crons.run import Run
from fastapi_crons.state.base import Event, Record, Signal
from fastapi_crons.state.checks import Damage
from fastapi_crons_postgres._batch import fit
from fastapi_crons_postgres._connection import Connection
from fastapi_crons_postgres._driver import Driver
from fastapi_crons_postgres._history.rows import MISSED_COLUMNS, RUN_COLUMNS, missed_of, runs_of

logger = logging.getLogger("fastapi_crons.postgres")

#: How often (seconds) is asked for events where notifications wake, and where they don't, as behind a pooler.
_AT_LEAST, _POLLED = 5.0, 0.5
#: How long (seconds) the row of a subscriber is valid, and after how long it is renewed.
_VALID, _RENEWED = 30.0, 10.0
#: How long (seconds) events are kept, and how long, at least, lies between two questions for them.
_KEPT, _BETWEEN = 60.0, 0.25
_AT_A_TIME = 1_000


class Events:
    """What one namespace tells, and hears."""

    def __init__(self, connection: Connection, namespace: str, damage: Damage) -> None:
        self._connection, self._namespace, self._damage = connection, namespace, damage
        named = f"fastapi-crons events {connection.schema} {fit(namespace)}"
        digest = blake2b(named.encode(), digest_size=8).digest()
        self._order = int.from_bytes(digest, "big", signed=True)
        #: Records have a channel of their own: of most instances, nobody wants them.
        self._of_signals = f"crons_{digest.hex()}"
        self._of_records = f"{self._of_signals}_records"
        self._schema = connection.schema

    @property
    def _newest(self) -> str:
        """The newest number of the namespace (SQL, in which `$1` is it): others' are in no order with ours."""
        return f"(SELECT coalesce(max(seq), 0) FROM {self._schema}.crons_event WHERE namespace = $1)"

    @property
    def are_wanted(self) -> str:
        """The question (SQL, in which `$1` is the namespace) whether somebody subscribes to records."""
        return (
            f"EXISTS (SELECT 1 FROM {self._schema}.crons_listener WHERE namespace = $1 "
            "AND until_ts > extract(epoch FROM clock_timestamp()))"
        )

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
        await driver.execute(f"NOTIFY {self._of_records if signal is None else self._of_signals}")

    async def subscribe(self, *, records: bool) -> AsyncGenerator[Event, None]:
        """What is told from now on. Raises `StoreUnavailableError`."""
        subscriber, woken = str(uuid4()), asyncio.Event()
        channels = [self._of_signals, self._of_records] if records else [self._of_signals]
        newest, until = await self._begin(subscriber, records=records)
        try:
            interval, again = await self._listen(channels, woken), monotonic() + _RENEWED
            while True:
                if interval == _POLLED and monotonic() >= again:  # a slow server may not have been heard in time
                    interval, again = await self._listen(channels, woken), monotonic() + _RENEWED
                woken.clear()
                asked = monotonic()
                newest, events, is_all = await self._told(newest, records=records)
                for event in events:
                    yield event
                if not is_all:
                    continue
                left = until - time()
                if records and left < 0:
                    raise StoreUnavailableError(
                        f"events of {self._connection.place} have ended: the subscriber was too slow, it did not ask for "
                        f"{_VALID:g} s"
                    )
                if records and not _VALID - _RENEWED <= left <= _VALID:
                    until = await self._renew(subscriber)
                try:
                    await asyncio.wait_for(woken.wait(), interval)
                except asyncio.TimeoutError:
                    continue
                await asyncio.sleep(max(0.0, asked + _BETWEEN - monotonic()))
        finally:
            for channel in channels:
                self._connection.unlisten(channel, woken)
            if records:
                await self._end(subscriber)

    async def _listen(self, channels: Sequence[str], woken: asyncio.Event) -> float:
        """Have notifications wake, where they arrive; how often (seconds) events are to be asked for."""
        if not await self._connection.hears():
            logger.debug("%s sends no notifications; it is asked every %g s", self._connection.place, _POLLED)
            return _POLLED
        for channel in channels:
            await self._connection.listen(channel, woken)
        return _AT_LEAST

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
            newest: int = await driver.fetchval(f"SELECT {self._newest}", fit(self._namespace))
            return newest

        return await self._connection.write(work), time() + _VALID

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

    async def _told(self, newest: int, *, records: bool) -> tuple[int, list[Event], bool]:
        """The newest number, what was told since, and whether that is all."""

        async def work(driver: Driver) -> tuple[int, list[Event], bool]:
            # A failover may have lost the newest numbers, which are then given out again.
            latest, *others = await driver.fetch(
                f"SELECT {self._newest} AS latest, told.* FROM (VALUES (1)) AS one LEFT JOIN ("
                f"SELECT seq, record_id, signal FROM {self._schema}.crons_event WHERE namespace = $1 AND seq > $2 "
                f"{'' if records else 'AND signal IS NOT NULL'} ORDER BY seq LIMIT {_AT_A_TIME}) AS told ON true ORDER BY seq",
                fit(self._namespace),
                newest,
            )
            rows = [] if latest["seq"] is None else [latest, *others]
            events = await self._events(driver, rows)
            is_all = len(rows) < _AT_A_TIME
            return latest["latest"] if is_all else rows[-1]["seq"], events, is_all

        return await self._connection.read(work)

    async def _events(self, driver: Driver, rows: Sequence[asyncpg.Record]) -> list[Event]:
        """What rows tell of, each record once; what was deleted since is left out."""
        ids = list(dict.fromkeys(row["record_id"] for row in rows if row["record_id"] is not None))
        found: dict[str, list[Record]] = {}
        if ids:
            where = "WHERE namespace = $1 AND id = ANY ($2)"
            of = [fit(self._namespace), ids]
            runs = await driver.fetch(f"SELECT {RUN_COLUMNS} FROM {self._schema}.crons_run {where}", *of)
            missed = await driver.fetch(f"SELECT {MISSED_COLUMNS} FROM {self._schema}.crons_missed {where}", *of)
            records: list[Record] = [*runs_of(runs, self._damage), *missed_of(missed, self._damage)]
            # A run that was vetoed has a record of each kind.
            for record in records:
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
