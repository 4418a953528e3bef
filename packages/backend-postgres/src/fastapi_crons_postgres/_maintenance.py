"""What the command line does with the tables: makes them, prints what makes them, and finds out whether they can be used."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal, NamedTuple

from fastapi_crons.config import CronConfig
from fastapi_crons.errors import StoreError, StoreUnusableError
from fastapi_crons_postgres._connection import Connection
from fastapi_crons_postgres._driver import Driver
from fastapi_crons_postgres._layout import (
    LAYOUT_LOCK,
    READ_ONLY,
    SEQUENCE,
    TABLES,
    VERSION,
    grants,
    prepare,
    statements,
    usable_layout,
)
from fastapi_crons_postgres.settings import PREFIX, PostgresSettings

#: How long (seconds) making the tables may take: an index of a large table takes its time.
_PATIENCE = 1_800.0
_RIGHTS = ("SELECT", "INSERT", "UPDATE", "DELETE")
#: Which part of the connections may be in use before that is said.
_MANY = 0.8


@asynccontextmanager
async def _connected(patience: float) -> AsyncIterator[Connection]:
    connection = Connection(PostgresSettings(), patience)
    try:
        yield connection
    finally:
        await connection.close()


async def migrate(grant_to: str | None) -> str:
    """Bring the tables to our layout, and let a role use them; returns what was done."""
    async with _connected(_PATIENCE) as connection:
        found = await prepare(connection, may_change=True)
        said = f"{connection.place}, schema {connection.schema}: {_done(found)}"
        if grant_to is None:
            return said
        role = grant_to

        async def grant(driver: Driver) -> None:
            if not await driver.fetchval("SELECT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = $1)", role):
                raise StoreUnusableError(f"{connection.place} has no role {role!r}; make it, or check its name")
            for statement in grants(connection.schema, role):
                await driver.execute(statement)

        await connection.write(grant)
        return f"{said}; the role {role!r} may use them"


def _done(found: int) -> str:
    if not found:
        return f"the tables are made (layout {VERSION})"
    if found < VERSION:
        return f"the tables are brought from layout {found} to {VERSION}"
    newer = " of a newer version, which lets this one work" if found > VERSION else ""
    return f"the tables are up to date (layout {found}{newer})"


async def script(found: int | None, grant_to: str | None) -> str:
    """What makes the tables, or brings them from a layout to ours, as SQL. Without a layout, from that on record."""
    settings = PostgresSettings()
    schema = f'"{settings.db_schema}"'
    if found is None:
        async with _connected(CronConfig().store_timeout) as connection:
            found = await usable_layout(connection)
    parts: list[str] = []
    if found < VERSION:
        about = f"-- Tables of fastapi-crons-postgres in the schema {schema}, from layout {found} to {VERSION}."
        parts = [f"{about}\n-- Run all of it in one transaction.", LAYOUT_LOCK, *statements(schema, found)]
    else:
        parts = [f"-- The tables in the schema {schema} have the layout {found}: nothing is to be done."]
    parts += [] if grant_to is None else grants(schema, grant_to)
    return "\n\n".join(part if part.startswith("--") else f"{part};" for part in parts)


class Finding(NamedTuple):
    """One thing that was looked at."""

    name: str
    outcome: Literal["ok", "warning", "failed"]
    text: str


async def check() -> list[Finding]:
    """Whether the database can be used as it is."""
    async with _connected(CronConfig().store_timeout) as connection:
        try:
            return [finding async for finding in _findings(connection)]
        except StoreError as error:
            return [Finding("server", "failed", str(error))]


async def _findings(connection: Connection) -> AsyncIterator[Finding]:
    schema = connection.schema.strip('"')
    (server,) = await connection.rows(_SERVER, schema)
    if server["takes_no_writes"]:
        text = f"{connection.place} takes no writes: it is a replica, or was set to read only; name the primary in {PREFIX}URL"
        yield Finding("server", "failed", text)
    else:
        yield Finding("server", "ok", f"{connection.place}, version {server['version']}")
    if server["may_create"] is None:
        text = f"there is no schema {schema!r}; create it, or set {PREFIX}SCHEMA to one that is there"
        yield Finding("tables", "failed", text)
        return
    try:
        found = await usable_layout(connection)
    except StoreError as error:
        yield Finding("tables", "failed", str(error))
        return
    yield _tables(connection, found, may_create=server["may_create"])
    if found:
        yield await _rights(connection)
    yield await _notifications(connection)
    used, most = server["used"], server["most"]
    text = f"{used} of {most} are in use; an instance has 2, and another one while somebody asks"
    yield Finding("connections", "warning" if used > most * _MANY else "ok", text)


_SERVER = """
    SELECT split_part(current_setting('server_version'), ' ', 1) AS version,
        pg_is_in_recovery() OR current_setting('default_transaction_read_only') = 'on' AS takes_no_writes,
        (SELECT has_schema_privilege(oid, 'CREATE') FROM pg_namespace WHERE nspname = $1) AS may_create,
        (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend') AS used,
        current_setting('max_connections')::int AS most
"""


def _tables(connection: Connection, found: int, *, may_create: bool) -> Finding:
    where = f"in the schema {connection.schema}"
    if found >= VERSION:
        return Finding("tables", "ok", f"layout {found} {where}")
    what = f"layout {found} {where}, and this version needs {VERSION}" if found else f"none {where}"
    if PostgresSettings().migrate and may_create:
        return Finding("tables", "warning", f"{what}; the next scheduler that starts sees to that")
    return Finding("tables", "failed", f"{what}; {_to_migrate(connection)}")


def _to_migrate(connection: Connection) -> str:
    return f"as a role that may, run: fastapi-crons postgres migrate --grant {connection.place.user or 'ROLE'}"


async def _rights(connection: Connection) -> Finding:
    """Whether the role may do with the tables what an instance does."""
    wanted = [(table, right) for table in TABLES for right in _RIGHTS] + [(table, "SELECT") for table in READ_ONLY]
    missing = await connection.rows(
        "SELECT name, string_agg(wanted, ', ') AS rights FROM unnest($2::text[], $3::text[]) AS asked (name, wanted) "
        "WHERE NOT has_table_privilege($1 || '.' || name, wanted) GROUP BY name "
        "UNION ALL SELECT $4, 'USAGE' WHERE NOT has_sequence_privilege($1 || '.' || $4, 'USAGE') ORDER BY name",
        connection.schema,
        *map(list, zip(*wanted, strict=True)),
        SEQUENCE,
    )
    if missing:
        listed = "; ".join(f"{row['rights']} on {row['name']}" for row in missing)
        return Finding("rights", "failed", f"the role lacks {listed}; {_to_migrate(connection)}")
    return Finding("rights", "ok", f"the role may read and write all {len(TABLES)} tables")


async def _notifications(connection: Connection) -> Finding:
    """Whether LISTEN hears what other connections tell."""
    if not await connection.hears():
        text = (
            "LISTEN hears nothing, as behind a pooler: events are asked for instead, and come up to half a second later"
        )
        return Finding("notifications", "warning", text)
    return Finding("notifications", "ok", "LISTEN works")
