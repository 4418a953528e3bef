"""`runs` and `runs show`: what happened, over all jobs."""

from __future__ import annotations

import asyncio
import re
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from typer.testing import Result

from fastapi_crons import CronConfig, Crons
from fastapi_crons.state import SQLiteStateBackend
from fastapi_crons.testing import VirtualClock, reset
from fastapi_crons_cli.completion.jobs import tags
from fastapi_crons_cli.completion.runs import newest_runs
from tests.integration.cli.commands import Cli, json_of, refused


def jobs_of(result: Result) -> list[str]:
    """The jobs of the runs that are shown, in that order."""
    assert result.exit_code == 0, result.output
    lines = [re.split(r"\s{2,}", line) for line in result.stdout.splitlines() if re.match(r"\d{4}-", line)]
    return [line[3] for line in lines]


@pytest.fixture
def ran(fastapi_crons: Cli, project: Path) -> None:
    """Three runs, the second of which has failed."""
    for job in ("backup_database", "send_reports", "backup_database"):
        fastapi_crons("run-job", job, "--note", "by hand")


@pytest.mark.usefixtures("ran")
def test_runs_are_newest_last_and_the_last_line_says_how_many_and_how_to_see_one(fastapi_crons: Cli) -> None:
    result = fastapi_crons("runs")
    assert jobs_of(result) == ["backup_database", "send_reports", "backup_database"]
    *_, line, last = result.stdout.splitlines()
    shown = re.fullmatch(r"3 runs, times in UTC; one with its log: fastapi-crons runs show (\w{8})", last)
    assert shown is not None
    assert f"run {shown[1]}" in line
    assert f"{shown[1]} of job backup_database" in fastapi_crons("runs", "show", shown[1]).stdout


@pytest.mark.usefixtures("ran")
def test_what_failed_since_yesterday(fastapi_crons: Cli) -> None:
    assert jobs_of(fastapi_crons("runs", "--failed", "--since", "yesterday")) == ["send_reports"]
    assert jobs_of(fastapi_crons("runs", "--status", "failed", "--status", "completed", "--job", "send_reports")) == [
        "send_reports"
    ]
    assert jobs_of(fastapi_crons("runs", "--tag", "backup", "--since", "1h")) == ["backup_database"] * 2
    nothing = fastapi_crons("runs", "--failed", "--until", "yesterday", "--exit-code")
    assert (nothing.exit_code, "no such runs are on record" in nothing.stderr) == (0, True)
    assert fastapi_crons("runs", "--failed", "--exit-code").exit_code == 3
    assert fastapi_crons("runs", "--failed").exit_code == 0


async def test_what_failed_since_midnight_may_have_begun_before_it(fastapi_crons: Cli, project: Path) -> None:
    clock = VirtualClock("2026-03-01T20:00:00Z")
    crons = Crons(state_backend=SQLiteStateBackend("crons.db"), clock=clock, config=CronConfig(heartbeat_interval=300))

    @crons.cron("0 23 * * *", name="send_reports")
    async def two_hours() -> None:
        await clock.sleep(7_200)
        raise ConnectionError

    await crons.start()
    await clock.advance(crons, hours=6)
    await crons.stop()
    failed = ("runs", "--failed", "--exit-code", "--since")
    found = await asyncio.to_thread(fastapi_crons, *failed, "2026-03-02 01:00", "--until", "2026-03-02 02:00")
    assert (found.exit_code, "2026-03-01 23:00:00  failed" in found.stdout) == (3, True)
    assert (await asyncio.to_thread(fastapi_crons, *failed, "2026-03-02 01:00:01")).exit_code == 0
    before = await asyncio.to_thread(fastapi_crons, "runs", "--until", "2026-03-01 23:00", "--exit-code")
    assert before.exit_code == 0


@pytest.mark.parametrize("command", ["runs", "missed", "stats", "plan", "list-jobs"])
def test_a_tag_that_no_job_has_is_refused(fastapi_crons: Cli, project: Path, command: str) -> None:
    said = refused(fastapi_crons(command, "--tag", "backups", "--tag", "backup"))
    assert said == "Error: no job has the tag 'backups'; did you mean 'backup'?"
    assert refused(fastapi_crons(command, "--tag", "x")) == "Error: no job has the tag 'x'; there are: 'backup'"


def test_an_error_without_a_traceback_is_shown_once(fastapi_crons: Cli, project: Path) -> None:
    fastapi_crons("run-job", "endless", "--timeout", "0.05")
    (run,) = json_of(fastapi_crons("runs", "--json"))["runs"]
    error = f"{run['error']['type']}: {run['error']['message']}"
    assert not json_of(fastapi_crons("runs", "show", run["id"], "--json"))["error"]["traceback"]
    assert fastapi_crons("runs", "show", run["id"]).stdout.count(error) == 1


@pytest.mark.usefixtures("ran")
def test_pages_by_short_ids(fastapi_crons: Cli) -> None:
    page = fastapi_crons("runs", "--limit", "2")
    assert jobs_of(page) == ["send_reports", "backup_database"]
    before = re.search(r"2 runs, .*; those before: --before (\w{8});", page.stdout)
    assert before is not None
    last = fastapi_crons("runs", "--limit", "2", "--before", before[1])
    assert jobs_of(last) == ["backup_database"]
    assert "--before" not in last.stdout
    assert "there is no run 'ffffffff'" in refused(fastapi_crons("runs", "--before", "ffffffff"))


@pytest.mark.usefixtures("ran")
def test_json_is_what_the_endpoint_answers(fastapi_crons: Cli) -> None:
    page = json_of(fastapi_crons("runs", "--json", "--limit", "2"))
    assert [run["job_name"] for run in page["runs"]] == ["backup_database", "send_reports"]
    assert page["next"] == page["runs"][1]["id"]
    run = json_of(fastapi_crons("runs", "show", page["next"], "--json"))
    assert "ValueError: no reports" in run["error"]["traceback"]


@pytest.mark.usefixtures("ran")
def test_times_are_given_and_shown_in_a_zone(fastapi_crons: Cli) -> None:
    ten_ago = datetime.now(timezone(timedelta(hours=5, minutes=30))) - timedelta(minutes=10)
    wall = f"{ten_ago:%Y-%m-%d %H:%M}"
    for command in ("runs", "missed"):
        span = fastapi_crons(command, "--since", "2026-03-02", "--until", "2026-03-01")
        assert "until can't be 2026-03-01T00:00:00+00:00: give a time after that of since" in refused(span)
    for option in ("--since", "--until"):
        found = fastapi_crons("runs", option, wall, "--timezone", "Asia/Kolkata")
        assert len(jobs_of(found)) == (3 if option == "--since" else 0)
        if option == "--since":
            assert "3 runs, times in Asia/Kolkata" in found.stdout
            assert min(line[:16] for line in found.stdout.splitlines()[1:-1]) >= wall
    wrong = fastapi_crons("runs", "--since", "last week")
    assert (wrong.exit_code, "is not a time; give 30m, 2h, 3d" in " ".join(wrong.stderr.split())) == (2, True)
    assert fastapi_crons("runs", "-z", "Mars/Base").exit_code == 2


@pytest.mark.usefixtures("ran")
def test_one_run_is_shown_with_all_that_is_on_record(fastapi_crons: Cli) -> None:
    page = json_of(fastapi_crons("runs", "--json"))
    backup, reports = page["runs"][0], page["runs"][1]
    lines = fastapi_crons("runs", "show", backup["id"][-8:], "-z", "Asia/Kolkata").stdout.splitlines()
    said = dict(re.split(r":\s+", line, maxsplit=1) for line in lines[2:10])
    assert f"Run {backup['id']} of job backup_database, times in Asia/Kolkata" in lines
    assert (said["Status"], said["Tick"], said["Note"]) == ("completed", "-", "by hand")
    assert said["Started by"].startswith("cli, for ")
    assert said["Instance"] == backup["instance_id"]
    assert 'Result:      {"files": 3}' in lines
    assert lines[-1].endswith("WARNING backup: half done")
    failed = fastapi_crons("runs", "show", reports["id"]).stdout
    assert "Error:       ValueError: no reports\nTraceback (most recent call last):" in failed
    assert failed.endswith("ValueError: no reports\nIt logged nothing.\n")


@pytest.mark.usefixtures("ran")
def test_tags_without_an_app(fastapi_crons: Cli, project: Path) -> None:
    project.unlink()
    assert len(jobs_of(fastapi_crons("runs"))) == 3
    assert "only the app knows tags" in refused(fastapi_crons("runs", "--tag", "backup"))


@pytest.mark.usefixtures("ran")
def test_a_shell_is_offered_runs_without_the_app_and_tags_with_it(project: Path) -> None:
    project.write_text(project.read_text() + "\nopen('imported', 'w').close()\n")
    reset()
    offered = newest_runs()
    assert [re.sub(r" \d{4}-.*", "", about) for _, about in offered] == [
        "backup_database, completed,",
        "send_reports, failed,",
        "backup_database, completed,",
    ]
    assert {len(run_id) for run_id, _ in offered} == {8}
    assert not Path("imported").exists()
    assert tags() == ["backup"]


def test_a_shell_is_offered_the_runs_of_a_store_that_only_the_app_names(fastapi_crons: Cli, project: Path) -> None:
    store = "from fastapi_crons.state import SQLiteStateBackend\n"
    named = project.read_text().replace("Crons(app)", "Crons(app, state_backend=SQLiteStateBackend('own.db'))")
    project.write_text(store + named)
    fastapi_crons("run-job", "backup_database")
    reset()
    assert [about.split(",")[0] for _, about in newest_runs()] == ["backup_database"]
    assert not Path("crons.db").exists()
