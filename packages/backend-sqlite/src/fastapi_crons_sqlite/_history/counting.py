"""What a write adds to the figures of jobs and days, and to the successes of jobs: each run and each missed tick once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress

from fastapi_crons._util.damage import MOST, UNREADABLE
from fastapi_crons.run import FAILED, MissedTicks, Run
from fastapi_crons.state.checks import Damage, checked_figures
from fastapi_crons.state.figures import Figures, bucket_of, day_of, durations_of, of_missed, text_of
from fastapi_crons_sqlite._history.rows import MISSED_COLUMNS, missed_of
from fastapi_crons_sqlite._names import Names
from fastapi_crons_sqlite._transaction import Row, Transaction, as_json

FIGURES_COLUMNS = "day, job, runs, failed, missed, longest, durations"
#: As if they were of one day, and last, whether there is a row that holds something else than figures, which counts as nothing.
SUMS_COLUMNS = f"""0, job, sum(min(runs, {MOST})), sum(min(failed, {MOST})), sum(min(missed, {MOST})), max(longest),
    group_concat(durations, ' '), max(typeof(runs) || typeof(failed) || typeof(missed) <> 'integerintegerinteger'
    OR min(runs, failed, missed) < 0 OR max(runs, failed, missed) > {MOST})"""
#: Whether so much was appended to the durations of a day that they are to be added up.
IS_LONG = "appended > 32"
_INSERT_FIGURES = f"INSERT INTO job_figures ({FIGURES_COLUMNS}, appended)"
_OR_ADD_FIGURES = """
    ON CONFLICT (day, job) DO UPDATE SET
        runs = runs + excluded.runs, failed = failed + excluded.failed, missed = missed + excluded.missed,
        longest = max(longest, excluded.longest), durations = durations || excluded.durations,
        appended = appended + excluded.appended"""
_TAKE_MISSED = "UPDATE job_figures SET missed = max(missed + ?, 0) WHERE day = ? AND job = ?"
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
    if ended:
        _add_runs(transaction, names, ended)
        _compact(transaction, 8 + len(ended) // 8)
    if missed:
        newest = {ticks.id: ticks for ticks in missed}
        add_missed(transaction, names, newest.values(), _missed_on_record(transaction, names, newest, damage))


def _add_runs(transaction: Transaction, names: Names, ended: Sequence[Run]) -> None:
    found: dict[tuple[int, str], Row] = {}
    for run in ended:
        key = (day_of(run.started_ts), names.key(run.job))
        took = run.duration if run.status == "completed" else None
        row = (*key, 1, int(run.status in FAILED), 0, took or 0.0, "" if took is None else f"{bucket_of(took)}:1 ", 1)
        found[key] = row if key not in found else _sum(found[key], row)
    transaction.insert(_INSERT_FIGURES, list(found.values()), _OR_ADD_FIGURES)
    transaction.insert(_INSERT_SUCCESSES, _success_rows(names, ended), _OR_UPDATE_SUCCESSES)


def _sum(one: Row, other: Row) -> Row:
    return (
        *one[:2],
        *(one[column] + other[column] for column in (2, 3, 4)),
        max(one[5], other[5]),
        one[6] + other[6],
        one[7] + other[7],
    )


def add_missed(
    transaction: Transaction, names: Names, missed: Iterable[MissedTicks], replaced: Iterable[MissedTicks] = ()
) -> None:
    """Count missed ticks, and take away those that they replace."""
    found: Counter[tuple[int, str]] = Counter()
    for sign, records in ((1, missed), (-1, replaced)):
        for ticks in records:
            for each in of_missed(ticks, sign=sign):
                found[each.day, names.key(each.job)] += each.missed
    more = [(day, key, 0, 0, number, 0.0, "", 0) for (day, key), number in found.items() if number > 0]
    transaction.insert(_INSERT_FIGURES, more, _OR_ADD_FIGURES)
    for (day, key), number in found.items():
        if number < 0:
            # Those that are replaced may not have been counted: by an earlier version, for example.
            transaction.execute(_TAKE_MISSED, number, day, key)


def _compact(transaction: Transaction, limit: int) -> None:
    """Write durations to which much was appended anew, each bucket once: some of them with each write."""
    rows = transaction.plain_rows(f"SELECT day, job, durations FROM job_figures WHERE {IS_LONG} LIMIT ?", limit)
    for day, job, durations in rows:
        transaction.execute(
            "UPDATE job_figures SET durations = ?, appended = 0 WHERE day = ? AND job = ?",
            _compacted(durations),
            day,
            job,
        )


def _compacted(durations: object) -> str:
    """What can be read of a sketch's text, each bucket once."""
    found: Counter[int] = Counter()
    for part in str(durations).split():
        with suppress(ValueError):
            found.update(durations_of(part))
    return f"{text_of(found)} " if found else ""


def _missed_on_record(
    transaction: Transaction, names: Names, ids: Collection[str], damage: Damage
) -> Iterator[MissedTicks]:
    for row in transaction.plain_rows(
        f"SELECT {MISSED_COLUMNS} FROM job_missed WHERE id IN (SELECT value FROM json_each(?))", as_json(list(ids))
    ):
        job = names.own(row[1])
        found = None if job is None else missed_of(row, job, damage)
        if found is not None:
            yield found


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


def figures_of(row: Row, job: str, damage: Damage) -> Figures | None:
    """The figures of a row; `job` is the name that its key stands for. None where they can't be read."""
    day, _, runs, failed, missed, longest, durations = row
    return damage.noted(
        f"figures of job {job!r}, day {day}",
        lambda: checked_figures(Figures(job, day, runs, failed, missed, longest, durations_of(durations))),
    )


def sums_of(rows: Sequence[tuple[Row, str]]) -> dict[str, Figures] | None:
    """The sums of rows, each with the name that its key stands for, by this name. None where one of them can't be right."""
    found: dict[str, Figures] = {}
    try:
        for (_, _, runs, failed, missed, longest, durations, is_damaged), job in rows:
            if is_damaged:
                return None
            found[job] = checked_figures(Figures(job, 0, runs, failed, missed, longest, durations_of(durations)))
    except UNREADABLE:
        return None
    return found
