"""What the figures mean: beside our goals, and beside what people would use instead; as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from benchmarks.contenders import CONTENDERS
from benchmarks.results import FleetFigures, Results


@dataclass(frozen=True)
class Goal:
    """A bound for one figure, which is None where it was not measured."""

    work: str
    relation: Literal["=", "≤", "<", "≥"]
    bound: float
    unit: str
    figure: float | None
    digits: int = 0

    @property
    def text(self) -> str:
        return f"{self.relation} {self.bound:,g}{self.unit}"

    @property
    def measured(self) -> str:
        return "" if self.figure is None else f"{self.figure:,.{self.digits}f}{self.unit}"

    @property
    def met(self) -> bool | None:
        if self.figure is None:
            return None
        return {
            "=": self.figure == self.bound,
            "≤": self.figure <= self.bound,
            "<": self.figure < self.bound,
            "≥": self.figure >= self.bound,
        }[self.relation]

    @property
    def verdict(self) -> str:
        return {None: "not measured", True: "met", False: "**missed**"}[self.met]


def goals(results: Results) -> list[Goal]:
    """Every goal of ours."""
    runs, schedules = results.get("runs", {}), results.get("schedules", {})
    bare, memory = runs.get("bare"), runs.get("memory")
    fleet, postgres = _busiest(results, "redis"), _busiest(results, "postgres")
    burst, second = results.get("burst"), results.get("one_second")
    idle, programs = results.get("idle", {}).get("memory"), results.get("programs")
    in_fleet = f"{fleet['rate']} a second in {fleet['processes']} processes" if fleet else "in 4 processes"
    many = f"{burst['jobs'] if burst else 10_000:,} jobs due in every second"
    idlers = f"{idle['jobs'] if idle else 100_000:,} idle jobs"
    most = max(results.get("pages", []), key=lambda each: each["jobs"], default=None)
    shown = f"{most['jobs']:,} jobs with {most['runs']:,} runs" if most else "10,000 jobs with 1,000,000 runs"
    times = " × bare asyncio"
    return [
        Goal(f"In memory, on record, {results['rate']:,} runs a second", "≤", 4, times, _ratio(memory, bare), 1),
        Goal(
            "In memory, on record", "<", 0.5, " × APScheduler, no history", _ratio(memory, runs.get("apscheduler")), 2
        ),
        Goal("In SQLite, claimed and on record", "≤", 10, times, _ratio(runs.get("sqlite"), bare), 1),
        Goal(f"In Redis, the same, {in_fleet}", "≤", 15, times, _ratio(fleet and fleet["cpu_us"], bare), 1),
        Goal("In Redis, requests per second and process", "≤", 6, "", fleet and fleet["calls"], 1),
        Goal(f"In PostgreSQL, the same, {in_fleet}", "≤", 20, times, _ratio(postgres and postgres["cpu_us"], bare), 1),
        Goal(
            "In PostgreSQL, transactions per second and process besides one per batch of claims and one per batch of records",
            "≤",
            6,
            "",
            max((each["others"] for each in results.get("transactions", [])), default=None),
            1,
        ),
        Goal(f"{many}, in SQLite: ticks missed", "=", 0, "", burst and burst["missed"]),
        Goal(f"{many}, in SQLite: event loop held at most", "≤", 50, " ms", burst and burst["held_ms"]),
        Goal(
            f"{second['jobs'] if second else 10_000:,} jobs due in one second, in PostgreSQL: ticks missed, or run twice",
            "=",
            0,
            "",
            second and second["missed"] + second["extra"],
        ),
        Goal(f"{idlers}: to register and start", "<", 1, " s", idle and idle["register_s"] + idle["start_s"], 2),
        Goal(f"{idlers}: memory for each", "<", 1000, " bytes", idle and idle["bytes_per_job"]),
        # As good as none: what can't be told from the noise.
        Goal(f"{idlers}: CPU of one core", "<", 0.1, " %", idle and 100 * idle["cpu"], 2),
        Goal(
            "The next tick of a schedule",
            "≥",
            15,
            " × as fast as croniter",
            _ratio(schedules.get("croniter"), schedules.get("FastAPI Crons")),
        ),
        Goal("Import of `Crons`, beyond `import fastapi`", "<", 60, " ms", programs and programs["import_ms"]),
        Goal(
            "`fastapi-crons --help`",
            "<",
            2,
            " × a bare Typer app",
            programs and programs["help_ms"] / programs["typer_help_ms"],
            1,
        ),
        Goal(f"Any page of the dashboard, {shown}", "<", 1, " s of CPU", _slowest_page(results), 2),
    ]


def missed(results: Results) -> str:
    """The goals that were missed, one a line."""
    lines = [
        f"- {goal.work}: {goal.measured}; goal {goal.relation} {goal.bound:,g}"
        for goal in goals(results)
        if goal.met is False
    ]
    return "\n".join(["Goals missed:", "", *lines]) if lines else "Every goal that was measured is met."


def summary(results: Results) -> str:
    """The short of it: what a run costs, and the goals that were missed."""
    runs = results.get("runs", {})
    rows = [
        (f"{CONTENDERS[name].label}, one process, {CONTENDERS[name].rate(results['rate']):,} a second", cost)
        for name, cost in runs.items()
    ]
    rows += [
        (f"{CONTENDERS[row['contender']].label}, {row['processes']} processes, {row['rate']} a second", row["cpu_us"])
        for name in ("sqlite", "redis", "postgres", "docket", "procrastinate")
        if (row := _busiest(results, name))
    ]
    table = _table(
        ("CPU of a no-op run", "µs", "× bare asyncio"),
        ((label, f"{cost:.1f}", f"{cost / runs['bare']:.1f}") for label, cost in rows),
    )
    return "\n\n".join([machine(results), table, missed(results)])


def tables(results: Results) -> str:
    """All there is, under headings."""
    parts = [
        ("Goals", goals_table(results)),
        ("One process", runs_table(results)),
        ("Several processes that share a store", fleet_table(results)),
        ("Transactions of PostgreSQL", _transactions_table(results)),
        ("Many idle jobs", _idle_table(results)),
        ("The next tick of a schedule", _schedules_table(results)),
        ("Imports and the command line", _programs_table(results)),
        ("Pages of the dashboard", _pages_table(results)),
    ]
    lines = [machine(results)]
    lines += [f"Skipped: {reason}." for reason in results["skipped"]]
    lines += [f"### {heading}\n\n{text}" for heading, text in parts if text]
    return "\n\n".join(lines)


def machine(results: Results) -> str:
    """What it was measured on, and with."""
    return f"{results['machine']}; {', '.join(f'{name} {version}' for name, version in results['versions'].items())}."


def goals_table(results: Results) -> str:
    """Every goal, with what was measured."""
    return _table(
        ("work", "goal", "measured", ""),
        ((goal.work, goal.text, goal.measured, goal.verdict) for goal in goals(results)),
    )


def runs_table(results: Results) -> str:
    """What a run costs in one process."""
    runs = results.get("runs", {})
    return _table(
        ("no-op jobs", "due every second", "CPU a run (µs)", "× bare asyncio", "keeps", "claims"),
        (
            (
                entry.label,
                f"{entry.rate(results['rate']):,}",
                f"{runs[name]:.1f}",
                f"{runs[name] / runs['bare']:.1f}",
                entry.keeps,
                entry.claims,
            )
            for name, entry in CONTENDERS.items()
            if name in runs
        ),
    )


def fleet_table(results: Results) -> str:
    """What a run costs in several processes, and who runs what."""
    bare = results.get("runs", {}).get("bare")
    return _table(
        (
            "store, jobs due every second",
            "CPU a run (µs)",
            "× bare asyncio",
            "shares (%)",
            "due",
            "not run",
            "run too often",
            "requests to Redis per second and process",
            "CPU of the server a run (µs)",
        ),
        (
            (
                f"{CONTENDERS[row['contender']].label}, {row['rate']}",
                f"{row['cpu_us']:.0f}",
                "" if bare is None else f"{row['cpu_us'] / bare:.1f}",
                " ".join(f"{share:.0f}" for share in row["shares"]),
                f"{row['due']:,}",
                f"{row['missing']:,}",
                f"{row['extra']:,}",
                "" if row["calls"] is None else f"{row['calls']:.1f}",
                "" if row["server_us"] is None else f"{row['server_us']:.0f}",
            )
            for row in results.get("fleet", [])
        ),
    )


def _transactions_table(results: Results) -> str:
    return _table(
        (
            "connected, jobs due every second",
            "processes",
            "batches of claims per second and process",
            "batches of records",
            "other transactions",
        ),
        (
            (
                f"{'behind PgBouncer' if each['pooled'] else 'directly'}, {each['rate'] or 'none'}",
                f"{each['processes']}",
                *(f"{count:.1f}" for count in (each["claims"], each["records"], each["others"])),
            )
            for each in results.get("transactions", [])
        ),
    )


def _idle_table(results: Results) -> str:
    return _table(
        ("jobs that are not due", "number", "register (s)", "start (s)", "bytes a job", "CPU (% of one core)"),
        (
            (
                CONTENDERS[name].label,
                f"{idle['jobs']:,}",
                f"{idle['register_s']:.2f}",
                f"{idle['start_s']:.2f}",
                f"{idle['bytes_per_job']:,.0f}",
                f"{idle['cpu']:.2%}".rstrip("%"),
            )
            for name, idle in results.get("idle", {}).items()
        ),
    )


def _schedules_table(results: Results) -> str:
    found = results.get("schedules", {})
    return _table(
        ("next tick, eight expressions in six time zones", "µs", "× FastAPI Crons"),
        ((name, f"{cost:.1f}", f"{cost / found['FastAPI Crons']:.1f}") for name, cost in found.items()),
    )


def _programs_table(results: Results) -> str:
    found = results.get("programs")
    if found is None:
        return ""
    return _table(
        ("before anything is done", "ms"),
        (
            ("`from fastapi_crons import Crons`, after `import fastapi`", f"{found['import_ms']:.0f}"),
            ("`from fastapi_crons import get_cron_router`, after that", f"{found['import_api_ms']:.0f}"),
            ("`fastapi-crons --help`", f"{found['help_ms']:.0f}"),
            ("`--help` of a bare Typer app", f"{found['typer_help_ms']:.0f}"),
        ),
    )


def _pages_table(results: Results) -> str:
    found = results.get("pages", [])
    return _table(
        (
            "CPU of a page (ms)",
            *(
                f"{CONTENDERS[each['contender']].label.rpartition(' ')[2]}: {each['jobs']:,} jobs, {each['runs']:,} runs"
                for each in found
            ),
        ),
        (
            (page, *(f"{1000 * each['cpu_s'][page]:,.0f}" for each in found))
            for page in (found[0]["cpu_s"] if found else ())
        ),
    )


def _slowest_page(results: Results) -> float | None:
    return max((max(each["cpu_s"].values()) for each in results.get("pages", [])), default=None)


def _busiest(results: Results, contender: str) -> FleetFigures | None:
    rows = [row for row in results.get("fleet", []) if row["contender"] == contender]
    return max(rows, key=lambda row: row["rate"], default=None)


def _ratio(figure: float | None, other: float | None) -> float | None:
    return None if figure is None or other is None else figure / other


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table whose columns line up in a terminal too; nothing where there are no rows."""
    body = [list(row) for row in rows]
    if not body:
        return ""
    widths = [max(map(len, column)) for column in zip(heads, *body, strict=True)]
    lines = [heads, ["-" * max(3, width) for width in widths], *body]
    return "\n".join(
        "| " + " | ".join(cell.ljust(max(3, width)) for cell, width in zip(line, widths, strict=True)) + " |"
        for line in lines
    )
