"""`python -m benchmarks`: runs every case in a process of its own and prints figures, ratios and goals."""

from __future__ import annotations

import json
import platform
import subprocess
import sys

from benchmarks import schedule_speed
from benchmarks.cases import CASES, IDLE, JOBS, MANY, Figures


def main() -> None:
    """Print the table."""
    figures = {name: _measure(name) for name in CASES}
    bare = _microseconds(figures["bare_asyncio"])
    print(f"Python {platform.python_version()}, {platform.machine()}\n")
    print(f"{'CPU a run, ' + format(JOBS, ',') + ' jobs a second':<46}{'µs':>8}{'× bare':>9}   goal")
    for label, name, goal in (
        ("bare asyncio", "bare_asyncio", ""),
        ("fastapi-crons, memory", "crons_memory", "≤ 4 ×, below half of APScheduler's"),
        ("fastapi-crons, SQLite", "crons_sqlite", "≤ 10 ×"),
        ("APScheduler 3.11, memory, no history", "apscheduler_memory", ""),
        ("APScheduler 3.11, SQLite job store", "apscheduler_sqlite", ""),
    ):
        cost = _microseconds(figures[name])
        print(f"{label:<46}{cost:>8.1f}{cost / bare:>9.1f}   {goal}")
    many, idle = figures["crons_sqlite_many"], figures["crons_idle"]
    print(f"\n{MANY:,} jobs due every second, SQLite")
    print(f"  CPU a run {_microseconds(many):.1f} µs; ticks missed {many['missed']:.0f} (goal 0); ", end="")
    print(f"loop held at most {many['held_ms']:.0f} ms (goal 50)")
    print(f"\n{IDLE:,} idle jobs")
    print(f"  register {idle['register']:.2f} s, start {idle['start']:.2f} s (goal: together below 1 s)")
    print(f"  {figures['crons_idle_memory']['bytes_per_job']:.0f} bytes a job (goal 1,000); ", end="")
    print(f"CPU {idle['idle_cpu']:.2%} of a core while idle")
    print(f"\nimport fastapi_crons beyond import fastapi: {figures['import_time']['milliseconds']:.0f} ms (goal 60)\n")
    schedule_speed.main()


def _measure(name: str) -> Figures:
    print(f"measuring {name} ...", file=sys.stderr, flush=True)
    figures: Figures = json.loads(subprocess.check_output([sys.executable, "-m", "benchmarks.cases", name]))
    return figures


def _microseconds(figures: Figures) -> float:
    return figures["cpu"] / figures["runs"] * 1e6


if __name__ == "__main__":
    main()
