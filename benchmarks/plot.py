"""Draws what a run costs as the number of jobs grows. Needs matplotlib."""

from __future__ import annotations

from pathlib import Path

from benchmarks.contenders import CONTENDERS
from benchmarks.results import Results

_STYLES = {
    "bare": ("#7f7f7f", "o", "--"),
    "memory": ("#1f77b4", "o", "-"),
    "sqlite": ("#2ca02c", "s", "-"),
    "redis": ("#d62728", "^", "-"),
    "postgres": ("#9467bd", "P", "-"),
    "apscheduler": ("#ff7f0e", "v", "-."),
    "apscheduler_sqlite": ("#8c564b", "D", "-."),
}


def draw(results: Results, file: Path) -> None:
    """Write a PNG."""
    from matplotlib import ticker
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, title, curves in (
        (left, "All jobs due in every second", results["at_once"]),
        (right, f"{results['rate']:,} jobs due in every second, of so many", results["registered"]),
    ):
        for name, points in curves.items():
            colour, marker, line = _STYLES[name]
            jobs, costs = zip(*points, strict=True)
            axes.plot(jobs, costs, color=colour, marker=marker, linestyle=line, label=CONTENDERS[name].label)
        axes.set(title=title, xlabel="jobs", xscale="log", yscale="log")
        axes.xaxis.set_major_formatter(ticker.StrMethodFormatter("{x:,.0f}"))
        axes.yaxis.set_major_formatter(ticker.StrMethodFormatter("{x:,.0f}"))
        axes.grid(alpha=0.3)
    left.set_ylabel("CPU a run (µs)")
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, [label.replace("`", "") for label in labels], loc="outside lower center", ncols=3)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=110)
