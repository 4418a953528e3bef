"""The driver's connection, on which a statement with parameters takes one round trip, also behind a pooler."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import asyncpg
from asyncpg.prepared_stmt import PreparedStatement

#: What a name is made of: printable ASCII, without what ends a text in SQL.
_OF_NAMES = frozenset(map(chr, range(32, 127))) - {"'", "\\"}
#: Of so many statements a connection knows the types.
_MOST = 100


class Driver:
    """A connection of the driver.

    The driver asks for the types of a statement before it sends parameters. What it was told is kept here by the statement's
    text; from the second time on all is sent at once. Nothing of it is kept by the server, since the statement has no name:
    a pooler may put each transaction on another connection to the server.
    """

    def __init__(self, connection: asyncpg.Connection[asyncpg.Record]) -> None:
        self._connection = connection
        #: What is said within each transaction.
        self._within: tuple[str, ...] = ()
        self._known_by_text: OrderedDict[str, PreparedStatement[asyncpg.Record]] = OrderedDict()

    @classmethod
    async def connect(cls, url: str, *, timeout: float, command_timeout: float) -> Driver:
        """Connect within `timeout` seconds. No statement takes longer than `command_timeout`."""
        connection = await asyncpg.connect(
            url,
            timeout=timeout,
            command_timeout=command_timeout,
            # Statements that are kept by name break behind a pooler.
            statement_cache_size=0,
            # As servers spell it: PgBouncer would set the driver's 'utf-8' before each transaction, as if it were another one.
            server_settings={"client_encoding": "UTF8"},
        )
        return cls(connection)

    async def is_behind_a_pooler(self) -> bool:
        """Whether something stands between: it says a number of its own in place of the server's process."""
        pid = self._connection.get_server_pid()
        return await self._connection.execute(f"SELECT 1 WHERE pg_backend_pid() = {pid}") == "SELECT 0"

    async def introduce(self, name: str) -> None:
        """Have `pg_stat_activity` show this name. Behind a pooler it does while a transaction goes on."""
        # The server cuts it off at 63 bytes, and shows only these characters.
        name = "".join(each if each in _OF_NAMES else "?" for each in name)[:63]
        # A pooler says a number of its own in place of the server's process.
        pid = self._connection.get_server_pid()
        set_it = f"SELECT set_config('application_name', '{name}', false) WHERE pg_backend_pid() = {pid}"
        if await self._connection.execute(set_it) == "SELECT 0":
            # For the next transaction of another client it would have to be set back.
            self._within = (f"SET LOCAL application_name = '{name}'",)

    async def begin(self, how: str, *statements: str) -> None:
        """Begin a transaction, and do what it begins with."""
        await self._connection.execute("; ".join((how, *self._within, *statements)))

    async def fetch(self, statement: str, *parameters: object) -> list[asyncpg.Record]:
        return await (await self._known(statement)).fetch(*parameters)

    async def fetchrow(self, statement: str, *parameters: object) -> asyncpg.Record | None:
        return await (await self._known(statement)).fetchrow(*parameters)

    async def fetchval(self, statement: str, *parameters: object) -> Any:  # what it is depends on the statement
        return await (await self._known(statement)).fetchval(*parameters)

    async def execute(self, statement: str, *parameters: object) -> str | None:
        """What the server says was done. Without parameters these may be several statements."""
        if not parameters:
            return await self._connection.execute(statement)
        known = await self._known(statement)
        await known.fetch(*parameters)
        return known.get_statusmsg()

    async def _known(self, statement: str) -> PreparedStatement[asyncpg.Record]:
        known = self._known_by_text.get(statement)
        if known is None:
            known = self._known_by_text[statement] = await self._connection.prepare(statement, name="")
            if len(self._known_by_text) > _MOST:
                self._known_by_text.popitem(last=False)
        self._known_by_text.move_to_end(statement)
        return known

    @property
    def major(self) -> int:
        """The major version of the server."""
        return self._connection.get_server_version().major

    @property
    def encoding(self) -> str:
        """How the database keeps texts; empty where a pooler does not say."""
        encoding: str = getattr(self._connection.get_settings(), "server_encoding", "")
        return encoding

    async def add_listener(self, channel: str, heard: Callable[[object, int, str, object], None]) -> None:
        """Call `heard` with each notification on a channel; its third argument is the channel."""
        await self._connection.add_listener(channel, heard)

    def add_termination_listener(self, lost: Callable[[object], None]) -> None:
        """Call `lost` when the connection is closed, by whomever."""
        self._connection.add_termination_listener(lost)

    def is_closed(self) -> bool:
        return self._connection.is_closed()

    async def close(self, timeout: float) -> None:
        await self._connection.close(timeout=timeout)

    def terminate(self) -> None:
        """Close it at once, without waiting for what is being done."""
        self._connection.terminate()
