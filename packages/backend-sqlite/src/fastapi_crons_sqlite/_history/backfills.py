"""Backfills in the file, each as one text beside what they are found by."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from fastapi_crons.state.backfills import KEPT, BackfillRecord, backfill_from_text, backfill_to_text
from fastapi_crons.state.checks import Damage
from fastapi_crons_sqlite._names import Names
from fastapi_crons_sqlite._transaction import Row, Transaction


def begin(transaction: Transaction, names: Names, record: BackfillRecord, damage: Damage) -> BackfillRecord | None:
    """Keep a new one, unless one of the job is on record as running; returns that one."""
    key = names.key(record.job)
    running = "FROM job_backfill WHERE job = ? AND status = 'running'"
    others = read(transaction.plain_rows(f"SELECT id, record {running}", key), damage)
    if others:
        return others[0]
    transaction.execute(f"DELETE {running}", key)  # it can't be read
    transaction.execute(
        "INSERT INTO job_backfill (id, job, status, revision, record) VALUES (?, ?, ?, ?, ?)",
        record.id,
        key,
        record.status,
        record.revision,
        backfill_to_text(record),
    )
    own = names.condition
    transaction.execute(
        f"DELETE FROM job_backfill WHERE {own} AND status <> 'running' AND id NOT IN "
        f"(SELECT id FROM job_backfill WHERE {own} ORDER BY id DESC LIMIT {KEPT})",
        *names.bounds,
        *names.bounds,
    )
    return None


def change(transaction: Transaction, names: Names, record: BackfillRecord) -> bool:
    """Put one in the place of that whose revision is one less."""
    changed = transaction.execute(
        "UPDATE job_backfill SET status = ?, revision = ?, record = ? WHERE id = ? AND job = ? AND revision = ?",
        record.status,
        record.revision,
        backfill_to_text(record),
        record.id,
        names.key(record.job),
        record.revision - 1,
    )
    return changed == 1


def wanted(names: Names, job: str | None) -> tuple[str, tuple[str, ...]]:
    """The query for those of a job, or of all, newest first."""
    condition, parameters = (names.condition, names.bounds) if job is None else ("job = ?", (names.key(job),))
    return f"SELECT id, record FROM job_backfill WHERE {condition} ORDER BY id DESC", parameters


def read(rows: Sequence[Row], damage: Damage) -> list[BackfillRecord]:
    """The readable ones."""
    found = (damage.noted(f"backfill {name}", partial(backfill_from_text, text)) for name, text in rows)
    return [record for record in found if record is not None]
