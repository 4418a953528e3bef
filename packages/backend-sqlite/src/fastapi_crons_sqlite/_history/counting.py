"""What a write adds to the figures of jobs and days, and to the successes of jobs: each run and each missed tick once."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from fastapi_crons.run import FAILED, MissedTicks, Run
from fastapi_crons.state.checks import Damage, checked_figures
from fastapi_crons.state.figures import Figures, add, durations_of, of_missed, of_run, text_of, total
from fastapi_crons_sqlite._history.rows import MISSED_COLUMNS, RUN_COLUMNS, missed_of, run_of
from fastapi_crons_sqlite._names import Names
from fastapi_crons_sqlite._transaction import Row, Transaction, as_json

FIGURES_COLUMNS = "job, day, runs, failed, missed, longest, durations"
#: How many rows of an earlier version are counted at a time.
_AT_A_TIME = 2_000
_INSERT_FIGURES = f"INSERT OR REPLACE INTO job_figures ({FIGURES_COLUMNS})"
_INSERT_SUCCESSES = "INSERT INTO job_success (name, run, ended_ts, took, failures)"
_OR_UPDATE_SUCCESSES = """
    ON CONFLICT (name) DO UPDATE SET
        failures = CASE WHEN excluded.run IS NULL THEN failures ELSE 0 END + excluded.failures,
        run = coalesce(excluded.run, run), ended_ts = coalesce(excluded.ended_ts, ended_ts),
        took = coalesce(excluded.took, took)"""


def newly_ended(transaction: Transaction, runs: Sequence[Run]) -> list[Run]:
    """Those of the runs about to be written that end now: each once, and none that is on record as ended."""
    ended: dict[str, Run] = {}
    for run in runs:
        if run.status != "running":
            ended.setdefault(run.id, run)
    if ended:
        known = transaction.plain_rows(
            "SELECT id FROM job_run WHERE id IN (SELECT value FROM json_each(?)) AND status <> 'running'",
            as_json(list(ended)),
        )
        for (run_id,) in known:
            ended.pop(run_id, None)
    return list(ended.values())


def count(
    transaction: Transaction, names: Names, ended: Sequence[Run], missed: Collection[MissedTicks], damage: Damage
) -> None:
    """Count runs that end now, and missed ticks that are about to be written, with what they replace."""
    found: dict[tuple[str, int], Figures] = {}
    add(found, map(of_run, ended))
    if missed:
        for before in _missed_on_record(transaction, names, missed, damage):
            add(found, of_missed(before, sign=-1))
        for ticks in {ticks.id: ticks for ticks in missed}.values():
            add(found, of_missed(ticks))
    _write(transaction, names, found, ended, damage)


def count_history(transaction: Transaction) -> None:
    """Count what is on record in a file that an earlier version has written."""
    names, damage = _AllNamespaces("default"), Damage("history of an earlier version")
    seen = ""
    while rows := transaction.plain_rows(
        f"SELECT {RUN_COLUMNS} FROM job_run WHERE id > ? ORDER BY id LIMIT ?", seen, _AT_A_TIME
    ):
        seen = rows[-1][0]
        runs = [run for row in rows if (run := run_of(row, row[1], damage)) is not None and run.status != "running"]
        _write(transaction, names, total(map(of_run, runs)), runs, damage)
    seen = ""
    while rows := transaction.plain_rows(
        f"SELECT {MISSED_COLUMNS} FROM job_missed WHERE id > ? ORDER BY id LIMIT ?", seen, _AT_A_TIME
    ):
        seen = rows[-1][0]
        missed = [ticks for row in rows if (ticks := missed_of(row, row[1], damage)) is not None]
        _write(transaction, names, total(each for ticks in missed for each in of_missed(ticks)), (), damage)


class _AllNamespaces(Names):
    """Takes keys for names."""

    def own(self, key: object) -> str | None:
        return key if isinstance(key, str) else None


def figures_of(row: Row, job: str, damage: Damage) -> Figures | None:
    """The figures of a row; `job` is the name that its key stands for. None where they can't be read."""
    _, day, runs, failed, missed, longest, durations = row
    return damage.noted(
        f"figures of job {job!r}, day {day}",
        lambda: checked_figures(Figures(job, day, runs, failed, missed, longest, durations_of(durations))),
    )


def _write(
    transaction: Transaction, names: Names, found: dict[tuple[str, int], Figures], ended: Sequence[Run], damage: Damage
) -> None:
    """Add figures to those on record, and note which of the runs that ended were successes."""
    if found:
        add(found, _figures_on_record(transaction, names, found, damage))
        transaction.insert(_INSERT_FIGURES, [_figures_row(each, names.key(each.job)) for each in found.values()])
    if ended:
        transaction.insert(_INSERT_SUCCESSES, _success_rows(names, ended), _OR_UPDATE_SUCCESSES)


def _figures_row(figures: Figures, key: str) -> Row:
    return (key, *figures[1:3], figures.failed, max(figures.missed, 0), figures.longest, text_of(figures.durations))


def _missed_on_record(
    transaction: Transaction, names: Names, missed: Collection[MissedTicks], damage: Damage
) -> Iterator[MissedTicks]:
    ids = as_json([ticks.id for ticks in missed])
    for row in transaction.plain_rows(
        f"SELECT {MISSED_COLUMNS} FROM job_missed WHERE id IN (SELECT value FROM json_each(?))", ids
    ):
        job = names.own(row[1])
        found = None if job is None else missed_of(row, job, damage)
        if found is not None:
            yield found


def _figures_on_record(
    transaction: Transaction, names: Names, days: Collection[tuple[str, int]], damage: Damage
) -> list[Figures]:
    rows = transaction.plain_rows(
        f"""SELECT {FIGURES_COLUMNS} FROM job_figures WHERE (job, day) IN (
            SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(?))""",
        as_json([(names.key(job), day) for job, day in days]),
    )
    found = (figures_of(row, job, damage) for row in rows if (job := names.own(row[0])) is not None)
    return [each for each in found if each is not None]


def _success_rows(names: Names, ended: Sequence[Run]) -> list[Row]:
    """For each job its latest success among the runs, where there is one, and how many failed after it."""
    found: dict[str, Row] = {}
    for run in ended:
        key, none = names.key(run.job), (None, None, None)
        if run.status == "completed":
            found[key] = (key, run.id, run.ended_ts, run.duration, 0)
        elif run.status in FAILED:
            *before, failures = found.get(key, (key, *none, 0))
            found[key] = (*before, failures + 1)
    return list(found.values())
