"""The layout of the tables, and the migrations that lead to it.

Instances of different versions share a database: a change is additive first, and what it replaces is removed a version
later. The database says which version wrote it, and which is the oldest that may still work on it.
"""

from __future__ import annotations

import logging
import re
import shlex
from collections.abc import Sequence
from typing import NamedTuple

from fastapi_crons.errors import StoreUnusableError
from fastapi_crons_postgres._connection import Connection
from fastapi_crons_postgres._driver import Driver
from fastapi_crons_postgres._former import TAKE_OVER
from fastapi_crons_postgres.url import Place, identifier

logger = logging.getLogger("fastapi_crons.postgres")

#: The layout that this version writes, and the oldest version of the layout that may work on it.
VERSION = 1
COMPATIBLE_FROM = 1
#: Takes the advisory lock under which layouts are changed: "crons".
LAYOUT_LOCK = f"SELECT pg_advisory_xact_lock({0x63726F6E73})"
#: What an instance writes to, and what it only reads.
TABLES = (
    "crons_job",
    "crons_lease",
    "crons_instance",
    "crons_run",
    "crons_missed",
    "crons_state",
    "crons_figures",
    "crons_backfill",
    "crons_listener",
    "crons_event",
)
READ_ONLY = ("crons_layout", "crons_runs")
#: Numbers the events.
SEQUENCE = "crons_event_seq_seq"

#: How the server looks after tables with few rows that change all the time: as soon as many are dead, at once, and without the
#: lock that giving room back to the system needs. And after those with many rows: not only when a fifth of them has changed.
_BUSY = (
    "autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_cost_delay = 0, "
    "vacuum_truncate = false"
)
_LARGE = (
    "autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 0.05, "
    "autovacuum_analyze_scale_factor = 0.02"
)
_LOOKED_AFTER = {
    _BUSY: ("crons_job", "crons_lease", "crons_instance", "crons_state", "crons_event"),
    _LARGE: ("crons_run", "crons_missed", "crons_figures"),
}


def _instant(column: str) -> str:
    """An instant as people read it; null where a damaged row has none."""
    return f"CASE WHEN {column} BETWEEN 0 AND 253402300799 THEN to_timestamp({column}) END"


#: By version. `{schema}` stands for the quoted schema. Instants are Unix seconds.
MIGRATIONS: dict[int, Sequence[str]] = {
    1: (
        "CREATE TABLE {schema}.crons_layout (version integer NOT NULL, compatible_from integer NOT NULL)",
        """CREATE TABLE {schema}.crons_job (
            namespace text COLLATE "C", name text COLLATE "C", schedule text, timezone text, function text, enabled boolean,
            registrars text, since float8, settled_at float8, paused_since float8, paused_by text, paused_note text,
            arguments text, mark bigint, token bigint, registered_ts float8, PRIMARY KEY (namespace, name))
            WITH (fillfactor = 70)""",
        """CREATE TABLE {schema}.crons_lease (
            namespace text COLLATE "C", job text COLLATE "C", run_id text COLLATE "C", tick bigint, instance text,
            token bigint, attempt bigint, expires float8, after bigint, let_go text, schedule text, timezone text,
            cancel boolean, cancelled_by text, PRIMARY KEY (namespace, run_id)) WITH (fillfactor = 70)""",
        "CREATE INDEX crons_lease_by_job ON {schema}.crons_lease (namespace, job)",
        """CREATE TABLE {schema}.crons_instance (
            namespace text COLLATE "C", id text, owner text COLLATE "C", host text, boot text, pid bigint,
            pid_started text, started_ts float8, version text, heartbeat_ts float8, running bigint, jobs text,
            PRIMARY KEY (namespace, owner)) WITH (fillfactor = 50)""",
        """CREATE TABLE {schema}.crons_run (
            namespace text COLLATE "C", id text COLLATE "C", job text COLLATE "C" NOT NULL, tick_ts bigint, trigger text,
            attempt bigint, instance text, token bigint, status text NOT NULL, started_ts float8, ended_ts float8,
            error_type text, error_message text, error_traceback text, result text, missed_ticks bigint,
            missed_since_ts bigint, actor text, note text, beside text, log_dropped bigint, delay text, waited float8,
            arguments_json text, log text, PRIMARY KEY (namespace, id)) WITH (fillfactor = 90)""",
        "CREATE INDEX crons_run_by_job ON {schema}.crons_run (namespace, job, id)",
        "CREATE INDEX crons_run_not_completed ON {schema}.crons_run (namespace, id) WHERE status <> 'completed'",
        "CREATE INDEX crons_run_not_completed_by_job ON {schema}.crons_run (namespace, job, id) WHERE status <> 'completed'",
        "CREATE INDEX crons_run_running ON {schema}.crons_run (namespace, id) WHERE status = 'running'",
        "CREATE INDEX crons_run_again ON {schema}.crons_run (namespace, id) WHERE trigger = 'again'",
        """CREATE TABLE {schema}.crons_missed (
            namespace text COLLATE "C", id text COLLATE "C", job text COLLATE "C" NOT NULL, first_ts bigint, last_ts bigint,
            count bigint, reason text, recorded_ts float8, instance text, more boolean, detail text,
            PRIMARY KEY (namespace, id))""",
        "CREATE INDEX crons_missed_by_job ON {schema}.crons_missed (namespace, job, id)",
        "CREATE INDEX crons_missed_long ON {schema}.crons_missed (namespace, id) WHERE last_ts - first_ts > 3600",
        """CREATE TABLE {schema}.crons_state (
            namespace text COLLATE "C", job text COLLATE "C", status text, instance text, last_run_ts float8,
            success_ts float8, success_run text, success_took float8, failures bigint, PRIMARY KEY (namespace, job))
            WITH (fillfactor = 70)""",
        """CREATE TABLE {schema}.crons_figures (
            namespace text COLLATE "C", day bigint, job text COLLATE "C", runs bigint NOT NULL, failed bigint NOT NULL,
            missed bigint NOT NULL, longest float8 NOT NULL, durations text NOT NULL, appended bigint NOT NULL,
            PRIMARY KEY (namespace, day, job)) WITH (fillfactor = 70)""",
        "CREATE INDEX crons_figures_long ON {schema}.crons_figures (namespace, day, job) WHERE appended > 32",
        """CREATE TABLE {schema}.crons_backfill (
            namespace text COLLATE "C", id text COLLATE "C", job text COLLATE "C" NOT NULL, status text NOT NULL,
            revision bigint NOT NULL, record text NOT NULL, PRIMARY KEY (namespace, id))""",
        "CREATE TABLE {schema}.crons_listener (namespace text, id text, until_ts float8, PRIMARY KEY (namespace, id))",
        """CREATE TABLE {schema}.crons_event (
            seq bigserial PRIMARY KEY, namespace text COLLATE "C", record_id text, signal text, told_ts float8)""",
        "CREATE INDEX crons_event_by_namespace ON {schema}.crons_event (namespace, seq)",
        f"""CREATE VIEW {{schema}}.crons_runs AS SELECT
            namespace, job, id, {_instant("tick_ts")} AS scheduled_at, {_instant("started_ts")} AS started_at,
            {_instant("ended_ts")} AS ended_at, ended_ts - least(started_ts, ended_ts) AS duration, status,
            error_type || coalesce(': ' || nullif(error_message, ''), '') AS error, attempt, trigger, missed_ticks,
            instance, actor, note FROM {{schema}}.crons_run""",
        *(f"ALTER TABLE {{schema}}.{table} SET ({how})" for how, tables in _LOOKED_AFTER.items() for table in tables),
        TAKE_OVER,
        "INSERT INTO {schema}.crons_layout VALUES (1, 1)",
    ),
}


#: How migrations make tables and columns.
_TABLE = re.compile(r"CREATE TABLE \{schema\}\.(\w+) \((.*?)(?:,\s+PRIMARY KEY \(|\))", re.DOTALL)
_COLUMN = re.compile(r"ALTER TABLE \{schema\}\.(\w+) ADD COLUMN (\w+)")


class Layout(NamedTuple):
    """What is found in a database."""

    version: int = 0
    """0 for none."""
    needs: int = 0
    """The oldest version that may work on it."""
    on_record: bool = True
    """False where `crons_layout` is empty: the version is then that of the columns that are there."""
    missing: tuple[str, ...] = ()
    """Tables, and `table.column`, that the version has, and the database has not."""
    unknown: tuple[str, ...] = ()
    """The same that the database has, and no version that we know; only where the version is not on record."""


async def prepare(connection: Connection, *, may_change: bool) -> int:
    """Bring the tables to our layout where that is allowed; returns the layout that they had, 0 for none.

    Raises `StoreUnusableError` where they can't be used.
    """
    found = await usable_layout(connection)
    if found.version < VERSION and not may_change:
        raise StoreUnusableError(
            f"{connection.place} has no tables crons_… in the schema {connection.schema}, and CRON_POSTGRES_MIGRATE=false; "
            f"{to_migrate(connection.place)}"
            if not found.version
            else _too_old(connection, found.version)
        )
    if found.version < VERSION or (not found.on_record and may_change):
        taken_over = await connection.write(lambda driver: _migrate(driver, connection.schema))
        if taken_over:
            logger.info(
                "%s: the last runs of %d jobs of fastapi-crons 2.x are taken over", connection.place, taken_over
            )
    if not found.on_record:
        logger.warning(
            "%s: the table crons_layout was emptied; by their columns, the tables have the layout %d",
            connection.place,
            found.version,
        )
    return found.version


async def is_made(connection: Connection) -> bool:
    """Whether there are tables to read. Raises `StoreUnusableError` where they can't be read."""
    found = (await usable_layout(connection)).version
    if 0 < found < VERSION:
        raise StoreUnusableError(_too_old(connection, found))
    return found > 0


async def usable_layout(connection: Connection) -> Layout:
    """The layout of the tables. Raises `StoreUnusableError` where it is one that we can't work on."""
    found = await connection.read(lambda driver: layout_of(driver, connection.schema))
    if found.needs > VERSION:
        raise StoreUnusableError(
            f"{connection.place} was written by a newer version of fastapi-crons-postgres (layout {found.version}, which needs "
            f"at least {found.needs}; this version has {VERSION}); install that version again"
        )
    if found.missing:
        raise StoreUnusableError(
            f"{connection.place} lacks {', '.join(found.missing)} in the schema {connection.schema}, beside other tables of "
            "fastapi-crons; restore all of them from a backup (or, which loses what is on record, drop all tables crons_… and "
            "run: fastapi-crons postgres migrate)"
        )
    if found.unknown:
        raise StoreUnusableError(
            f"{connection.place}: the table crons_layout in the schema {connection.schema} is empty, and this version of "
            f"fastapi-crons-postgres does not know {', '.join(found.unknown)}; start the version that made it (or, where you "
            f"added it yourself, run: INSERT INTO {connection.schema}.crons_layout VALUES ({VERSION}, {COMPATIBLE_FROM}))"
        )
    return found


def _too_old(connection: Connection, found: int) -> str:
    return (
        f"{connection.place} has tables of an older version of fastapi-crons-postgres (layout {found}; this version needs "
        f"{VERSION}); {to_migrate(connection.place)}"
    )


def to_migrate(place: Place) -> str:
    """What to do where the role must not make tables, or must not use them."""
    return f"as a role that may, run: fastapi-crons postgres migrate --grant {shlex.quote(place.user or 'ROLE')}"


async def layout_of(driver: Driver, schema: str) -> Layout:
    """What the database says of its tables, and what of them is there."""
    # Not to_regclass(), which remembers what was not there before the lock was ours.
    there = {
        (row["relname"], row["attname"])
        for row in await driver.fetch(_THERE, schema.strip('"'), [*TABLES, "crons_layout", SEQUENCE])
    }
    tables = {table for table, _ in there}
    if not tables:
        return Layout()
    row = None
    if "crons_layout" in tables:
        row = await driver.fetchrow(f"SELECT version, compatible_from FROM {schema}.crons_layout LIMIT 1")
    if row is not None:
        version, needs = row
        return Layout(version, needs, missing=_names(_columns_of(version) - there, tables))
    for version in range(VERSION, 0, -1):
        if there == _columns_of(version):
            return Layout(version, on_record=False)
    ours = _columns_of(VERSION)
    return Layout(on_record=False, missing=_names(ours - there, tables), unknown=_names(there - ours, tables))


_THERE = """
    SELECT relname::text, attname::text
    FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid JOIN pg_namespace AS schema ON schema.oid = relnamespace
    WHERE nspname = $1 AND relname = ANY($2::text[]) AND relkind IN ('r', 'p', 'S') AND attnum > 0 AND NOT attisdropped
"""


def _columns_of(version: int) -> set[tuple[str, str]]:
    """The columns that a layout has, each with its table; of one that we don't know, what it has of ours."""
    columns = {(SEQUENCE, column) for column in ("last_value", "log_cnt", "is_called")}
    for statement in (each for known, steps in MIGRATIONS.items() if known <= version for each in steps):
        for table, body in _TABLE.findall(statement):
            columns |= {(table, column.split()[0]) for column in body.split(",")}
        columns |= set(_COLUMN.findall(statement))
    return columns


def _names(columns: set[tuple[str, str]], tables: set[str]) -> tuple[str, ...]:
    """What columns are called: by their table alone where that is not among the `tables`."""
    return tuple(sorted({f"{table}.{column}" if table in tables else table for table, column in columns}))


async def _migrate(driver: Driver, schema: str) -> int:
    """Returns the number of jobs whose last runs are taken over."""
    await driver.execute(LAYOUT_LOCK)
    found = await layout_of(driver, schema)
    # At once: a server far away is asked in time.
    await driver.execute(";\n".join(statements(schema, found.version, on_record=found.on_record)))
    taken_over: int = await driver.fetchval(f"SELECT count(*) FROM {schema}.crons_state") if found.version == 0 else 0
    return taken_over


def statements(schema: str, found: int, *, on_record: bool = True) -> list[str]:
    """What leads from one layout to ours. One that is not `on_record` is put there first."""
    steps = (
        [] if on_record else [f"INSERT INTO {{schema}}.crons_layout VALUES ({found}, {min(found, COMPATIBLE_FROM)})"]
    )
    steps += [statement for version in range(found + 1, VERSION + 1) for statement in MIGRATIONS[version]]
    steps.append(
        f"UPDATE {{schema}}.crons_layout SET version = {VERSION}, compatible_from = {COMPATIBLE_FROM} WHERE version < {VERSION}"
    )
    return [statement.format(schema=schema) for statement in steps]


def grants(schema: str, role: str) -> list[str]:
    """What lets a role use the tables, and no more."""
    to = identifier(role)
    tables, read_only = (", ".join(f"{schema}.{table}" for table in some) for some in (TABLES, READ_ONLY))
    return [
        f"GRANT USAGE ON SCHEMA {schema} TO {to}",
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON {tables} TO {to}",
        f"GRANT SELECT ON {read_only} TO {to}",
        f"GRANT USAGE, SELECT ON SEQUENCE {schema}.{SEQUENCE} TO {to}",  # pg_dump reads it
    ]
