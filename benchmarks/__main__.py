"""`python -m benchmarks`: measures, and says in Markdown what was found beside our goals."""

from __future__ import annotations

import argparse
import importlib.util
import json
import re
import sys
from pathlib import Path
from typing import get_args

from benchmarks import report
from benchmarks.results import Results
from benchmarks.suite import FULL, QUICK, Section, measure

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
FIGURES = DOCS / "benchmarks.json"


def main(arguments: list[str] | None = None) -> int:
    """Do what the command line asks for; returns the exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.docs and (options.quick or options.only):
        parser.error("the docs want all figures, and good ones: --docs goes with neither --quick nor --only")
    plot: Path | None = DOCS / "benchmarks.png" if options.docs else options.plot
    kept: Path | None = options.json
    if plot is not None and importlib.util.find_spec("matplotlib") is None:
        parser.error("a plot needs matplotlib: pip install -r benchmarks/requirements.txt")
    if options.results is not None:
        results: Results = json.loads(options.results.read_text())
    else:
        sections: set[Section] = set(options.only or get_args(Section))
        if plot is None:
            sections.discard("curves")
        else:
            sections.add("curves")
        results = measure(sections, QUICK if options.quick else FULL)
    print(report.tables(results), report.missed(results), sep="\n\n")
    if kept is not None:
        kept.write_text(_as_json(results))
    if options.docs and results["skipped"]:
        print("the docs want all figures; they are left as they are", file=sys.stderr)
        return 1
    if plot is not None and "at_once" in results:
        from benchmarks.plot import draw

        draw(results, plot)
    if options.docs:
        FIGURES.write_text(_as_json(results))
        _put(DOCS / "benchmarks.md", report.tables(results))
        _put(ROOT / "README.md", report.summary(results))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a look at whether it works; the figures mean little")
    parser.add_argument(
        "--only",
        nargs="+",
        choices=[section for section in get_args(Section) if section != "curves"],
        help="measure only these",
    )
    parser.add_argument(
        "--plot", type=Path, metavar="PNG", help="also draw what a run costs as the jobs grow in number"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the figures")
    parser.add_argument("--from", dest="results", type=Path, metavar="FILE", help="use kept figures; measure nothing")
    parser.add_argument("--docs", action="store_true", help="put figures and plot into README.md and docs/")
    return parser


def _as_json(results: Results) -> str:
    return json.dumps(results, indent=1) + "\n"


def _put(file: Path, text: str) -> None:
    """Replace what stands between the marks of a file."""
    marks = r"(<!-- benchmarks -->\n).*(<!-- /benchmarks -->)"
    before = file.read_text()
    after, times = re.subn(marks, lambda match: f"{match[1]}\n{text}\n\n{match[2]}", before, flags=re.DOTALL)
    if times != 1:
        raise ValueError(f"{file} must have one <!-- benchmarks --> and one <!-- /benchmarks -->")
    file.write_text(after)


if __name__ == "__main__":
    sys.exit(main())
