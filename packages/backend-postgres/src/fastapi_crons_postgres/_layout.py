"""The layout of the tables, and the migrations that lead to it.

Instances of different versions share a database: a change is additive first, and what it replaces is removed a version later. The
database says which version wrote it, and which is the oldest that may still work on it.
"""

from __future__ import annotations

from collections.abc import Sequence

from fastapi_crons.errors import StoreUnusableError
from fastapi_crons_postgres._connection import Connection, Driver

#: The layout that this version writes, and the oldest version of the layout that may work on it.
VERSION = 1
COMPATIBLE_FROM = 1
#: The advisory lock under which layouts are changed.
_MIGRATING = 0x63726F6E73  # "crons"

#: By version. `{schema}` stands for the quoted schema. Instants are Unix seconds.
MIGRATIONS: dict[int, Sequence[str]] = {
    1: (
        "CREATE TABLE {schema}.crons_layout (version integer NOT NULL, compatible_from integer NOT NULL)",
        """CREATE TABLE {schema}.crons_job (
            namespace text, name text, schedule text, timezone text, function text, enabled boolean, registrars text,
            since float8, settled_at float8, paused_since float8, paused_by text, paused_note text, arguments text,
            mark bigint, token bigint, registered_ts float8, PRIMARY KEY (namespace, name)) WITH (fillfactor = 70)""",
        """CREATE TABLE {schema}.crons_lease (
            namespace text, job text, run_id text, tick bigint, instance text, token bigint, attempt bigint, expires float8,
            after bigint, let_go text, schedule text, timezone text, cancel boolean, cancelled_by text,
            PRIMARY KEY (namespace, run_id)) WITH (fillfactor = 70)""",
        "CREATE INDEX crons_lease_by_job ON {schema}.crons_lease (namespace, job)",
        """CREATE TABLE {schema}.crons_instance (
            namespace text, id text, owner text, host text, boot text, pid bigint, pid_started text, started_ts float8,
            version text, heartbeat_ts float8, running bigint, jobs text, PRIMARY KEY (namespace, owner))
            WITH (fillfactor = 50)""",
        "INSERT INTO {schema}.crons_layout VALUES (1, 1)",
    ),
}


async def prepare(connection: Connection, *, may_change: bool) -> None:
    """Bring the tables to our layout where that is allowed. Raises `StoreUnusableError` where they can't be used."""
    found, needs = await connection.read(lambda driver: _layout(driver, connection.schema))
    if needs > VERSION:
        raise StoreUnusableError(
            f"{connection.place} was written by a newer version of fastapi-crons-postgres (layout {found}, which needs at "
            f"least {needs}; this version has {VERSION}); install that version again"
        )
    if found >= VERSION or not may_change:
        return
    await connection.write(lambda driver: _migrate(driver, connection.schema))


async def _layout(driver: Driver, schema: str) -> tuple[int, int]:
    """The version of the tables, and the oldest that may work on them; 0 for none."""
    if await driver.fetchval("SELECT to_regclass($1) IS NULL", f"{schema}.crons_layout"):
        return 0, 0
    row = await driver.fetchrow(f"SELECT version, compatible_from FROM {schema}.crons_layout LIMIT 1")
    return (0, 0) if row is None else (row[0], row[1])


async def _migrate(driver: Driver, schema: str) -> None:
    await driver.execute(f"SELECT pg_advisory_xact_lock({_MIGRATING})")
    found, _ = await _layout(driver, schema)
    for version in range(found + 1, VERSION + 1):
        for statement in MIGRATIONS[version]:
            await driver.execute(statement.format(schema=schema))
    await driver.execute(
        f"UPDATE {schema}.crons_layout SET version = {VERSION}, compatible_from = {COMPATIBLE_FROM} WHERE version < {VERSION}"
    )
