"""How records lie in their tables: the columns with their types, and what becomes a row and comes back from one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from operator import attrgetter

import asyncpg

from fastapi_crons.run import LogLine, MissedTicks, Run, RunError
from fastapi_crons.state.checks import Damage, checked_log, checked_missed, checked_run
from fastapi_crons_postgres._batch import fit

#: In the order of a `Run`, but for its log.
RUN_TYPES = {
    "id": "text",
    "job": "text",
    "tick_ts": "bigint",
    "trigger": "text",
    "attempt": "bigint",
    "instance": "text",
    "token": "bigint",
    "status": "text",
    "started_ts": "float8",
    "ended_ts": "float8",
    "error_type": "text",
    "error_message": "text",
    "error_traceback": "text",
    "result": "text",
    "missed_ticks": "bigint",
    "missed_since_ts": "bigint",
    "actor": "text",
    "note": "text",
    "beside": "text",
    "log_dropped": "bigint",
    "delay": "text",
    "waited": "float8",
    "arguments_json": "text",
}
#: In the order of `MissedTicks`.
MISSED_TYPES = {
    "id": "text",
    "job": "text",
    "first_ts": "bigint",
    "last_ts": "bigint",
    "count": "bigint",
    "reason": "text",
    "recorded_ts": "float8",
    "instance": "text",
    "more": "boolean",
    "detail": "text",
}
RUN_COLUMNS, MISSED_COLUMNS = ", ".join(RUN_TYPES), ", ".join(MISSED_TYPES)
#: With the log, which is only fetched where it is wanted.
WRITTEN_TYPES = {**RUN_TYPES, "log": "text"}
_BEFORE_ERROR = attrgetter(*list(RUN_TYPES)[:10])
_BEHIND_ERROR = attrgetter("result_json", *list(RUN_TYPES)[14:])
_OF_MISSED = attrgetter(*MISSED_TYPES)


def run_row(run: Run) -> Sequence[object]:
    """A run as a row: its columns, and its log."""
    error = run.error
    # Half a pair would come back from JSON as what is no text.
    lines = [(line.ts, line.level, fit(line.logger), fit(line.message)) for line in run.log]
    return (
        *_BEFORE_ERROR(run),
        *((None, None, None) if error is None else (error.type, error.message, error.traceback)),
        *_BEHIND_ERROR(run),
        json.dumps(lines, separators=(",", ":")) if lines else None,
    )


def run_of(row: asyncpg.Record, damage: Damage) -> Run | None:
    """The run of a row, with its log where the row has it. None where it can't be read."""

    def make() -> Run:
        error = None if row[10] is None else RunError(*row[10:13])
        log = _log_of(row[23], row[0], damage) if len(row) > len(RUN_TYPES) else ()
        return checked_run(Run(*(*row[:10], error, *row[13:19], log, *row[19:23])))

    return damage.noted(f"run {row[0]}", make)


def _log_of(text: str | None, run_id: str, damage: Damage) -> tuple[LogLine, ...]:
    if text is None:
        return ()
    log = damage.noted(f"log of run {run_id}", lambda: checked_log(tuple(LogLine(*line) for line in json.loads(text))))
    return log or ()


def runs_of(rows: Sequence[asyncpg.Record], damage: Damage) -> list[Run]:
    """The runs of rows that can be read."""
    return [run for row in rows if (run := run_of(row, damage)) is not None]


def missed_row(ticks: MissedTicks) -> Sequence[object]:
    """Missed ticks as a row."""
    row: Sequence[object] = _OF_MISSED(ticks)
    return row


def missed_of(rows: Sequence[asyncpg.Record], damage: Damage) -> list[MissedTicks]:
    """The missed ticks of rows that can be read."""
    found = (damage.noted(f"missed ticks {row[0]}", partial(_missed, row)) for row in rows)
    return [ticks for ticks in found if ticks is not None]


def _missed(row: asyncpg.Record) -> MissedTicks:
    return checked_missed(MissedTicks(*row))
