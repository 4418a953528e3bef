"""How records lie in their tables: the columns, and what becomes a row and comes back from one."""

from __future__ import annotations

import json

from fastapi_crons.run import LogLine, MissedTicks, Run, RunError
from fastapi_crons_sqlite._transaction import Row, as_json

RUN_COLUMNS = (
    "id, job, tick_ts, trigger, attempt, instance, token, status, started_ts, ended_ts, error_type, error_message, "
    "error_traceback, result, missed_ticks, missed_since_ts, actor, note, beside, log_dropped, delay"
)
MISSED_COLUMNS = "id, job, first_ts, last_ts, count, reason, recorded_ts, instance, more, detail"


def run_row(run: Run, job: str) -> Row:
    """A run as a row: its columns, and its log."""
    error = run.error
    return [
        run.id,
        job,
        run.tick_ts,
        run.trigger,
        run.attempt,
        run.instance,
        run.token,
        run.status,
        run.started_ts,
        run.ended_ts,
        None if error is None else error.type,
        None if error is None else error.message,
        None if error is None else error.traceback,
        run.result,
        run.missed_ticks,
        run.missed_since_ts,
        run.actor,
        run.note,
        run.beside,
        run.log_dropped,
        run.delay,
        None if not run.log else as_json([[line.ts, line.level, line.logger, line.message] for line in run.log]),
    ]


def run_of(row: Row, job: str) -> Run:
    """The run of a row, without its log; `job` is the name that its key stands for."""
    error = None if row[10] is None else RunError(row[10], row[11], row[12])
    run_id, _, tick, trigger, attempt, instance, token, status, started, ended = row[:10]
    result, missed_ticks, missed_since, actor, note, beside, log_dropped, delay = row[13:]
    return Run(
        run_id,
        job,
        tick,
        trigger,
        attempt,
        instance,
        token,
        status,
        started,
        ended,
        error,
        result,
        missed_ticks,
        missed_since,
        actor,
        note,
        beside,
        log_dropped=log_dropped,
        delay=delay,
    )


def log_of(text: str | None) -> tuple[LogLine, ...]:
    """The log that a row has."""
    return () if text is None else tuple(LogLine(*line) for line in json.loads(text))


def missed_of(row: Row, job: str) -> MissedTicks:
    """The missed ticks of a row; `job` is the name that its key stands for."""
    record_id, _, first, last, count, reason, recorded, instance, more, detail = row
    return MissedTicks(record_id, job, first, last, count, reason, recorded, instance, bool(more), detail)


def missed_row(ticks: MissedTicks, job: str) -> Row:
    """Missed ticks as a row."""
    return [
        ticks.id,
        job,
        ticks.first_ts,
        ticks.last_ts,
        ticks.count,
        ticks.reason,
        ticks.recorded_ts,
        ticks.instance,
        int(ticks.more),
        ticks.detail,
    ]
