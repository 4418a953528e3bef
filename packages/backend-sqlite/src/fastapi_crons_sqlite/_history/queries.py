"""Which statement finds the runs, missed ticks and ids that are asked for: one that looks at little more than it finds."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from fastapi_crons.run import RunStatus, first_id_at
from fastapi_crons.state.base import AGAIN, MissedQuery, RunQuery
from fastapi_crons_sqlite._history.rows import (
    LONG_MISSED,
    MISSED_COLUMNS,
    MISSED_SPAN,
    NOT_COMPLETED,
    RUN_AGAIN,
    RUN_COLUMNS,
)
from fastapi_crons_sqlite._names import Names
from fastapi_crons_sqlite._transaction import Value, as_json

#: A condition, or a statement, with its parameters.
Sql = tuple[str, list[Value]]
#: The records of so many jobs are found faster by job than by time.
_FEW_JOBS = 200
#: How far (seconds) the clocks of two instances may differ.
_CLOCKS_DIFFER = 3_600
_ID_LENGTH = 36


def runs_wanted(names: Names, query: RunQuery) -> Sql:
    """The runs that a query asks for, newest first."""
    bounds = _bounds(
        ("id < ?", query.before),
        ("id >= ?", None if query.claimed_since is None else first_id_at(query.claimed_since)),
        ("id < ?", None if query.until is None else first_id_at(query.until)),
        ("(ended_ts IS NULL OR ended_ts >= ?)", query.under_way_since),
    )
    if query.triggers == AGAIN:
        index = "INDEXED BY job_run_again"
        within, values = _and_among(bounds, "status", query.statuses)
        alternatives = [_Alternative(f"{within} AND {RUN_AGAIN}", values, index, index)]
    else:
        alternatives = _by_status(query.statuses, _and_among(bounds, "trigger", query.triggers))
    return _newest("job_run", RUN_COLUMNS, names, query.jobs, alternatives, query.limit)


def missed_wanted(names: Names, query: MissedQuery) -> Sql:
    """The records of missed ticks that a query asks for, newest first."""
    within, parameters = _bounds(("id < ?", query.before), ("last_ts >= ?", query.since), ("first_ts < ?", query.until))
    alternatives = [_Alternative(within, parameters)]
    if query.since is not None:
        # The id of a record is made when its first tick has been missed; clocks differ.
        with_oldest = [*parameters, first_id_at(query.since - MISSED_SPAN - _CLOCKS_DIFFER)]
        alternatives = [
            _Alternative(f"{within} AND id >= ?", with_oldest),
            _Alternative(f"{within} AND id < ? AND {LONG_MISSED}", with_oldest, "INDEXED BY job_missed_long"),
        ]
    return _newest("job_missed", MISSED_COLUMNS, names, query.jobs, alternatives, query.limit)


def ids_wanted(names: Names, part: str, job: str | None) -> Sql:
    """The ids of runs that begin or end with a text. Those that end with it are found in an index that holds nothing else."""
    own, parameters = own_or_of(names, None if job is None else [job])
    # "g" sorts behind all digits.
    sql = f"SELECT id FROM job_run WHERE id >= ? AND id < ? AND {_by_id(own)}"
    values = [part, f"{part}g", *parameters]
    if len(part) < _ID_LENGTH:
        sql += f" UNION SELECT id FROM job_run INDEXED BY job_run_by_job WHERE {own} AND substr(id, -length(?)) = ?"
        values += [*parameters, part, part]
    return f"{sql} ORDER BY id DESC", values


def own_or_of(names: Names, jobs: Collection[str] | None) -> Sql:
    """The condition that a row belongs to one of these jobs, or to any of this namespace."""
    if jobs is None:
        return names.condition, [*names.bounds]
    if len(jobs) == 1:
        return "job = ?", [names.key(*jobs)]
    return "job IN (SELECT value FROM json_each(?))", [as_json([names.key(job) for job in jobs])]


class _Alternative(NamedTuple):
    """A condition, its parameters, and the index that finds its rows: in the order of ids, and of each job."""

    condition: str
    parameters: list[Value]
    by_id: str = ""
    by_job: str = ""


def _newest(
    table: str,
    columns: str,
    names: Names,
    jobs: Collection[str] | None,
    alternatives: Sequence[_Alternative],
    limit: int,
) -> Sql:
    """The newest rows for which one of these conditions holds: by their ids, and by those of each job where jobs are few."""
    found, values = [], list[Value]()
    for condition, parameters, by_id, by_job in alternatives:
        rest = f"{condition} ORDER BY id DESC LIMIT ?"
        if jobs is None or len(jobs) > _FEW_JOBS:
            own, own_parameters = own_or_of(names, jobs)
            found.append(f"SELECT id FROM {table} {by_id} WHERE {_by_id(own)} AND {rest}")
            values += [*own_parameters, *parameters, limit]
        else:
            # As JSON: SQLite has no other join with a query for each row.
            of_job = f"SELECT id FROM {table} {by_job} WHERE job = wanted.value AND typeof(id) = 'text' AND {rest}"
            newest = f"json_each((SELECT json_group_array(id) FROM ({of_job}))) AS newest"
            found.append(f"SELECT newest.value AS id FROM json_each(?) AS wanted JOIN {newest}")
            values += [as_json([names.key(job) for job in jobs]), *parameters, limit]
    ids = " UNION ALL ".join(f"SELECT id FROM ({each})" for each in found)
    return f"SELECT {columns} FROM {table} WHERE id IN ({ids}) ORDER BY id DESC LIMIT ?", [*values, limit]


def _by_status(statuses: Collection[RunStatus], bounds: Sql) -> list[_Alternative]:
    """Conditions, one of which holds for each run within bounds with any of these statuses, in words that an index knows."""
    within, parameters = bounds
    if not statuses:
        return [_Alternative(within, parameters)]
    among, values = _and_among(bounds, "status", statuses)
    if "completed" in statuses:
        return [_Alternative(among, values)]
    found = []
    if {*statuses} - {"running"}:
        indexes = ("INDEXED BY job_run_not_completed", "INDEXED BY job_run_not_completed_by_job")
        found.append(_Alternative(f"{among} AND {NOT_COMPLETED}", values, *indexes))
    if "running" in statuses:
        index = "INDEXED BY job_run_unfinished"
        found.append(_Alternative(f"{within} AND status = 'running'", parameters, index, index))
    return found


def _and_among(bounds: Sql, column: str, wanted: Collection[str]) -> Sql:
    """The same bounds, and that a column has any of these values, where there are some."""
    within, parameters = bounds
    if not wanted:
        return bounds
    return f"{within} AND {column} IN (SELECT value FROM json_each(?))", [*parameters, as_json(sorted(wanted))]


def _bounds(*bounds: tuple[str, Value]) -> Sql:
    given = [(condition, bound) for condition, bound in bounds if bound is not None]
    return " AND ".join(["true", *(condition for condition, _ in given)]), [bound for _, bound in given]


def _by_id(condition: str) -> str:
    """The same condition on `job`, for which no index of jobs is used: by id, rows are found in order."""
    return condition.replace("job", "+job")
