"""The figures that are measured, as they are kept in JSON. `…_us` are microseconds of CPU for each run."""

from __future__ import annotations

from typing import TypedDict

#: Points: number of jobs, and µs a run.
Curve = list[tuple[int, float]]


class BurstFigures(TypedDict):
    """Many jobs, all due in every second: the longest time that the event loop was held, and ticks that were not run."""

    jobs: int
    cpu_us: float
    held_ms: float
    missed: int


class OneSecondFigures(TypedDict):
    """Many jobs, all due in one second, in one process."""

    contender: str
    jobs: int
    cpu_us: float
    missed: int
    extra: int


class IdleFigures(TypedDict):
    """Jobs that are not due. `cpu` is seconds per second."""

    jobs: int
    register_s: float
    start_s: float
    cpu: float
    bytes_per_job: float


class FleetFigures(TypedDict):
    """Several processes that share a store; `rate` jobs due every second."""

    contender: str
    processes: int
    rate: int
    cpu_us: float
    shares: list[float]
    """Percent of all runs, by process."""
    due: int
    missing: int
    """Runs that were due and have not been."""
    extra: int
    """Runs of a job beyond those that were due."""
    calls: float | None
    """Requests to Redis per second and process, where they can be told."""
    server_us: float | None
    """CPU of the server for each run."""


class TransactionFigures(TypedDict):
    """Transactions of PostgreSQL per second and process; `rate` jobs due every second."""

    pooled: bool
    """Behind PgBouncer, in transaction pooling."""
    processes: int
    rate: int
    claims: float
    """Batches of claims."""
    records: float
    """Batches of records."""
    others: float


class ProgramFigures(TypedDict):
    """What programs take before they do anything."""

    import_ms: float
    import_api_ms: float
    help_ms: float
    typer_help_ms: float


class PageFigures(TypedDict):
    """Pages of the dashboard, for so many jobs that have run so often, all together."""

    contender: str
    jobs: int
    runs: int
    cpu_s: dict[str, float]
    """By page: CPU seconds of our process, and of the server where the store has one."""


class Results(TypedDict, total=False):
    """All figures of one go; those that were not asked for are left out."""

    machine: str
    versions: dict[str, str]
    skipped: list[str]
    rate: int
    """How many jobs are due every second in one process."""
    runs: dict[str, float]
    """By contender: µs a run in one process."""
    fleet: list[FleetFigures]
    transactions: list[TransactionFigures]
    burst: BurstFigures
    one_second: OneSecondFigures
    idle: dict[str, IdleFigures]
    schedules: dict[str, float]
    """Microseconds for the next tick of a schedule, by who computes it."""
    programs: ProgramFigures
    pages: list[PageFigures]
    at_once: dict[str, Curve]
    """By contender: all jobs due in every second."""
    registered: dict[str, Curve]
    """By contender: `rate` jobs due in every second, whatever their number."""
