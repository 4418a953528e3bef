"""Backfills, each as one text beside what they are found by."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import asyncpg

from fastapi_crons.state.backfills import KEPT, BackfillRecord, backfill_from_text, backfill_to_text
from fastapi_crons.state.checks import Damage
from fastapi_crons_postgres._batch import fit
from fastapi_crons_postgres._driver import Driver


async def begin(
    driver: Driver, table: str, namespace: object, record: BackfillRecord, damage: Damage
) -> BackfillRecord | None:
    """Keep a new one, unless one of the job is on record as running; returns that one."""
    job = fit(record.job)
    await driver.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", f"{table} {namespace} {job}")
    running = f"FROM {table} WHERE namespace = $1 AND job = $2 AND status = 'running'"
    others = read(await driver.fetch(f"SELECT id, record {running}", namespace, job), damage)
    if others:
        return others[0]
    await driver.execute(f"DELETE {running}", namespace, job)  # it can't be read
    await driver.execute(
        f"INSERT INTO {table} (namespace, id, job, status, revision, record) VALUES ($1, $2, $3, $4, $5, $6)",
        namespace,
        record.id,
        job,
        record.status,
        record.revision,
        fit(_text_of(record)),
    )
    await driver.execute(
        f"DELETE FROM {table} WHERE namespace = $1 AND status <> 'running' AND id NOT IN "
        f"(SELECT id FROM {table} WHERE namespace = $1 ORDER BY id DESC LIMIT {KEPT})",
        namespace,
    )
    return None


async def change(driver: Driver, table: str, namespace: object, record: BackfillRecord) -> bool:
    """Put one in the place of that whose revision is one less."""
    done = await driver.execute(
        f"UPDATE {table} SET status = $4, revision = $5, record = $6 "
        "WHERE namespace = $1 AND id = $2 AND job = $3 AND revision = $5 - 1",
        namespace,
        record.id,
        fit(record.job),
        record.status,
        record.revision,
        fit(_text_of(record)),
    )
    return done == "UPDATE 1"


def read(rows: Sequence[asyncpg.Record], damage: Damage) -> list[BackfillRecord]:
    """The readable ones."""
    found = (damage.noted(f"backfill {name}", partial(backfill_from_text, text)) for name, text in rows)
    return [record for record in found if record is not None]


def _text_of(record: BackfillRecord) -> str:
    # Half a pair would come back from JSON as what is no text.
    return backfill_to_text(BackfillRecord._make(map(fit, record)))
