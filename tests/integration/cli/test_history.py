"""Commands that show jobs, runs and reasons, and those that pause and resume."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import get_args

import pytest
from typer.testing import Result

from fastapi_crons import CronConfig, Crons, run
from fastapi_crons.state import SQLiteStateBackend
from fastapi_crons.testing import VirtualClock, reset
from fastapi_crons_cli import options
from tests.integration.cli.commands import Cli, json_of, refused, rows_of
from tests.support import nothing


def test_list_jobs_before_and_after_a_run(fastapi_crons: Cli, project: Path) -> None:
    result = fastapi_crons("list-jobs")
    assert [row[:4] for row in rows_of(result)] == [
        ["backup_database", "Never", "pending", "-"],
        ["send_reports", "Never", "pending", "-"],
        ["endless", "Never", "pending", "-"],
    ]
    heads = next(line for line in result.stdout.splitlines() if "Job Name" in line)
    assert re.search(r"│ Job Name +│ Last Run +│ Status +│ Instance +│ Schedule +│ Next Run +│", heads)
    fastapi_crons("run-job", "backup_database")
    ran = rows_of(fastapi_crons("list-jobs"))[0]
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", ran[1])
    assert ran[2] == "completed"
    assert ran[3] != "-"
    assert ran[4] == "0 2 * * *"
    assert ran[5].endswith("02:00:00")


def test_list_jobs_by_tag_and_by_status(fastapi_crons: Cli, project: Path) -> None:
    fastapi_crons("run-job", "send_reports")
    assert [row[0] for row in rows_of(fastapi_crons("list-jobs", "--tag", "backup"))] == ["backup_database"]
    assert [row[0] for row in rows_of(fastapi_crons("list-jobs", "--status", "failed"))] == ["send_reports"]
    assert [row[0] for row in rows_of(fastapi_crons("list-jobs", "--status", "pending"))] == [
        "backup_database",
        "endless",
    ]
    assert fastapi_crons("list-jobs", "--status", "odd").exit_code == 2


def test_status_says_what_is_documented(fastapi_crons: Cli, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRON_INSTANCE_ID", "worker-001")
    fastapi_crons("run-job", "backup_database")
    fastapi_crons("run-job", "send_reports")
    fastapi_crons("pause", "endless")
    lines = fastapi_crons("status").stdout.splitlines()
    assert " System Status" in lines[1]
    assert lines[2:] == [
        "Instance ID: worker-001",
        "Backend: SQLiteStateBackend",
        "Locking: This host (SQLite)",
        "",
        "📊 Job Statistics",
        "Total Jobs: 3",
        "Running: 0",
        "Completed: 1",
        "Failed: 1",
        "Pending: 1",
        "Paused: 1",
    ]
    figures = json_of(fastapi_crons("status", "--json"))
    assert figures["statuses"] == {"completed": 1, "failed": 1, "pending": 1}


def test_logs_are_newest_last(fastapi_crons: Cli, project: Path) -> None:
    for job in ("backup_database", "send_reports", "backup_database"):
        fastapi_crons("run-job", job)
    lines = fastapi_crons("logs").stdout.splitlines()[1:]
    assert [re.split(r"\s{2,}", line)[3] for line in lines] == ["backup_database", "send_reports", "backup_database"]
    assert lines[1].endswith("ValueError: no reports")
    assert len(fastapi_crons("logs", "--job", "backup_database").stdout.splitlines()) == 3
    assert len(fastapi_crons("logs", "--limit", "1").stdout.splitlines()) == 2
    assert len(fastapi_crons("logs", "--status", "failed").stdout.splitlines()) == 2
    assert "WARNING backup: half done" in fastapi_crons("logs", "--verbose").stdout
    assert "no job named 'backup'" in refused(fastapi_crons("logs", "--job", "backup"))


def test_pause_and_resume(fastapi_crons: Cli, project: Path) -> None:
    paused = fastapi_crons("pause", "endless", "--note", "deploy")
    assert "Paused 'endless' on all instances. Resume it with: fastapi-crons resume endless\n" in paused.stdout
    (row,) = rows_of(fastapi_crons("list-jobs", "--status", "paused"))
    assert (row[2], row[5]) == ("pending (paused)", "-")
    (listed,) = json_of(fastapi_crons("list-jobs", "--status", "paused", "--json"))
    assert listed["paused"]["note"] == "deploy"
    assert listed["paused"]["since"].endswith("Z")
    assert re.search(
        r"Resumed 'endless'; next run at \d{4}-01-01 00:00:00 UTC\n", fastapi_crons("resume", "endless").stdout
    )
    assert "Job 'endless' is not paused" in fastapi_crons("resume", "endless").stdout
    assert "job 'endless' is not running" in refused(fastapi_crons("cancel", "endless"))
    assert "'' is too short for a run's id" in refused(fastapi_crons("cancel", "endless", ""))


def _short_ids(result: Result) -> list[str]:
    """The ids in the lines of `logs`, which are not indented."""
    assert result.exit_code == 0, result.output
    lines = [line for line in result.stdout.splitlines() if re.match(r"\d{4}-", line)]
    found = [re.search(r"  run ([0-9a-f]{8})(  |$)", line) for line in lines]
    assert all(found), lines
    return [match[1] for match in found if match]


def test_every_line_of_logs_names_its_run_so_that_logs_can_show_it(fastapi_crons: Cli, project: Path) -> None:
    for _ in range(3):
        fastapi_crons("run-job", "send_reports")
        fastapi_crons("run-job", "backup_database")
    ids = _short_ids(fastapi_crons("logs"))
    assert len(set(ids)) == 6
    failed = _short_ids(fastapi_crons("logs", "--job", "send_reports"))[-1]
    one = fastapi_crons("logs", "--run", failed)
    assert _short_ids(one) == [failed]
    assert '      File "' in one.stdout
    assert 'raise ValueError("no reports")' in one.stdout
    (whole,) = json_of(fastapi_crons("logs", "--run", failed, "--json"))
    assert whole["id"].endswith(failed)
    assert (whole["job_name"], whole["status"]) == ("send_reports", "failed")
    followed = fastapi_crons("logs", "--run", failed, "--follow")
    assert (followed.exit_code, "ValueError: no reports" in followed.stdout) == (1, True)
    assert "--run" in fastapi_crons("logs", "--run", failed, "--status", "failed").stderr
    assert _short_ids(fastapi_crons("logs", "send_reports")) == _short_ids(
        fastapi_crons("logs", "--job", "send_reports")
    )
    assert "'019' is too short" in refused(fastapi_crons("logs", "--run", "019"))
    assert "there is no run 'ffffffff' on record" in refused(fastapi_crons("logs", "--run", "ffffffff"))
    assert "matches 6 runs" in refused(fastapi_crons("logs", "--run", whole["id"][:4]))


def test_tracebacks_are_in_logs_where_more_is_wanted_and_in_json(fastapi_crons: Cli, project: Path) -> None:
    fastapi_crons("run-job", "send_reports")
    assert "Traceback" not in fastapi_crons("logs").stdout
    assert 'raise ValueError("no reports")' in fastapi_crons("logs", "--verbose").stdout
    for more in ((), ("--verbose",)):
        (run,) = json_of(fastapi_crons("logs", "--json", *more))
        assert 'raise ValueError("no reports")' in run["error"]["traceback"]


def test_filters_that_are_given_twice_both_count(fastapi_crons: Cli, project: Path) -> None:
    fastapi_crons("run-job", "send_reports")
    fastapi_crons("run-job", "backup_database")
    fastapi_crons("run-job", "endless", "--timeout", "0.05")

    def statuses(*filters: str) -> list[str]:
        return [run["status"] for run in json_of(fastapi_crons("logs", "--json", *filters))]

    assert statuses("--status", "failed", "--status", "completed") == ["failed", "completed"]
    assert statuses("--status", "completed", "--status", "timed_out", "-n", "1") == ["timed_out"]
    assert statuses("--status", "failed", "--status", "failed") == ["failed"]
    assert statuses("--job", "endless", "--job", "backup_database") == ["completed", "timed_out"]
    assert "no job named 'bakup_database'; did you mean 'backup_database'" in refused(
        fastapi_crons("logs", "--job", "endless", "--job", "bakup_database")
    )
    listed = [
        job["name"]
        for job in json_of(fastapi_crons("list-jobs", "--json", "--status", "failed", "--status", "timed_out"))
    ]
    assert listed == ["send_reports", "endless"]


def test_statuses_are_those_of_runs() -> None:
    assert tuple(each.value for each in options.RunStatus) == get_args(run.RunStatus)
    assert {each.value for each in options.JobStatus} == {*get_args(run.RunStatus), "pending", "paused"}


def test_why_says_what_became_of_an_instant(fastapi_crons: Cli, project: Path) -> None:
    async def three_days() -> None:
        reset()
        clock = VirtualClock("2026-03-01T00:00:00Z")
        crons = Crons(
            state_backend=SQLiteStateBackend("crons.db"),
            config=CronConfig(instance_id="worker-1", heartbeat_interval=300, instance_timeout=900),
            clock=clock,
        )
        crons.cron("0 2 * * *", name="backup_database")(nothing)
        crons.cron("*/15 * * * *", name="send_reports", timezone="Europe/Berlin")(nothing)
        await crons.start()
        await clock.advance(crons, days=1)
        await crons.pause("backup_database", actor="ops", note="the disk is full")
        await clock.advance(crons, days=1)
        await crons.resume("backup_database")
        await clock.advance(crons, hours=3)
        await crons.stop()

    asyncio.run(three_days())
    ran = fastapi_crons("why", "backup_database", "2026-03-01T02:00:00Z")
    assert ran.exit_code == 0
    assert re.search(
        r"^It started at 2026-03-01 02:00:00 UTC on worker-1 \(run [0-9a-f-]{36}\), and completed after \S+ s\.$",
        ran.stdout,
        re.MULTILINE,
    )
    paused = json_of(fastapi_crons("why", "backup_database", "2026-03-02T02:00:00Z", "--json"))
    assert paused["fate"] == "paused"
    assert "by ops since 2026-03-02 00:00:00 UTC: the disk is full" in paused["explanation"]
    assert paused["missed"]["reason"] == "paused"
    # Without an offset it is the job's own clock.
    in_berlin = json_of(fastapi_crons("why", "send_reports", "2026-03-03T03:15", "--json"))
    assert in_berlin["runs"][0]["scheduled_time"] == in_berlin["time"] == "2026-03-03T02:15:00Z"
    assert json_of(fastapi_crons("why", "send_reports", "2026-03-03 03:15", "--json")) == in_berlin
    assert fastapi_crons("why", "send_reports", "1h30m").exit_code == 0
    assert fastapi_crons("why", "send_reports", "at three").exit_code == 2
    not_due = fastapi_crons("why", "send_reports", "2026-03-01T03:20")
    assert "no tick at that instant; the next tick after it is 2026-03-01 03:30:00 CET." in not_due.stdout
    to_come = fastapi_crons("why", "backup_database", "2126-03-01T02:00:00Z")
    assert "It is due in" in to_come.stdout


def test_what_is_damaged_on_record_is_named_and_passed_over(fastapi_crons: Cli, project: Path) -> None:
    import sqlite3
    from contextlib import closing

    for _ in range(2):
        fastapi_crons("run-job", "backup_database")
    with closing(sqlite3.connect("crons.db")) as db, db:
        db.execute("UPDATE job_run SET status = 'exploded' WHERE id = (SELECT min(id) FROM job_run)")
        db.execute("UPDATE job_status SET started_at = x'00ff'")
        db.execute("UPDATE job_state SET last_run = x'00ff'")
    result = fastapi_crons("logs", "--json")
    assert len(json_of(result)) == 1
    assert result.stderr.count("damaged, and ignored: history in") == 1
    checked = fastapi_crons("check")
    assert checked.exit_code == 0, checked.output
    assert "! on record: damaged, and ignored: history in" in checked.stdout
