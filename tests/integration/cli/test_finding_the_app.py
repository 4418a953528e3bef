"""Where a command finds the app: option, variable, file or project, and what it says where there is none."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from fastapi_crons.testing import reset
from fastapi_crons_cli.completion import jobs as completion
from tests.integration.cli.commands import APP, Cli, json_of, refused, rows_of

MAKE_SCHEDULER = """
from fastapi_crons import Crons


def make():
    crons = Crons()
    crons.cron("0 0 1 1 *", name="made")(print)
    return crons
"""


@pytest.mark.parametrize("value", ["", "main:app"])
def test_a_variable_that_is_empty_names_no_app(
    fastapi_crons: Cli, project: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("CRON_APP", value)
    assert len(json_of(fastapi_crons("list-jobs", "--json"))) == 3


@pytest.mark.parametrize("command", [["list-jobs"], ["run-job", "x"], ["check"], ["logs"], ["status"], ["config-show"]])
def test_a_path_in_the_variable_is_one_sentence(
    fastapi_crons: Cli, project: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.setenv("CRON_APP", "shop/main.py")
    result = fastapi_crons(*command)
    assert result.exit_code == 1
    assert "CRON_APP" in result.output
    assert "give module:attribute, such as shop.main:app" in result.output
    assert "Traceback" not in result.output
    assert "ValidationError" not in result.output


def test_an_unknown_job_is_one_sentence(fastapi_crons: Cli, project: Path) -> None:
    assert "did you mean 'endless'?" in refused(fastapi_crons("run-job", "endles"))
    for command in ("pause", "resume", "cancel"):
        assert "there is no job named 'nope'" in refused(fastapi_crons(command, "nope"))
    assert "there is no job named 'nope'" in refused(fastapi_crons("why", "nope", "2026-03-01T00:00:00Z"))
    assert "'nope' is neither a job nor a cron expression" in refused(fastapi_crons("next", "nope"))


@pytest.mark.parametrize("place", ["main.py", "app.py", "app/main.py"])
def test_the_app_is_found_as_fastapi_dev_finds_it(fastapi_crons: Cli, place: str) -> None:
    path = Path(place)
    path.parent.mkdir(exist_ok=True)
    if path.parent != Path():
        (path.parent / "__init__.py").touch()
    path.write_text(APP)
    assert len(json_of(fastapi_crons("list-jobs", "--json"))) == 3


def test_the_app_is_named_by_option_variable_file_or_project(
    fastapi_crons: Cli, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("factory.py").write_text(MAKE_SCHEDULER)

    def jobs(*options: str) -> list[str]:
        return [job["name"] for job in json_of(fastapi_crons("list-jobs", "--json", *options))]

    assert jobs("--app", "factory:make") == ["made"]
    assert "backup_database" in jobs("--app", "main")
    Path("pyproject.toml").write_text('[tool.fastapi-crons]\napp = "factory:make"\n')
    assert jobs() == ["made"]
    Path(".env").write_text("CRON_APP=main:app\n")
    assert "backup_database" in jobs()
    monkeypatch.setenv("CRON_APP", "factory:make")
    assert jobs() == ["made"]
    assert "backup_database" in jobs("--app", "main:crons")


def test_a_scheduler_without_an_app_is_found_too(fastapi_crons: Cli) -> None:
    Path("main.py").write_text("from fastapi_crons import Crons\nCrons().cron('0 0 1 1 *', name='alone')(list)\n")
    assert [job["name"] for job in json_of(fastapi_crons("list-jobs", "--json"))] == ["alone"]
    assert json_of(fastapi_crons("run-job", "alone", "--json"))["result"] == []


def test_what_the_stores_know_is_shown_without_an_app(fastapi_crons: Cli, project: Path) -> None:
    for job in ("backup_database", "send_reports"):
        fastapi_crons("run-job", job)
    project.unlink()
    rows = rows_of(fastapi_crons("list-jobs"))
    assert [(row[0], row[2], row[4]) for row in rows] == [
        ("backup_database", "completed", "0 2 * * *"),
        ("send_reports", "failed", "*/15 * * * *"),
    ]
    assert "Total Jobs: 2" in fastapi_crons("status").stdout
    assert len(fastapi_crons("logs").stdout.splitlines()) == 2
    assert "(Europe/Berlin)" in fastapi_crons("next", "send_reports").stdout
    assert fastapi_crons("pause", "send_reports").exit_code == 0
    assert fastapi_crons("resume", "send_reports").exit_code == 0
    assert fastapi_crons("config-show").exit_code == 0
    assert "name it with --app" in refused(fastapi_crons("list-jobs", "--tag", "backup"))
    assert "no app was found here" in refused(fastapi_crons("run-job", "send_reports"))


def test_a_job_whose_schedule_only_its_app_knows_is_left_out(fastapi_crons: Cli, project: Path) -> None:
    project.write_text(
        "from datetime import timedelta\n"
        "from fastapi_crons import CronJob, Crons\n"
        "class Always:\n"
        "    text = 'every second'\n"
        "    def next_after(self, instant): return instant.replace(microsecond=0) + timedelta(seconds=1)\n"
        "    def between(self, after, until):\n"
        "        while (after := self.next_after(after)) <= until: yield after\n"
        "crons = Crons()\n"
        "crons.jobs.append(CronJob(list, Always(), 'always'))\n"
        "crons.cron('0 2 * * *', name='nightly')(list)\n"
    )
    assert fastapi_crons("next", "always", "-n", "1").stdout.startswith("always: every second (no zone)\n  ")
    for job in ("always", "nightly"):
        assert fastapi_crons("run-job", job).exit_code == 0
    project.unlink()
    result = fastapi_crons("list-jobs")
    assert [row[0] for row in rows_of(result)] == ["nightly"]
    assert "job 'always' is left out: only its app knows its schedule 'every second'" in result.stderr


def test_stores_that_know_nothing_do_not_stand_in_for_an_app(fastapi_crons: Cli) -> None:
    for command in (["list-jobs"], ["status"], ["logs"], ["pause", "x"], ["run-job", "x"], ["start-scheduler"]):
        assert "no app was found here" in refused(fastapi_crons(*command))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = (\n", "SyntaxError: '(' was never closed (main.py:1)"),
        ("import nothere\n", "ModuleNotFoundError: No module named 'nothere' (main.py:1)"),
        ("def f():\n    raise OSError('gone')\nf()\n", "OSError: gone (main.py:2)"),
        ("raise SystemExit(3)\n", "SystemExit: 3 (main.py:1)"),
        ("from fastapi_crons import CronJob\nCronJob(print, '61 * * * *')\n", "(main.py:2)"),
    ],
)
def test_an_app_that_can_not_be_imported_is_one_sentence(fastapi_crons: Cli, text: str, said: str) -> None:
    Path("main.py").write_text(text)
    for command in (["list-jobs"], ["run-job", "x"], ["logs"]):
        assert said in refused(fastapi_crons(*command))
    checked = fastapi_crons("check")
    assert (checked.exit_code, checked.stdout.startswith("✗ app: main can't be imported: ")) == (1, True)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nope:app", "there is no module 'nope' in"),
        ("main:nope", "main has no 'nope'; it has app, crons"),
        ("main.py:app", "--app says 'main.py:app'; give module:attribute, such as main:app"),
        ("src/shop/main.py", "--app says 'src/shop/main.py'; give module:attribute, such as src.shop.main:app"),
        ("./main.py:crons", "such as main:crons"),
        ("main/app", "give module:attribute"),
        ("main:a:b", "give module:attribute"),
        ("", "--app says ''; give module:attribute, such as main:app"),
        ("main:print_nothing", "is neither a FastAPI app nor a Crons"),
        ("main:takes_one", "can't be called without arguments"),
        ("main:fails", "main:fails() failed: ZeroDivisionError: division by zero (main.py:"),
    ],
)
def test_an_app_that_is_named_wrongly_is_one_sentence(fastapi_crons: Cli, project: Path, name: str, said: str) -> None:
    project.write_text(
        f"{APP}\ndef print_nothing(): pass\ndef takes_one(a): pass\ndef fails(): return 1 / 0\n",
    )
    assert said in refused(fastapi_crons("list-jobs", "--app", name))


def test_an_app_without_a_scheduler(fastapi_crons: Cli) -> None:
    Path("main.py").write_text("from fastapi import FastAPI\napp = FastAPI()\n")
    assert "main:app has no scheduler: make one with Crons(app)" in refused(fastapi_crons("run-job", "x"))


def test_completion_runs_no_app_that_no_command_has_run(
    fastapi_crons: Cli, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    marking = APP + "\nfrom pathlib import Path\nPath('ran').touch()\n"
    project.write_text(marking)
    assert completion.job_names() == []
    assert not Path("ran").exists()
    assert fastapi_crons("list-jobs").exit_code == 0
    reset()
    assert sorted(completion.job_names()) == ["backup_database", "endless", "send_reports"]
    other = tmp_path / "other"
    other.mkdir()
    monkeypatch.chdir(other)
    Path("main.py").write_text(marking)
    sys.modules.pop("main")
    assert completion.job_names() == []
    assert not Path("ran").exists()
    os.mkfifo(".env")
    assert completion.job_names() == []
