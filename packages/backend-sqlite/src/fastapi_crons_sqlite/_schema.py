"""The layout of the database file, and the migrations that lead to it.

Layout versions live together: a change is additive first, and what it replaces goes a version later. The file says which
version wrote it and which is the oldest that may still work on it.
"""

from __future__ import annotations

import logging
import sqlite3

from fastapi_crons.errors import StoreUnusableError

logger = logging.getLogger("fastapi_crons.sqlite")

#: The layout that this version writes, and the oldest version of the layout that may work on it.
VERSION = 3
COMPATIBLE_FROM = 1

#: The documented tables and their columns. A database of fastapi-crons 2.x has them already, and one of 0.1 a part of them.
_DOCUMENTED = {
    "job_state": ("name", "last_run", "created_at", "updated_at"),
    "job_status": ("name", "status", "instance_id", "started_at"),
}
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
}


def prepare(connection: sqlite3.Connection, path: str) -> None:
    """Bring the file to our layout, in one transaction. Raises `StoreUnusableError` where that can't be done."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        found = _layout(connection, path)
        # Written even when there is nothing to do: a file that can't be written is found out now.
        connection.execute(f"PRAGMA user_version = {_user_version(connection)}")
        if found == 0:
            _take_over(connection, path)
        for version in range(found + 1, VERSION + 1):
            for statement in _MIGRATIONS[version]:
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {version}")
        if found < VERSION:
            connection.execute("UPDATE crons_layout SET version = ?, compatible_from = ?", (VERSION, COMPATIBLE_FROM))
        if 0 < found < VERSION:
            logger.info("%s: migrated from layout %d to %d", path, found, VERSION)
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def _layout(connection: sqlite3.Connection, path: str) -> int:
    """The file's layout version; 0 for none. A newer one that still lets us work on it counts as ours."""
    has_layout = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'crons_layout'").fetchone()
    if not has_layout:
        version = _user_version(connection)
        if version != 0:
            raise StoreUnusableError(
                f"{path} is the database of another program (user_version {version}); set CRON_SQLITE_PATH to a file of "
                "its own"
            )
        return 0
    ((version, compatible_from),) = connection.execute("SELECT version, compatible_from FROM crons_layout")
    if compatible_from > VERSION:
        raise StoreUnusableError(
            f"{path} was written by a newer version of fastapi-crons-sqlite (layout {version}, which needs at least "
            f"{compatible_from}; this version has {VERSION}); install that version again"
        )
    return min(int(version), VERSION)


def _take_over(connection: sqlite3.Connection, path: str) -> None:
    """Make the documented tables that an earlier version has left complete. Raises `StoreUnusableError` for somebody else's."""
    left = {}
    for table, columns in _DOCUMENTED.items():
        # What PRAGMA table_info answers: number, name, type, whether it must not be null, default, place in the primary key.
        there = {row[1]: row[5] for row in connection.execute(f"PRAGMA table_info({table})")}
        if there and there.get("name") != 1:
            raise StoreUnusableError(
                f"{path} has a table {table} of another program; set CRON_SQLITE_PATH to a file of its own"
            )
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
        # Nothing else would ever end them: what ran them has no record of its life.
        connection.execute("UPDATE job_status SET status = 'interrupted' WHERE status = 'running'")
    if any(left.values()):
        logger.info("%s: taken over from an earlier version of fastapi-crons, with the last run of each job", path)


def _user_version(connection: sqlite3.Connection) -> int:
    ((version,),) = connection.execute("PRAGMA user_version")
    return int(version)
