"""What a write adds to the figures of jobs and days, and to the states of jobs: each run and each missed tick once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from functools import partial

import asyncpg

from fastapi_crons.run import FAILED, MissedTicks, Run
from fastapi_crons.state import JobState
from fastapi_crons.state.checks import Damage, checked_figures
from fastapi_crons.state.figures import Figures, add, durations_of, of_missed, of_run, text_of
from fastapi_crons_postgres._batch import Batch, fit, in_array, texts_of
from fastapi_crons_postgres._driver import Driver

#: What was taken away of missed ticks may not have been counted: by a restored database, for example.
_FIGURES_TYPES = {
    "job": "text",
    "day": "bigint",
    "runs": "bigint",
    "failed": "bigint",
    "missed": "bigint",
    "longest": "float8",
    "durations": "text",
    "appended": "bigint",
}
_ADDED = (
    "runs = old.runs + excluded.runs, failed = old.failed + excluded.failed, missed = old.missed + excluded.missed, "
    "longest = greatest(old.longest, excluded.longest), durations = old.durations || excluded.durations, "
    "appended = old.appended + excluded.appended"
)
_STATE_TYPES = {
    "job": "text",
    "status": "text",
    "instance": "text",
    "last_run_ts": "float8",
    "success_ts": "float8",
    "success_run": "text",
    "success_took": "float8",
    "failures": "bigint",
}
#: Any instant counts as newer than one that lies more than a day ahead, which a wrong clock has set.
_IS_NEWER = (
    "(excluded.last_run_ts >= old.last_run_ts OR old.last_run_ts > extract(epoch FROM clock_timestamp()) + 86400)"
)
_FOLLOWS = ", ".join(
    [
        f"{column} = CASE WHEN {_IS_NEWER} THEN excluded.{column} ELSE old.{column} END"
        for column in list(_STATE_TYPES)[1:4]
    ]
    + [f"{column} = coalesce(excluded.{column}, old.{column})" for column in list(_STATE_TYPES)[4:7]]
    + ["failures = CASE WHEN excluded.success_run IS NULL THEN old.failures ELSE 0 END + excluded.failures"]
)
#: Unix seconds: the year 9998.
_END_OF_CALENDARS = 253_370_000_000
#: Durations to which so much was appended are to be added up.
_LONG = 32


def count_runs(batch: Batch, written: Collection[Run]) -> dict[tuple[str, int], Figures]:
    """Write the states of jobs after these runs; returns the figures of those that have ended, which are not written yet."""
    figures: dict[tuple[str, int], Figures] = {}
    states: dict[str, list[object]] = {}
    for run in sorted(written, key=lambda run: run.id):
        *_, ts, run_id, took, failures = states.get(run.job, (None, None, None, 0))
        if run.status == "completed":
            ts, run_id, took, failures = run.ended_ts, run.id, run.duration, 0
        elif run.status in FAILED:
            failures = int(str(failures)) + 1
        states[run.job] = [run.job, run.status, run.instance, run.started_ts, ts, run_id, took, failures]
        if run.ended_ts is not None and all(map(_is_an_instant, (run.started_ts, run.ended_ts))):
            add(figures, [of_run(run)])
    batch.put("crons_state", _STATE_TYPES, ["job"], list(states.values()), _FOLLOWS)
    return figures


def put_states_and_figures(batch: Batch, states: Collection[JobState], figures: Collection[Figures]) -> None:
    """Write states and figures in place of those on record."""
    batch.put("crons_state", _STATE_TYPES, ["job"], states)
    rows = [(*each[:6], _appended(each), 0) for each in figures]
    batch.put("crons_figures", _FIGURES_TYPES, ["day", "job"], rows)


async def count_missed(
    connection: Driver,
    batch: Batch,
    figures: dict[tuple[str, int], Figures],
    missed: Iterable[MissedTicks],
    replaced: Iterable[MissedTicks],
) -> None:
    """Write the figures, with missed ticks and without those that they replace."""
    for sign, records in ((1, missed), (-1, replaced)):
        for ticks in records:
            if all(map(_is_an_instant, (ticks.first_ts, ticks.last_ts, ticks.count))):
                add(figures, of_missed(ticks, sign=sign))
    less = [each for each in figures.values() if each.missed < 0]
    if less:
        await connection.execute(
            f"UPDATE {batch.table('crons_figures')} AS old SET missed = greatest(old.missed + new.missed, 0) "
            f"FROM unnest($2::text[], {in_array(3, 'bigint')}, {in_array(4, 'bigint')}) AS new (job, day, missed) "
            "WHERE old.namespace = $1 AND old.job = new.job AND old.day = new.day",
            batch.namespace,
            [fit(each.job) for each in less],
            texts_of([each.day for each in less], "bigint"),
            texts_of([each.missed for each in less], "bigint"),
        )
    rows = [
        (each.job, each.day, each.runs, each.failed, max(each.missed, 0), each.longest, _appended(each), each.runs)
        for each in figures.values()
        if each.runs or each.missed > 0
    ]
    batch.put("crons_figures", _FIGURES_TYPES, ["day", "job"], rows, _ADDED)


def _is_an_instant(seconds: float) -> bool:
    """Whether calendars have it, so that there is a day to count on. Nor are there more ticks than seconds."""
    return 0 <= seconds < _END_OF_CALENDARS


def _appended(figures: Figures) -> str:
    return f"{text_of(figures.durations)} " if figures.durations else ""


async def compact(connection: Driver, batch: Batch) -> None:
    """Write durations to which much was appended anew, each bucket once: some of them with each write."""
    table = batch.table("crons_figures")
    rows = await connection.fetch(
        f"SELECT day, job, durations FROM {table} WHERE namespace = $1 AND appended > {_LONG} "
        "ORDER BY day, job LIMIT 200 FOR UPDATE SKIP LOCKED",
        batch.namespace,
    )
    if rows:
        await connection.execute(
            f"UPDATE {table} AS old SET durations = new.durations, appended = 0 "
            f"FROM unnest({in_array(2, 'bigint')}, $3::text[], $4::text[]) AS new (day, job, durations) "
            "WHERE old.namespace = $1 AND old.day = new.day AND old.job = new.job",
            batch.namespace,
            texts_of([row["day"] for row in rows], "bigint"),
            [row["job"] for row in rows],
            [_compacted(row["durations"]) for row in rows],
        )


def _compacted(durations: str) -> str:
    found: Counter[int] = Counter()
    for part in durations.split():
        with suppress(ValueError):
            found.update(durations_of(part))
    return f"{text_of(found)} " if found else ""


FIGURES_COLUMNS = "figures.job, figures.day, runs, failed, missed, longest, durations"
#: As if they were of one day.
SUMS_COLUMNS = (
    "figures.job, 0, sum(runs)::bigint, sum(failed)::bigint, sum(missed)::bigint, max(longest), "
    "string_agg(durations, ' ')"
)


def figures_of(rows: Sequence[asyncpg.Record], damage: Damage) -> list[Figures]:
    """The figures of rows that can be read."""
    found = (damage.noted(f"figures of job {row[0]!r}, day {row[1]}", partial(_figures_of, row)) for row in rows)
    return [figures for figures in found if figures is not None]


def _figures_of(row: asyncpg.Record) -> Figures:
    job, day, runs, failed, missed, longest, durations = row
    return checked_figures(Figures(job, day, runs, failed, missed, longest, durations_of(durations)))
