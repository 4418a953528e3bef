"""`next` of jobs: whether the ticks that it shows are run."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastapi_crons_sqlite import SQLiteStateBackend
from tests.integration.cli.commands import Cli, json_of


def test_ticks_of_paused_and_disabled_jobs_are_shown_as_not_run(fastapi_crons: Cli, project: Path) -> None:
    project.write_text(project.read_text() + '\ncrons.cron("0 9 * * *", name="off", enabled=False)(list)\n')
    fastapi_crons("run-job", "backup_database")
    assert "!" not in fastapi_crons("next", "backup_database").stdout
    assert fastapi_crons("pause", "send_reports", "--note", "the printer is out of paper").exit_code == 0
    _, title, why, *ticks = fastapi_crons("next", "send_reports").stdout.splitlines()
    assert title.startswith("send_reports: */15 * * * * (Europe/Berlin)")
    assert why.startswith("  ! paused since ")
    assert why.endswith("(the printer is out of paper): its ticks are not run until it is resumed")
    assert len(ticks) == 5
    assert fastapi_crons("next", "off").stdout.splitlines()[2] == "  ! disabled in code: its ticks are not run"
    paused, off, plain, expression = json_of(
        fastapi_crons("next", "send_reports", "off", "backup_database", "*/5 * * * *", "--json")
    )
    assert paused["paused"]["note"] == "the printer is out of paper"
    assert [each["enabled"] for each in (paused, off, plain, expression)] == [True, False, True, None]
    assert [each["paused"] for each in (off, plain, expression)] == [None, None, None]


def test_an_expression_asks_no_store(fastapi_crons: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("crons.db").write_text("this is no database" * 100)
    monkeypatch.setenv("CRON_SQLITE_PATH", "crons.db")
    assert fastapi_crons("next", "*/5 * * * *").stderr == ""


def test_ticks_of_a_job_are_shown_although_a_store_is_broken(fastapi_crons: Cli, project: Path) -> None:
    Path(SQLiteStateBackend().path).write_text("this is no database" * 100)
    result = fastapi_crons("next", "send_reports")
    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) == 7, "what the app prints, a title and five ticks"
    assert "note: it is not known which jobs are paused: " in result.stderr
