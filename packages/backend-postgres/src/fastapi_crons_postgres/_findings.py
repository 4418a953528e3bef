"""Whether an instance can work in a database: what it would find at its start, looked at without changing anything."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Literal, NamedTuple

import asyncpg

from fastapi_crons.errors import StoreError
from fastapi_crons_postgres._connection import Connection
from fastapi_crons_postgres._layout import READ_ONLY, SEQUENCE, TABLES, VERSION, to_migrate, usable_layout
from fastapi_crons_postgres.settings import PREFIX

_RIGHTS = ("SELECT", "INSERT", "UPDATE", "DELETE")
_WANTED = [
    *((table, right) for table in TABLES for right in _RIGHTS),
    *((table, "SELECT") for table in READ_ONLY),
    (SEQUENCE, "USAGE"),
]
#: Which part of the connections may be in use before that is said.
_MANY = 0.8
#: How many connections an instance has at a time.
_OF_AN_INSTANCE = 3


class Finding(NamedTuple):
    """One thing that was looked at."""

    name: str
    outcome: Literal["ok", "warning", "failed"]
    text: str


async def obstacle(connection: Connection, *, migrates: bool) -> str | None:
    """What keeps an instance from working there; None where nothing does.

    `migrates` says whether its start makes and changes the tables.
    """
    async for finding in findings(connection, migrates=migrates):
        if finding.outcome == "failed":
            place = str(connection.place)
            return finding.text if finding.text.startswith(place) else f"{place}: {finding.name}: {finding.text}"
    return None


async def findings(connection: Connection, *, migrates: bool) -> AsyncIterator[Finding]:
    """What an instance needs: a server that takes writes, tables, rights, connections."""
    schema = connection.schema.strip('"')
    (seen,) = await connection.rows(_SEEN, schema, *map(list, zip(*_WANTED, strict=True)))
    if seen["takes_no_writes"]:
        text = f"{connection.place} takes no writes: it is a replica, or was set to read only; name the primary in {PREFIX}URL"
        yield Finding("server", "failed", text)
    else:
        yield Finding("server", "ok", f"{connection.place}, version {seen['version']}")
    if seen["may_create"] is None:
        text = f"there is no schema {schema!r}; create it, or set {PREFIX}SCHEMA to one that is there"
        yield Finding("tables", "failed", text)
        return
    try:
        found = (await usable_layout(connection)).version
    except StoreError as error:
        yield Finding("tables", "failed", str(error))
        return
    yield _tables(connection, found, seen, migrates=migrates)
    if found and not seen["has_view"]:
        text = "crons_runs, which people read, is missing; what fastapi-crons postgres sql --from 0 prints has its CREATE VIEW"
        yield Finding("view", "warning", text)
    if found and seen["lacks"]:
        yield Finding("rights", "failed", f"the role lacks {seen['lacks']}; {to_migrate(connection.place)}")
    elif found:
        yield Finding("rights", "ok", f"the role may read and write all {len(TABLES)} tables")
    yield _connections(seen)


#: Sessions of other roles are hidden in pg_stat_activity; their number is not.
_SEEN = """
    SELECT split_part(current_setting('server_version'), ' ', 1) AS version,
        pg_is_in_recovery() OR current_setting('default_transaction_read_only') = 'on' AS takes_no_writes,
        (SELECT has_schema_privilege(oid, 'CREATE') FROM pg_namespace WHERE nspname = $1) AS may_create,
        (SELECT string_agg(rights || ' on ' || name, '; ' ORDER BY name) FROM (
            SELECT name, string_agg(wanted, ', ') AS rights
            FROM unnest($2::text[], $3::text[]) AS asked (name, wanted)
            JOIN pg_class ON relname = name JOIN pg_namespace AS schema ON schema.oid = relnamespace AND nspname = $1
            WHERE NOT CASE relkind WHEN 'S' THEN has_sequence_privilege(pg_class.oid, wanted)
                ELSE has_table_privilege(pg_class.oid, wanted) END
            GROUP BY name) AS missing) AS lacks,
        EXISTS (SELECT 1 FROM pg_views WHERE schemaname = $1 AND viewname = 'crons_runs') AS has_view,
        (SELECT sum(numbackends) FROM pg_stat_database)::int AS of_server,
        current_setting('max_connections')::int AS most_of_server,
        (SELECT count(*) FROM pg_stat_activity WHERE usename = session_user AND backend_type = 'client backend') AS of_role,
        (SELECT nullif(rolconnlimit, -1) FROM pg_roles WHERE rolname = session_user AND NOT rolsuper) AS most_of_role,
        numbackends AS of_database,
        (SELECT nullif(datconnlimit, -1) FROM pg_roles WHERE rolname = session_user AND NOT rolsuper) AS most_of_database
    FROM pg_database JOIN pg_stat_database ON pg_database.oid = datid WHERE pg_database.datname = current_database()
"""


def _connections(seen: asyncpg.Record) -> Finding:
    """How many are in use, by the limit that is reached first. A role's and a database's own do not hold for superusers."""
    limits = (
        ("", seen["of_server"], seen["most_of_server"]),
        (", by the CONNECTION LIMIT of the role", seen["of_role"], seen["most_of_role"]),
        (", by the CONNECTION LIMIT of the database", seen["of_database"], seen["most_of_database"]),
    )
    room, which, used, most = min((most - used, which, used, most) for which, used, most in limits if most is not None)
    text = f"{used} of {most} are in use{which}; an instance has 2, and another one while somebody asks"
    # Ours is free again in a moment.
    return Finding("connections", "warning" if used > most * _MANY or room + 1 < _OF_AN_INSTANCE else "ok", text)


def _tables(connection: Connection, found: int, seen: asyncpg.Record, *, migrates: bool) -> Finding:
    where = f"in the schema {connection.schema}"
    if found >= VERSION:
        return Finding("tables", "ok", f"layout {found} {where}")
    what = f"layout {found} {where}, and this version needs {VERSION}" if found else f"none {where}"
    if seen["takes_no_writes"]:
        return Finding("tables", "failed", what)
    if migrates and seen["may_create"]:
        return Finding("tables", "warning", f"{what}; the next scheduler that starts sees to that")
    return Finding("tables", "failed", f"{what}; {to_migrate(connection.place)}")
