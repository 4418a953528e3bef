"""How records lie in their tables: the columns, and what becomes a row and comes back from one."""

from __future__ import annotations

import json
from operator import attrgetter

from fastapi_crons.run import LogLine, MissedTicks, Run, RunError
from fastapi_crons.state.checks import Damage, DamagedError, checked_log, checked_missed, checked_run
from fastapi_crons_sqlite._transaction import Row, as_json

#: In the order of a `Run`, but for its log: that is the last, and only fetched where it is wanted.
RUN_COLUMNS = (
    "id, job, tick_ts, trigger, attempt, instance, token, status, started_ts, ended_ts, error_type, error_message, "
    "error_traceback, result, missed_ticks, missed_since_ts, actor, note, beside, log_dropped, delay, waited, arguments_json"
)
MISSED_COLUMNS = "id, job, first_ts, last_ts, count, reason, recorded_ts, instance, more, detail"
#: Runs that have ended, and did not complete: as the indexes of these say it. Two comparisons cost each write less than a list.
NOT_COMPLETED = "status <> 'running' AND status <> 'completed'"
#: Runs of ticks that somebody asked to run again, as the index of these says it.
RUN_AGAIN = "trigger = 'again'"
#: The time (seconds) that the ticks of most records of missed ticks span, and those that span more, as their index says it:
#: a record grows as long as a run holds its job.
MISSED_SPAN = 3_600
LONG_MISSED = f"last_ts - first_ts > {MISSED_SPAN}"
_BEFORE_ERROR = attrgetter(*RUN_COLUMNS.split(", ")[2:10])
_BEHIND_ERROR = attrgetter("result_json", *RUN_COLUMNS.split(", ")[14:])
_NO_ERROR = (None, None, None)


def run_row(run: Run, job: str) -> Row:
    """A run as a row: its columns, and its log."""
    error = run.error
    return (
        run.id,
        job,
        *_BEFORE_ERROR(run),
        *(_NO_ERROR if error is None else (error.type, error.message, error.traceback)),
        *_BEHIND_ERROR(run),
        as_json([(line.ts, line.level, line.logger, line.message) for line in run.log]) if run.log else None,
    )


def run_of(row: Row, job: str, damage: Damage) -> Run | None:
    """The run of a row, without its log; `job` is the name that its key stands for. None where it can't be read."""

    def make() -> Run:
        error = None if row[10] is None else RunError(*row[10:13])
        return checked_run(Run(*(row[0], job, *row[2:10], error, *row[13:19], (), *row[19:])))

    return damage.noted(f"run {row[0]}", make)


def log_of(text: str | None, run_id: str, damage: Damage) -> tuple[LogLine, ...]:
    """The log that a row has; empty where it can't be read."""
    if text is None:
        return ()
    log = damage.noted(f"log of run {run_id}", lambda: checked_log(tuple(LogLine(*line) for line in json.loads(text))))
    return log or ()


def missed_of(row: Row, job: str, damage: Damage) -> MissedTicks | None:
    """The missed ticks of a row; `job` is the name that its key stands for. None where they can't be read."""
    record_id, _, first, last, count, reason, recorded, instance, more, detail = row

    def make() -> MissedTicks:
        if more not in (0, 1):
            raise DamagedError("more is neither 0 nor 1")
        return checked_missed(
            MissedTicks(record_id, job, first, last, count, reason, recorded, instance, bool(more), detail)
        )

    return damage.noted(f"missed ticks {record_id}", make)


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
