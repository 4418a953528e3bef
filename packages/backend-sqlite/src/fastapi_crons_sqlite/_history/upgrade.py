"""Counts the history that an earlier version has left: its figures by job and day, and the successes of jobs."""

from __future__ import annotations

import sqlite3

from fastapi_crons._util.damage import LATEST
from fastapi_crons.state.checks import Damage
from fastapi_crons.state.figures import bucket_of
from fastapi_crons_sqlite._history.counting import add_missed
from fastapi_crons_sqlite._history.rows import MISSED_COLUMNS, missed_of
from fastapi_crons_sqlite._names import Names
from fastapi_crons_sqlite._transaction import Transaction

_AT_A_TIME = 2_000
_FAILED = "status IN ('failed', 'timed_out', 'interrupted')"
_CAN_BE_COUNTED = f"""
    status IN ('completed', 'cancelled', 'failed', 'timed_out', 'interrupted')
    AND typeof(id) = 'text' AND typeof(job) = 'text' AND typeof(started_ts) IN ('integer', 'real')
    AND typeof(ended_ts) IN ('integer', 'real') AND started_ts BETWEEN 0 AND {LATEST} AND ended_ts BETWEEN 0 AND {LATEST}"""
_COUNT_RUNS = f"""
    INSERT INTO job_figures (day, job, runs, failed, missed, longest, durations, appended)
    SELECT day, job, sum(runs), sum(failed), 0, max(longest), coalesce(group_concat(bucket || ':' || runs || ' ', ''), ''), 0
    FROM (
        SELECT
            CAST(started_ts AS INTEGER) / 86400 AS day, job, count(*) AS runs, sum({_FAILED}) AS failed,
            max(CASE WHEN status = 'completed' THEN max(ended_ts - started_ts, 0.0) ELSE 0.0 END) AS longest,
            CASE WHEN status = 'completed' THEN bucket_of(ended_ts - started_ts) END AS bucket
        FROM job_run WHERE {_CAN_BE_COUNTED} GROUP BY 1, 2, bucket)
    GROUP BY day, job"""
_NOTE_SUCCESSES = f"""
    INSERT INTO job_success (name, run, ended_ts, took, failures)
    SELECT job, id, ended_ts, max(ended_ts - started_ts, 0.0), 0 FROM job_run
    WHERE id IN (SELECT max(id) FROM job_run WHERE status = 'completed' AND {_CAN_BE_COUNTED} GROUP BY job)"""
_NOTE_FAILURES = f"""
    INSERT INTO job_success (name, failures)
    SELECT job, count(*) FROM job_run WHERE {_FAILED} AND {_CAN_BE_COUNTED}
    AND id > coalesce((SELECT run FROM job_success WHERE name = job), '') GROUP BY job
    ON CONFLICT (name) DO UPDATE SET failures = excluded.failures"""


def count_history(connection: sqlite3.Connection) -> None:
    """Count what is on record, by few statements: other processes wait for it."""
    connection.create_function("bucket_of", 1, bucket_of, deterministic=True)
    for statement in (_COUNT_RUNS, _NOTE_SUCCESSES, _NOTE_FAILURES):
        connection.execute(statement)
    transaction, names, damage, seen = Transaction(connection), _AllNamespaces("default"), Damage("earlier history"), ""
    while rows := transaction.plain_rows(
        f"SELECT {MISSED_COLUMNS} FROM job_missed WHERE id > ? AND typeof(id) = 'text' ORDER BY id LIMIT ?",
        seen,
        _AT_A_TIME,
    ):
        seen = rows[-1][0]
        missed = [ticks for row in rows if (ticks := missed_of(row, row[1], damage)) is not None]
        add_missed(transaction, names, missed)


class _AllNamespaces(Names):
    """Takes keys for names."""

    def own(self, key: object) -> str | None:
        return key if isinstance(key, str) else None
