"""The benchmarks start, and the docs say what was measured last."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import report
from benchmarks.results import Results

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_command_prints_a_table(tmp_path: Path) -> None:
    kept = tmp_path / "figures.json"
    command = [sys.executable, "-m", "benchmarks", "--quick", "--only", "burst", "schedules", "--json", str(kept)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "| The next tick of a schedule " in done.stdout
    assert "| not measured" in done.stdout
    results: Results = json.loads(kept.read_text())
    assert results["burst"]["jobs"] == 1_000
    assert set(results["schedules"]) == {"FastAPI Crons", "croniter", "cronsim"}
    assert report.tables(results) in done.stdout


def test_readme_and_docs_show_the_figures_that_are_kept() -> None:
    results: Results = json.loads((ROOT / "docs/benchmarks.json").read_text())
    assert report.summary(results) in (ROOT / "README.md").read_text()
    assert report.tables(results) in (ROOT / "docs/benchmarks.md").read_text()
    assert all(goal.met is not None for goal in report.goals(results))
