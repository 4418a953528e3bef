"""What the figures mean: beside our goals, and beside what people would use instead; as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from benchmarks.contenders import CONTENDERS
from benchmarks.suite import Fleet, Results


@dataclass(frozen=True)
class Goal:
    """A bound for one figure. `measured` and `met` are None where that figure was not measured."""

    work: str
    bound: str
    measured: str | None = None
    met: bool | None = None

    @property
    def verdict(self) -> str:
        return {None: "not measured", True: "met", False: "**missed**"}[self.met]


def goals(results: Results) -> list[Goal]:
    """Every goal of ours, and whether it was met."""
    rate = results["rate"]
    runs = results.get("runs", {})
    bare, memory = runs.get("bare"), runs.get("memory")
    rival = runs.get("apscheduler")
    fleet = _busiest(results, "redis")
    burst, programs, schedules = results.get("burst"), results.get("programs"), results.get("schedules")
    idle = results.get("idle", {}).get("memory")
    jobs, many = f"{idle['jobs']:,}" if idle else "100,000", f"{burst['jobs']:,}" if burst else "10,000"
    processes = f"{fleet['processes']} processes, {fleet['rate']} runs a second" if fleet else "4 processes"
    started = None if idle is None else idle["register_s"] + idle["start_s"]
    helps = None if programs is None else _ratio(programs["help_ms"], programs["typer_help_ms"])
    ahead = None if schedules is None else _ratio(schedules["croniter"], schedules["FastAPI Crons"])
    return [
        _at_most(f"A run in memory, on record, {rate:,} a second", 4, _ratio(memory, bare), _times("bare asyncio")),
        _below("the same", 0.5, _ratio(memory, rival), _times("APScheduler in memory", 2)),
        _at_most("claimed and on record in SQLite", 10, _ratio(runs.get("sqlite"), bare), _times("bare asyncio")),
        _at_most(
            f"claimed and on record in Redis, {processes}",
            15,
            _ratio(fleet and fleet["cpu_us"], bare),
            _times("bare asyncio"),
        ),
        _at_most("its requests to Redis, per second and process", 6, fleet and fleet["calls"], "{:.1f}".format),
        _at_most(f"{many} jobs due in every second, SQLite: ticks missed", 0, burst and burst["missed"], "{:,}".format),
        _at_most("the event loop held at most", 50, burst and burst["held_ms"], "{:.0f} ms".format),
        _below(f"{jobs} idle jobs: to register and start", 1, started, _seconds),
        _below("memory for each", 1000, idle and idle["bytes_per_job"], "{:,.0f} bytes".format),
        # What can't be told from none.
        _below("CPU, of one core", 0.1, idle and idle["cpu"] * 100, _percent),
        _at_least("The next tick of a schedule", 15, ahead, "{:.0f} × as fast as croniter".format),
        _below(
            "Imports of an app, beyond `import fastapi`", 60, programs and programs["import_ms"], "{:.0f} ms".format
        ),
        _below("`fastapi-crons --help`", 2, helps, _times("a bare Typer app")),
    ]


def missed(results: Results) -> str:
    """The goals that were missed, in a sentence."""
    lines = [f"{goal.work} ({goal.measured}; goal {goal.bound})" for goal in goals(results) if goal.met is False]
    return "Every goal that was measured is met." if not lines else f"Goals missed: {'; '.join(lines)}."


def tables(results: Results) -> str:
    """All there is, under headings."""
    parts = [
        ("Goals", goals_table(results)),
        ("One process", runs_table(results)),
        ("Several processes that share a store", fleet_table(results)),
        ("Many idle jobs", _idle_table(results)),
        ("The next tick of a schedule", _schedules_table(results)),
    ]
    lines = [machine(results)]
    lines += [f"Skipped: {reason}." for reason in results["skipped"]]
    lines += [f"## {heading}\n\n{text}" for heading, text in parts if text]
    return "\n\n".join(lines)


def machine(results: Results) -> str:
    """What it was measured on, and with."""
    return f"{results['machine']}; {', '.join(f'{name} {version}' for name, version in results['versions'].items())}."


def goals_table(results: Results) -> str:
    """Every goal, with what was measured."""
    return _table(
        ("work", "goal", "measured", ""),
        ((goal.work, goal.bound, goal.measured or "", goal.verdict) for goal in goals(results)),
    )


def runs_table(results: Results) -> str:
    """What a run costs in one process."""
    runs = results.get("runs", {})
    return _table(
        (f"{results['rate']:,} no-op jobs due every second", "CPU a run (µs)", "× bare asyncio", "keeps", "claims"),
        (
            (entry.label, f"{runs[name]:.1f}", f"{_per(runs[name], runs['bare']):.1f}", entry.keeps, entry.claims)
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
            "CPU of Redis a run (µs)",
        ),
        (
            (
                f"{CONTENDERS[row['contender']].label}, {row['rate']}",
                f"{row['cpu_us']:.0f}",
                "" if bare is None else f"{_per(row['cpu_us'], bare):.1f}",
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
        ((name, f"{cost:.1f}", f"{_per(cost, found['FastAPI Crons']):.1f}") for name, cost in found.items()),
    )


def _busiest(results: Results, contender: str) -> Fleet | None:
    rows = [row for row in results.get("fleet", []) if row["contender"] == contender]
    return max(rows, key=lambda row: row["rate"], default=None)


def _at_most(work: str, bound: float, measured: float | None, show: Callable[[float], str]) -> Goal:
    return _goal(work, "≤", bound, measured, show, lambda figure: figure <= bound)


def _below(work: str, bound: float, measured: float | None, show: Callable[[float], str]) -> Goal:
    return _goal(work, "<", bound, measured, show, lambda figure: figure < bound)


def _at_least(work: str, bound: float, measured: float | None, show: Callable[[float], str]) -> Goal:
    return _goal(work, "≥", bound, measured, show, lambda figure: figure >= bound)


def _goal(
    work: str,
    relation: str,
    bound: float,
    measured: float | None,
    show: Callable[[float], str],
    good: Callable[[float], bool],
) -> Goal:
    text = f"{relation} {bound:,}"
    return Goal(work, text) if measured is None else Goal(work, text, show(measured), good(measured))


def _times(what: str, digits: int = 1) -> Callable[[float], str]:
    return lambda figure: f"{figure:.{digits}f} × {what}"


def _seconds(figure: float) -> str:
    return f"{figure:.2f} s"


def _percent(figure: float) -> str:
    return f"{figure:.2f} %"


def _ratio(figure: float | None, other: float | None) -> float | None:
    return None if figure is None or other is None else figure / other


def _per(figure: float, other: float) -> float:
    return figure / other


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
