"""The layout of the database file, and the migrations that lead to it.

Processes of different versions share a file: a change is additive first, and what it replaces is removed a version later. The
file says which version wrote it, and which is the oldest that may still work on it.
"""

from __future__ import annotations

import logging
import sqlite3
from typing import NamedTuple

from fastapi_crons.errors import StoreUnusableError
from fastapi_crons_sqlite._history.counting import IS_LONG
from fastapi_crons_sqlite._history.rows import LONG_MISSED, NOT_COMPLETED, RUN_AGAIN
from fastapi_crons_sqlite._history.upgrade import count_history

logger = logging.getLogger("fastapi_crons.sqlite")

#: The layout that this version writes, and the oldest version of the layout that may work on it.
VERSION = 7
COMPATIBLE_FROM = 1

#: The documented tables and their columns. A database of fastapi-crons 2.x has them already, and one of 0.1 a part of them.
_DOCUMENTED = {
    "job_state": ("name", "last_run", "created_at", "updated_at"),
    "job_status": ("name", "status", "instance_id", "started_at"),
}
#: All tables that earlier versions make.
_FORMER = {
    *_DOCUMENTED,
    "job_execution_log",
    # of the SQLAlchemy backend of 2.x
    "cron_job_state",
    "cron_job_status",
    "cron_job_execution_log",
    "cron_locks",
}
_LAYOUT = "crons_layout"
_FIRST_WITH_FIGURES = 7
# In our other tables, `job` and `name` hold the job's name, behind the namespace and a slash unless that is the
# default one. Instants are Unix seconds.
_MIGRATIONS: dict[int, tuple[str, ...]] = {
    1: (
        """CREATE TABLE IF NOT EXISTS job_state (
            name TEXT PRIMARY KEY, last_run TEXT, created_at TEXT, updated_at TEXT)""",
        """CREATE TABLE IF NOT EXISTS job_status (
            name TEXT PRIMARY KEY, status TEXT, instance_id TEXT, started_at TEXT)""",
        """CREATE TABLE job_run (
            id TEXT PRIMARY KEY, job TEXT NOT NULL, tick_ts INTEGER, trigger TEXT NOT NULL, attempt INTEGER NOT NULL,
            instance TEXT NOT NULL, token INTEGER NOT NULL, status TEXT NOT NULL, started_ts REAL NOT NULL, ended_ts REAL,
            error_type TEXT, error_message TEXT, error_traceback TEXT, result TEXT, missed_ticks INTEGER NOT NULL,
            missed_since_ts INTEGER, actor TEXT, note TEXT, beside TEXT, log TEXT, log_dropped INTEGER NOT NULL)
            WITHOUT ROWID""",
        "CREATE INDEX job_run_by_job ON job_run (job, id)",
        "CREATE INDEX job_run_unfinished ON job_run (job) WHERE status = 'running'",
        """CREATE TABLE job_missed (
            id TEXT PRIMARY KEY, job TEXT NOT NULL, first_ts INTEGER NOT NULL, last_ts INTEGER NOT NULL,
            count INTEGER NOT NULL, reason TEXT NOT NULL, recorded_ts REAL NOT NULL, instance TEXT NOT NULL,
            more INTEGER NOT NULL, detail TEXT) WITHOUT ROWID""",
        "CREATE INDEX job_missed_by_job ON job_missed (job, id)",
        """CREATE TABLE lock_job (
            name TEXT PRIMARY KEY, schedule TEXT NOT NULL, timezone TEXT NOT NULL, function TEXT NOT NULL,
            enabled INTEGER NOT NULL, registrars TEXT NOT NULL, mark INTEGER NOT NULL, since REAL NOT NULL,
            token INTEGER NOT NULL, paused_since REAL, paused_by TEXT, paused_note TEXT) WITHOUT ROWID""",
        "CREATE INDEX lock_job_paused ON lock_job (name) WHERE paused_since IS NOT NULL",
        """CREATE TABLE lock_lease (
            run_id TEXT PRIMARY KEY, job TEXT NOT NULL, tick INTEGER, instance TEXT NOT NULL, token INTEGER NOT NULL,
            attempt INTEGER NOT NULL, expires REAL NOT NULL, after INTEGER NOT NULL, let_go TEXT, schedule TEXT NOT NULL,
            timezone TEXT NOT NULL, namespace TEXT NOT NULL, cancel INTEGER NOT NULL DEFAULT 0, cancelled_by TEXT)
            WITHOUT ROWID""",
        "CREATE INDEX lock_lease_by_job ON lock_lease (job)",
        """CREATE TABLE lock_instance (
            owner TEXT PRIMARY KEY, id TEXT NOT NULL, namespace TEXT NOT NULL, host TEXT NOT NULL, boot TEXT NOT NULL,
            pid INTEGER NOT NULL, pid_started TEXT NOT NULL, started_ts REAL NOT NULL, heartbeat_ts REAL NOT NULL)
            WITHOUT ROWID""",
        "CREATE TABLE crons_layout (version INTEGER NOT NULL, compatible_from INTEGER NOT NULL)",
        "INSERT INTO crons_layout VALUES (1, 1)",
    ),
    2: (
        "ALTER TABLE lock_instance ADD COLUMN version TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE lock_instance ADD COLUMN running INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE lock_instance ADD COLUMN jobs TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE lock_job ADD COLUMN registered_ts REAL NOT NULL DEFAULT 0",
        "ALTER TABLE lock_job ADD COLUMN settled_at REAL NOT NULL DEFAULT 0",
    ),
    3: (
        "ALTER TABLE job_run ADD COLUMN delay TEXT",
        "CREATE TABLE job_listener (id TEXT PRIMARY KEY, namespace TEXT NOT NULL, until_ts REAL NOT NULL) WITHOUT ROWID",
        """CREATE TABLE job_event (
            seq INTEGER PRIMARY KEY AUTOINCREMENT, namespace TEXT NOT NULL, record_id TEXT NOT NULL, told_ts REAL NOT NULL)""",
    ),
    4: ("ALTER TABLE job_run ADD COLUMN waited REAL NOT NULL DEFAULT 0",),
    5: ("ALTER TABLE job_run ADD COLUMN arguments_json TEXT",),
    6: ("ALTER TABLE lock_job ADD COLUMN arguments TEXT",),
    7: (
        f"CREATE INDEX job_run_not_completed ON job_run (id) WHERE {NOT_COMPLETED}",
        f"CREATE INDEX job_run_not_completed_by_job ON job_run (job, id) WHERE {NOT_COMPLETED}",
        f"CREATE INDEX job_run_again ON job_run (job, id) WHERE {RUN_AGAIN}",
        """CREATE TABLE job_success (
            name TEXT PRIMARY KEY, run TEXT, ended_ts REAL, took REAL, failures INTEGER NOT NULL) WITHOUT ROWID""",
        # By day: what a batch of runs adds to lies side by side.
        """CREATE TABLE job_figures (
            day INTEGER NOT NULL, job TEXT NOT NULL, runs INTEGER NOT NULL, failed INTEGER NOT NULL, missed INTEGER NOT NULL,
            longest REAL NOT NULL, durations TEXT NOT NULL, appended INTEGER NOT NULL, PRIMARY KEY (day, job)) WITHOUT ROWID""",
        f"CREATE INDEX job_figures_long ON job_figures (day) WHERE {IS_LONG}",
        f"CREATE INDEX job_missed_long ON job_missed (last_ts) WHERE {LONG_MISSED}",
        """CREATE TABLE job_backfill (
            id TEXT PRIMARY KEY, job TEXT NOT NULL, status TEXT NOT NULL, revision INTEGER NOT NULL, record TEXT NOT NULL)
            WITHOUT ROWID""",
    ),
}


class Found(NamedTuple):
    """What a file holds."""

    layout: int
    """Its version; 0 for none. A newer one that still lets us work on it counts as ours."""
    tables: frozenset[str] = frozenset()
    """Its tables and views, SQLite's own aside."""

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing in it."""
        return not self.tables


def prepare(connection: sqlite3.Connection, path: str) -> str | None:
    """Bring the file to our layout, in one transaction; returns a message where something changed.

    Raises `StoreUnusableError` where that can't be done.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        found = look(connection, path).layout
        # Written even when there is nothing to do: a file that can't be written must fail now.
        connection.execute(f"PRAGMA user_version = {_number(connection, 'user_version')}")
        message = _convert(connection) if found == 0 else None
        for version in range(found + 1, VERSION + 1):
            for statement in _MIGRATIONS[version]:
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {version}")
        if found < _FIRST_WITH_FIGURES:
            count_history(connection)
        if found < VERSION:
            connection.execute("UPDATE crons_layout SET version = ?, compatible_from = ?", (VERSION, COMPATIBLE_FROM))
        if _layout_row(connection) is None:
            connection.execute("DELETE FROM crons_layout")
            connection.execute("INSERT INTO crons_layout VALUES (?, ?)", (VERSION, COMPATIBLE_FROM))
            message = "its layout version was written anew: it could not be read"
        elif 0 < found < VERSION:
            message = f"migrated from layout {found} to {VERSION}"
        connection.execute("COMMIT")
    except BaseException:
        roll_back(connection)
        raise
    return message


def roll_back(connection: sqlite3.Connection) -> None:
    """Undo a transaction that failed. SQLite has done so by itself after some errors; what failed is what matters."""
    try:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
    except sqlite3.Error:
        logger.debug("rolling back", exc_info=True)


def look(connection: sqlite3.Connection, path: str) -> Found:
    """What is in the file; changes nothing. Raises `StoreUnusableError` where it is another program's, or too new."""
    names = (name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')"))
    tables = frozenset(str(name) for name in names if not str(name).startswith("sqlite_"))
    if _LAYOUT in tables and _columns(connection, _LAYOUT).keys() >= {"version", "compatible_from"}:
        # Backed by the header, so that a row that can't be read costs nothing else.
        backed = _number(connection, "user_version")
        version, compatible_from = _layout_row(connection) or ((backed if backed > 0 else VERSION),) * 2
        if compatible_from > VERSION:
            raise StoreUnusableError(
                f"{path} was written by a newer version of fastapi-crons-sqlite (layout {version}, which needs at least "
                f"{compatible_from}; this version has {VERSION}); install that version again"
            )
        return Found(min(version, VERSION), tables)
    foreign = _foreign(connection, tables)
    if foreign is not None:
        raise StoreUnusableError(
            f"{path} {foreign} of another program; set CRON_SQLITE_PATH to a file of its own, this one is left as it is"
        )
    return Found(0, tables)


def _layout_row(connection: sqlite3.Connection) -> tuple[int, int] | None:
    """The version that wrote the file, and the oldest that may work on it; None where that can't be read."""
    rows = connection.execute(
        f"SELECT version, compatible_from FROM {_LAYOUT} WHERE typeof(version) = 'integer' AND version < 1000000 "
        "AND typeof(compatible_from) = 'integer' AND compatible_from BETWEEN 1 AND version"
    ).fetchall()
    return (rows[0][0], rows[0][1]) if len(rows) == 1 else None


def _foreign(connection: sqlite3.Connection, tables: frozenset[str]) -> str | None:
    """What shows that a file without our layout belongs to another program; None where nothing does."""
    for name in ("user_version", "application_id"):
        number = _number(connection, name)
        if number != 0:
            return f"has the {name} {number}"
    strange = [table for table in _DOCUMENTED if table in tables and _columns(connection, table).get("name") != 1]
    strange += sorted(tables - _FORMER)
    return f"has a table {ascii(strange[0])[1:-1]}" if strange else None


def _columns(connection: sqlite3.Connection, table: str) -> dict[str, int]:
    """The columns of a table, each with its place in the primary key; none where there is no such table."""
    # What PRAGMA table_info answers: number, name, type, whether it must not be null, default, place in the primary key.
    return {row[1]: row[5] for row in connection.execute(f"PRAGMA table_info({table})")}


def _convert(connection: sqlite3.Connection) -> str | None:
    """Complete the documented tables of an earlier version; returns a message where there are some."""
    left = {}
    for table, columns in _DOCUMENTED.items():
        there = _columns(connection, table)
        left[table] = bool(there)
        for column in columns:
            if there and column not in there:
                connection.execute(f"ALTER TABLE {table} ADD COLUMN {column} TEXT")
    if left["job_state"] and not left["job_status"]:
        # 0.1 kept only when a job had succeeded last.
        connection.execute(_MIGRATIONS[1][1])
        connection.execute(
            "INSERT INTO job_status (name, status, started_at) SELECT name, 'completed', last_run FROM job_state"
        )
    if left["job_status"]:
        # The instances that ran them have no record here, so nothing else would ever end them.
        connection.execute("UPDATE job_status SET status = 'interrupted' WHERE status = 'running'")
    if any(left.values()):
        return "converted from an earlier version of fastapi-crons, with the last run of each job"
    return None


def _number(connection: sqlite3.Connection, pragma: str) -> int:
    ((number,),) = connection.execute(f"PRAGMA {pragma}")
    return int(number)
