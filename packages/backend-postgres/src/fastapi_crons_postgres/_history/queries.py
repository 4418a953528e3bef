"""Which statement finds the runs, missed ticks and figures that are asked for: one that looks at little more than it finds."""

from __future__ import annotations

from collections.abc import Collection

from fastapi_crons.run import first_id_at
from fastapi_crons.state.base import MissedQuery, RunQuery
from fastapi_crons_postgres._batch import fit
from fastapi_crons_postgres._history.rows import MISSED_COLUMNS, RUN_COLUMNS

#: A statement with its parameters.
Sql = tuple[str, list[object]]
#: The records of so many jobs are found faster by job than by time.
_FEW_JOBS = 200
#: Longer spans of missed ticks are found by an index of their own: a record grows as long as a run holds its job.
MISSED_SPAN = 3_600
#: How far (seconds) the clocks of two instances may differ.
_CLOCKS_DIFFER = 3_600


class Wanted:
    """Conditions on the rows of a table that are joined by AND, with their parameters. The first is the namespace, `$1`."""

    def __init__(self, namespace: str) -> None:
        self.parameters: list[object] = [fit(namespace)]
        self.conditions = ["namespace = $1"]

    def and_also(self, condition: str, *values: object) -> None:
        """Add a condition in which `{}` stands for each of the values."""
        self.conditions.append(condition.format(*map(self.parameter, values)))

    def parameter(self, value: object) -> str:
        """What stands for a value."""
        self.parameters.append([*map(fit, value)] if isinstance(value, list) else fit(value))
        return f"${len(self.parameters)}"

    def newest(self, table: str, columns: str, jobs: Collection[str] | None, limit: int) -> Sql:
        """The newest rows of these jobs, or of all, for which the conditions hold."""
        where, few = " AND ".join(self.conditions), jobs is not None and len(jobs) <= _FEW_JOBS
        if jobs is not None and not few:
            where += f" AND job = ANY ({self.parameter([*jobs])}::text[])"
        if not few:
            return f"SELECT {columns} FROM {table} WHERE {where} ORDER BY id DESC LIMIT {limit:d}", self.parameters
        return self.newest_of_each(table, columns, jobs or (), limit, f"ORDER BY id DESC LIMIT {limit:d}")

    def newest_of_each(self, table: str, columns: str, jobs: Collection[str], limit: int, rest: str) -> Sql:
        """The newest rows of each of these jobs for which the conditions hold, and what is to become of them all."""
        where, names = " AND ".join(self.conditions), self.parameter([*jobs])
        of_job = f"SELECT {columns} FROM {table} WHERE {where} AND job = wanted.job ORDER BY id DESC LIMIT {limit:d}"
        return (
            f"SELECT found.* FROM unnest({names}::text[]) AS wanted (job) CROSS JOIN LATERAL ({of_job}) AS found {rest}",
            self.parameters,
        )


def runs_wanted(schema: str, namespace: str, query: RunQuery) -> Sql:
    """The runs that a query asks for, newest first."""
    wanted = Wanted(namespace)
    _between(wanted, query.claimed_since, query.until, query.before)
    if query.under_way_since is not None:
        wanted.and_also("(ended_ts IS NULL OR ended_ts >= {}::float8)", float(query.under_way_since))
    if query.statuses:
        wanted.and_also("status = ANY ({}::text[])", sorted(query.statuses))
        if "completed" not in query.statuses:
            wanted.and_also("status <> 'completed'")  # as the index of these says it
    if query.triggers:
        wanted.and_also("trigger = ANY ({}::text[])", sorted(query.triggers))
        if query.triggers == ("again",):
            wanted.and_also("trigger = 'again'")
    return wanted.newest(f"{schema}.crons_run", RUN_COLUMNS, query.jobs, query.limit)


def missed_wanted(schema: str, namespace: str, query: MissedQuery) -> Sql:
    """The records of missed ticks that a query asks for, newest first."""
    wanted = Wanted(namespace)
    _between(wanted, None, None, query.before)
    if query.since is not None:
        wanted.and_also("last_ts >= {}::float8", float(query.since))
        # The id of a record is made when its first tick has been missed; clocks differ.
        oldest = first_id_at(query.since - MISSED_SPAN - _CLOCKS_DIFFER)
        wanted.and_also(f"(id >= {{}} OR last_ts - first_ts > {MISSED_SPAN})", oldest)
    if query.until is not None:
        wanted.and_also("first_ts < {}::float8", float(query.until))
    return wanted.newest(f"{schema}.crons_missed", MISSED_COLUMNS, query.jobs, query.limit)


def ids_wanted(schema: str, namespace: str, part: str, job: str | None) -> Sql:
    """The ids of runs that begin or end with a text, newest first."""
    wanted = Wanted(namespace)
    if job is not None:
        wanted.and_also("job = {}", job)
    # "g" sorts behind all digits.
    wanted.and_also("((id >= {} AND id < {}) OR right(id, {}::int) = {})", part, f"{part}g", len(part), part)
    where = " AND ".join(wanted.conditions)
    return f"SELECT id FROM {schema}.crons_run WHERE {where} ORDER BY id DESC", wanted.parameters


def figures_wanted(schema: str, namespace: str, jobs: Collection[str] | None, since: int, until: int | None) -> Sql:
    """Where the figures of these jobs and days are, with the parameters."""
    wanted, table = Wanted(namespace), f"{schema}.crons_figures"
    first = wanted.parameter(since)
    last = wanted.parameter(2**62 if until is None else until)
    if jobs is None:
        source = f"{table} AS figures WHERE namespace = $1 AND day BETWEEN {first} AND {last}"
        return f"{source} AND (runs <> 0 OR missed <> 0)", wanted.parameters
    names = wanted.parameter([*jobs])
    days = (
        f"generate_series(greatest({first}, (SELECT min(day) FROM {table} WHERE namespace = $1)), "
        f"least({last}, (SELECT max(day) FROM {table} WHERE namespace = $1)))"
    )
    source = (
        f"{days} AS days (day) CROSS JOIN unnest({names}::text[]) AS wanted (job) JOIN {table} AS figures "
        "ON figures.namespace = $1 AND figures.day = days.day AND figures.job = wanted.job"
    )
    return f"{source} WHERE (runs <> 0 OR missed <> 0)", wanted.parameters


def _between(wanted: Wanted, since: float | None, until: float | None, before: str | None) -> None:
    if before is not None:
        wanted.and_also("id < {}", before)
    if since is not None:
        wanted.and_also("id >= {}", first_id_at(since))
    if until is not None:
        wanted.and_also("id < {}", first_id_at(until))
