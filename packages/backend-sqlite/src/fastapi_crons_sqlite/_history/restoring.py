"""Restoring: states and figures of another store, in place of those that its runs have made here."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timezone

from fastapi_crons.state import Figures, JobState
from fastapi_crons.state.figures import text_of
from fastapi_crons_sqlite._history.counting import FIGURES_COLUMNS
from fastapi_crons_sqlite._names import Names
from fastapi_crons_sqlite._transaction import Transaction


def restore(transaction: Transaction, names: Names, states: Collection[JobState], figures: Collection[Figures]) -> None:
    """Put states and figures on record. The times of a latest run that is on record stay."""
    began = [(names.key(each.job), each, _iso(each.last_run_ts)) for each in states]
    transaction.insert(
        "INSERT OR IGNORE INTO job_status (name, status, instance_id, started_at)",
        [(key, each.status, each.instance, started) for key, each, started in began],
    )
    transaction.insert(
        "INSERT OR IGNORE INTO job_state (name, last_run, created_at, updated_at)",
        [(key, started, started, started) for key, _, started in began],
    )
    transaction.insert(
        "INSERT OR REPLACE INTO job_success (name, run, ended_ts, took, failures)",
        [
            (key, each.last_success_run, each.last_success_ts, each.last_success_took, each.failures)
            for key, each, _ in began
        ],
    )
    transaction.insert(
        f"INSERT OR REPLACE INTO job_figures ({FIGURES_COLUMNS}, appended)",
        [
            (
                each.day,
                names.key(each.job),
                each.runs,
                each.failed,
                each.missed,
                each.longest,
                f"{text_of(each.durations)} " if each.durations else "",
                0,
            )
            for each in figures
        ],
    )


def _iso(instant: float) -> str:
    return datetime.fromtimestamp(instant, timezone.utc).isoformat(timespec="milliseconds")
