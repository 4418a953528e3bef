"""`backfill`: what it shows, and how it goes on where it stopped."""

from __future__ import annotations

import json
from pathlib import Path

from tests.integration.cli.commands import Cli, json_of, refused

SPAN = ("2026-02-01", "2026-02-03 02:00")


def test_a_span_is_made_up_for(fastapi_crons: Cli, project: Path) -> None:
    planned = fastapi_crons("backfill", "backup_database", *SPAN, "--one-by-one", "--dry-run")
    ticks = [f"2026-02-0{day} 02:00:00 UTC" for day in (1, 2, 3)]
    assert planned.stdout.splitlines()[1:] == ["3 ticks, 3 runs", *ticks]
    first = fastapi_crons(
        "backfill", "backup_database", "2026-02-02", "2026-02-02 02:00", "--note", "the disk was full"
    )
    assert first.exit_code == 0, first.output
    assert "1 of 1  2026-02-02 02:00:00 UTC" in first.stdout
    result = fastapi_crons("backfill", "backup_database", *SPAN, "--one-by-one")
    assert "3 ticks, 2 runs, 1 ran already" in result.stdout
    assert "2 of 2  2026-02-03 02:00:00 UTC" in result.stdout
    assert result.stdout.splitlines()[-1] == "✅ Backfill of 'backup_database' completed: 2 completed, 0 failed"
    assert "by hand" not in fastapi_crons("why", "backup_database", "2026-02-02 02:00").stdout
    assert "(the disk was full)" in fastapi_crons("why", "backup_database", "2026-02-02 02:00").stdout


def test_runs_that_fail_are_counted_and_the_exit_code_says_so(fastapi_crons: Cli, project: Path) -> None:
    span = ("2026-02-01 10:00", "2026-02-01 10:30", "--one-by-one")
    result = fastapi_crons("backfill", "send_reports", *span, "--json")
    assert result.exit_code == 1
    runs = [json.loads(line) for line in result.stdout.splitlines()]
    assert [run["scheduled_time"] for run in runs] == [f"2026-02-01T09:{minute:02}:00Z" for minute in (0, 15, 30)]
    stopped = fastapi_crons("backfill", "send_reports", *span, "--stop-on-failure")
    assert "❌ Backfill of 'send_reports' stopped: 0 completed, 1 failed, 2 left: give the same command to go on" in (
        stopped.stdout
    )
    plan = json_of(fastapi_crons("backfill", "send_reports", *span, "--dry-run", "--json"))
    assert (plan["ticks"], plan["ran"], plan["runs"], plan["from"]) == (3, 0, 3, "2026-02-01T09:00:00Z")


def test_a_day_without_a_midnight_begins_after_it(fastapi_crons: Cli, project: Path) -> None:
    source = Path("main.py").read_text()
    Path("main.py").write_text(source.replace("Europe/Berlin", "America/Santiago"))
    plan = fastapi_crons("backfill", "send_reports", "2025-09-07", "2025-09-07T01:15", "--dry-run", "--json")
    assert json_of(plan)["from"] == "2025-09-07T04:00:00Z"


def test_a_span_that_is_too_long_is_refused(fastapi_crons: Cli, project: Path) -> None:
    message = refused(fastapi_crons("backfill", "send_reports", "2020-01-01", "2026-01-01"))
    assert "ticks, and 10000 is the most" in message
    assert "ends before it begins" in refused(fastapi_crons("backfill", "send_reports", "2026-01-02", "2026-01-01"))


def test_what_became_of_backfills_is_shown(fastapi_crons: Cli, project: Path) -> None:
    assert "no backfill of 'send_reports' is on record" in fastapi_crons("backfills", "send_reports").stderr
    fastapi_crons("backfill", "send_reports", "2026-02-01 10:00", "2026-02-01 10:30", "--one-by-one")
    fastapi_crons("backfill", "backup_database", *SPAN, "--one-by-one")
    (line,) = fastapi_crons("backfills", "backup_database").stdout.splitlines()[1:]
    assert "  completed    3 of 3 completed, 0 failed  2026-02-01 00:00:00 to 2026-02-03 02:00:00  " in line
    (found,) = json_of(fastapi_crons("backfills", "send_reports", "--json"))
    assert (found["status"], found["runs"], found["failed"], found["left"]) == ("completed", 3, 3, 0)
    message = refused(fastapi_crons("backfills", "send_reports", "--cancel"))
    assert message == "Error: no backfill of job 'send_reports' is going on"
