"""The commands of the command line, in this process, on apps in the current folder and on real SQLite files."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import os
import re
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from typer.testing import CliRunner, Result

from fastapi_crons import CronConfig, Crons, run
from fastapi_crons.state import SQLiteStateBackend
from fastapi_crons.testing import VirtualClock, reset
from fastapi_crons_cli import completion, options
from fastapi_crons_cli.main import app as cli
from tests import seam
from tests.support import nothing

APP = """
import logging
from fastapi import FastAPI
from fastapi_crons import Crons

print("imported")
app = FastAPI()
crons = Crons(app)


@crons.cron("0 2 * * *", name="backup_database", tags=["backup"])
async def backup_database():
    print("at work")
    logging.getLogger("backup").warning("half done")
    return {"files": 3}


@crons.cron("*/15 * * * *", name="send_reports", timezone="Europe/Berlin")
def send_reports():
    raise ValueError("no reports")


@crons.cron("0 0 1 1 *", name="endless")
async def endless():
    import asyncio
    await asyncio.sleep(3600)
"""
MAKE_SCHEDULER = """
from fastapi_crons import Crons


def make():
    crons = Crons()
    crons.cron("0 0 1 1 *", name="made")(print)
    return crons
"""

Cli = Callable[..., Result]


@pytest.fixture(autouse=True)
def _fresh_imports(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every test has modules of its own, whatever their names."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield
    for name in ("main", "app", "app.main", "factory", "worker"):
        if name not in before:
            sys.modules.pop(name, None)


@pytest.fixture
def fastapi_crons() -> Cli:
    """Runs a command as a process of its own would."""

    def call(*arguments: str, input: str | None = None) -> Result:
        reset()
        importlib.invalidate_caches()
        for name in ("main", "app", "app.main", "factory", "worker"):
            sys.modules.pop(name, None)
        return CliRunner().invoke(cli, arguments, input=input)

    return call


@pytest.fixture
def project() -> Path:
    """A folder with an app in main.py."""
    path = Path("main.py")
    path.write_text(APP)
    return path


def refused(result: Result) -> str:
    """The one sentence that says what was wrong."""
    assert result.exit_code == 1, result.output
    assert "Traceback" not in result.output
    sentences = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert len(sentences) == 1, result.stderr
    return sentences[0]


def json_of(result: Result) -> Any:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def rows_of(result: Result) -> list[list[str]]:
    """The cells of a table, without its head."""
    assert result.exit_code == 0, result.output
    lines = [line for line in result.stdout.splitlines() if line.startswith("│")]
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in lines[1:]]


def test_run_job_says_what_is_documented(fastapi_crons: Cli, project: Path) -> None:
    result = fastapi_crons("run-job", "backup_database")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[:3] == ["imported", "🚀 Running job 'backup_database' manually...", "at work"]
    assert re.fullmatch(r"📊 Job 'backup_database' completed successfully in \d+\.\d\ds", lines[3])
    assert lines[4:] == ["✅ Manual execution completed"]


def test_run_job_that_fails(fastapi_crons: Cli, project: Path) -> None:
    result = fastapi_crons("run-job", "send_reports")
    assert result.exit_code == 1
    assert re.fullmatch(
        r"❌ Job 'send_reports' failed in \d+\.\d\ds \(run [0-9a-f]{8}\): ValueError: no reports\n", result.stderr
    )
    verbose = fastapi_crons("run-job", "send_reports", "--verbose")
    assert 'raise ValueError("no reports")' in verbose.stderr


def test_run_job_shows_log_and_result_where_that_is_wanted(fastapi_crons: Cli, project: Path) -> None:
    result = fastapi_crons("run-job", "backup_database", "--verbose", "--note", "before the deploy")
    assert "WARNING backup: half done" in result.stdout
    assert 'Result: {"files": 3}' in result.stdout
    (entry,) = json_of(fastapi_crons("logs", "--json"))
    assert (entry["trigger"], entry["note"]) == ("cli", "before the deploy")
    assert entry["actor"]


def test_run_job_that_takes_too_long(fastapi_crons: Cli, project: Path) -> None:
    result = fastapi_crons("run-job", "endless", "--timeout", "0.05")
    assert result.exit_code == 1
    assert "❌ Job 'endless' timed out after 0.0" in result.stderr


def test_run_job_enters_the_lifespan_of_the_app(fastapi_crons: Cli) -> None:
    Path("main.py").write_text(
        "from contextlib import asynccontextmanager\n"
        "from fastapi import FastAPI\n"
        "from fastapi_crons import Crons\n"
        "pools = []\n"
        "@asynccontextmanager\n"
        "async def lifespan(app):\n"
        "    pools.append('open')\n"
        "    yield\n"
        "    pools.clear()\n"
        "app = FastAPI(lifespan=lifespan)\n"
        "@Crons(app).cron('0 0 1 1 *')\n"
        "def job(): return pools[0]\n"
    )
    assert json_of(fastapi_crons("run-job", "job", "--json"))["result"] == "open"


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


HOOKED = """
from contextlib import asynccontextmanager
from fastapi import FastAPI
from fastapi_crons import Crons, hookimpl

pool = None


@asynccontextmanager
async def lifespan(app):
    global pool
    print("opened")
    pool = []
    yield
    print("closed with", pool)


app = FastAPI(lifespan=lifespan)
crons = Crons(app)


@crons.cron("* * * * * *", name="often")
async def often(): ...


class Plugin:
    @hookimpl
    def tick_missed(self, job_name, context):
        FAIL
        pool.append(context["reason"])


crons.plugins.register(Plugin())
"""


def test_hooks_that_a_command_calls_find_the_app_open(fastapi_crons: Cli) -> None:
    Path("main.py").write_text(HOOKED.replace("FAIL", ""))
    assert "opened" not in fastapi_crons("pause", "often").stdout
    time.sleep(1.1)
    resumed = fastapi_crons("resume", "often")
    assert resumed.exit_code == 0
    said = [line for line in resumed.stdout.splitlines() if not line.startswith("Resumed")]
    assert said[0] == "opened"
    # One for each second that the two commands took.
    assert re.fullmatch(r"closed with \['paused'(, 'paused')*\]", said[1])
    assert len(said) == 2
    assert resumed.stderr == ""


def test_hooks_that_fail_in_a_command_are_shown(fastapi_crons: Cli) -> None:
    Path("main.py").write_text(HOOKED.replace("FAIL", "raise ConnectionError('no pager')"))
    fastapi_crons("pause", "often")
    time.sleep(1.1)
    resumed = fastapi_crons("resume", "often")
    assert resumed.exit_code == 0
    assert "Resumed 'often'" in resumed.stdout
    assert (
        "Warning: hook tick_missed of plugin 'main:Plugin' about job 'often' failed: ConnectionError: no pager"
        in resumed.stderr
    )


def test_hooks_of_a_run_by_hand_that_fail_are_shown(fastapi_crons: Cli, project: Path) -> None:
    project.write_text(f"{APP}\ncrons.add_after_run_hook(lambda job, context: 1 / 0)\n")
    result = fastapi_crons("run-job", "backup_database")
    assert result.exit_code == 0
    assert "Warning: hook after_run main:<lambda> about job 'backup_database'" in result.stderr
    assert "ZeroDivisionError: division by zero (" in result.stderr


def test_a_run_by_hand_may_have_other_arguments(fastapi_crons: Cli, project: Path) -> None:
    project.write_text(
        f"""{APP}
@crons.cron("0 0 1 1 *", name="report", kwargs={{"regions": ["eu"], "limit": 5}})
async def report(regions: list[str], limit: int, title: str = "none"):
    return [regions, limit, title]
"""
    )
    ended = json_of(
        fastapi_crons(
            "run-job", "report", "--set", 'regions=["us"]', "--set", "limit=7", "--set", "title=5 = V", "--json"
        )
    )
    assert ended["result"] == [["us"], 7, "5 = V"]
    assert ended["kwargs"] == {"regions": ["us"], "limit": 7, "title": "5 = V"}
    assert 'with {"regions": ["us"], "limit": 7' in fastapi_crons("logs", "--job", "report").stdout
    assert "argument 'limit' can't be 'many'" in refused(fastapi_crons("run-job", "report", "--set", "limit=many"))
    assert "did you mean 'limit'?" in refused(fastapi_crons("run-job", "report", "--set", "limits=1"))
    assert "as NAME=VALUE" in fastapi_crons("run-job", "report", "--set", "limit").stderr


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


def test_json_is_all_that_is_on_standard_output(fastapi_crons: Cli, project: Path) -> None:
    run = json_of(fastapi_crons("run-job", "backup_database", "--json"))
    assert (run["status"], run["result"], run["log"][0]["message"]) == ("completed", {"files": 3}, "half done")
    jobs = json_of(fastapi_crons("list-jobs", "--json"))
    assert jobs[0]["last_run"].endswith("Z")
    assert {"name", "expr", "timezone", "tags", "enabled", "status", "last_run", "next_run", "instance_id"} <= set(
        jobs[0]
    )
    assert json_of(fastapi_crons("logs", "--json"))[0]["job_name"] == "backup_database"
    assert json_of(fastapi_crons("status", "--json"))["jobs"] == 3
    assert json_of(fastapi_crons("next", "endless", "--json"))[0]["name"] == "endless"
    assert json_of(fastapi_crons("check", "--json"))["ok"] is True
    assert {plugin["name"] for plugin in json_of(fastapi_crons("plugins", "--json"))} >= {"cli", "memory", "sqlite"}
    assert json_of(fastapi_crons("config-show", "--json"))[0]["variable"].startswith("CRON_")
    failed = fastapi_crons("run-job", "send_reports", "--json")
    assert (failed.exit_code, json.loads(failed.stdout)["status"]) == (1, "failed")


def test_texts_of_jobs_are_neither_markup_nor_control_sequences(fastapi_crons: Cli) -> None:
    Path("main.py").write_text(
        "from fastapi_crons import Crons\n"
        "@Crons().cron('0 0 1 1 *', name='[red]x[bold]')\n"
        "def job(): raise ValueError('[bold]a\\x1b]0;title\\x07\\nsecond')\n"
    )
    failed = fastapi_crons("run-job", "[red]x[bold]", "--verbose")
    listed, logged = fastapi_crons("list-jobs"), fastapi_crons("logs")
    assert r"ValueError: [bold]a\x1b]0;title\x07\nsecond" in failed.stderr
    assert r"ValueError: [bold]a\x1b]0;title\x07\nsecond" in logged.stdout
    assert rows_of(listed)[0][0] == "[red]x[bold]"
    assert not any("\x1b" in result.output for result in (failed, listed, logged))


def test_next_of_expressions(fastapi_crons: Cli) -> None:
    (found,) = json_of(fastapi_crons("next", "30 2 29 2 *", "--timezone", "Europe/Berlin", "--count", "3", "--json"))
    assert (found["timezone"], len(found["next"])) == ("Europe/Berlin", 3)
    assert all(tick.endswith("-02-29T01:30:00Z") for tick in found["next"])
    plain = fastapi_crons("next", "*/5 * * * *", "@hourly").stdout
    assert "*/5 * * * * (UTC): Every 5 minutes" in plain
    assert "@hourly (UTC): Every hour" in plain
    assert "0 9 * * 1 (UTC): At 09:00" in fastapi_crons("next", "0", "9", "*", "*", "1").stdout
    assert "Every minute, at second 20" in fastapi_crons("next", "* * * * * 20").stdout
    assert "minute field '61' can't be used" in refused(fastapi_crons("next", "61 * * * *"))
    assert "timezone 'Mars' is unknown" in refused(fastapi_crons("next", "* * * * *", "-z", "Mars"))


def test_check_warns_of_a_short_token(fastapi_crons: Cli, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRON_API_TOKEN", "of-20-characters-xyz")
    result = fastapi_crons("check")
    assert result.exit_code == 0
    assert "CRON_API_TOKEN has 20 characters" in " ".join(result.output.split())
    assert "xyz" not in result.output


def test_check_names_what_is_wrong(fastapi_crons: Cli, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = fastapi_crons("check").stdout.splitlines()[1:]
    assert all(line.startswith("✓ ") for line in lines)
    assert lines[0] == "✓ app: main:app, 3 jobs"
    assert lines[1].startswith("✓ job backup_database: 0 2 * * * (UTC), next at ")
    assert lines[-2:] == ["✓ state store: SQLiteStateBackend", "✓ lock store: SQLiteLockBackend, 0 live instances"]
    monkeypatch.setenv("CRON_TIMEZON", "Europe/Berlin")
    misspelt = "! settings: CRON_TIMEZON is set, but nothing reads it: did you mean CRON_TIMEZONE?"
    assert misspelt in fastapi_crons("check").stdout.splitlines()
    monkeypatch.setenv("CRON_SQLITE_PATH", "nowhere/x.db")
    without_store = fastapi_crons("check")
    assert without_store.exit_code == 1
    assert without_store.stdout.splitlines()[-1].startswith("✗ stores: ")


def _checked(fastapi_crons: Cli, app: str) -> tuple[int, list[str]]:
    Path("main.py").write_text(app)
    result = fastapi_crons("check")
    return result.exit_code, result.stdout.splitlines()


def test_check_says_each_schedule_in_words(fastapi_crons: Cli, project: Path) -> None:
    lines = fastapi_crons("check").stdout.splitlines()
    assert any(
        line.startswith("✓ job backup_database: ") and line.endswith(": At 02:00, every day") for line in lines
    ), lines
    assert any("(Europe/Berlin)" in line and line.endswith(": Every 15 minutes") for line in lines), lines


@pytest.mark.parametrize(
    ("expr", "doubt"),
    [
        ("*/10 * * * * *", "60 times in a row: seconds are the last field here, not the first"),
        ("0 3 * * * *", "60 times in a row"),
        ("* 2 * * *", "60 times in a row; for one run an hour, write minute 0"),
        ("* */6 * * *", "60 times in a row; for one run an hour, write minute 0"),
        ("*/90 * * * *", "is larger than its range"),
        ("* * * * * *", None),
        ("* * * * *", None),
        ("* 9-17 * * 1-5", None),
        ("0 2 * * *", None),
        ("0 3 * * * 30", None),
        ("@hourly", None),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_check_doubts_expressions_that_are_hardly_meant(fastapi_crons: Cli, expr: str, doubt: str | None) -> None:
    code, lines = _checked(fastapi_crons, APP.replace("*/15 * * * *", expr))
    doubts = [line for line in lines if line.startswith("! job send_reports: ")]
    assert code == 0
    assert len(doubts) == (doubt is not None), lines
    assert doubt is None or doubt in doubts[0]


def test_check_warns_where_nothing_will_run(fastapi_crons: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    code, lines = _checked(fastapi_crons, APP.replace("Crons(app)", "Crons()"))
    assert code == 0
    assert any(
        line.startswith("! scheduler: main:app does not hold the one made at main.py, line 8") for line in lines
    ), lines
    code, lines = _checked(
        fastapi_crons,
        "from fastapi import FastAPI\nfrom fastapi_crons import Crons\napp = FastAPI()\ncrons = Crons(app)\n",
    )
    assert (code, lines[0]) == (0, "! app: main:app, 0 jobs")
    assert "! scheduler: it has no jobs: import the modules that define them where the app is made" in lines
    monkeypatch.setenv("CRON_LOCK_TTL", "60")
    _, lines = _checked(fastapi_crons, APP)
    assert (
        "! settings: variables of fastapi-crons 2.x are set, and not read: CRON_LOCK_TTL (CRON_LOCK_TIMEOUT)" in lines
    )


def test_check_fails_where_the_stores_can_be_read_and_not_written(fastapi_crons: Cli) -> None:
    obstacle = "/srv/crons.db can't be made: the folder /srv is dr-xr-xr-x"
    store = (
        "from fastapi_crons.state import MemoryStateBackend\n"
        f"class Store(MemoryStateBackend):\n    def obstacle(self):\n        return {obstacle!r}\n"
    )
    code, lines = _checked(fastapi_crons, store + APP.replace("Crons(app)", "Crons(app, state_backend=Store())"))
    assert code == 1
    assert lines[-1] == f"✗ stores: {obstacle}"
    assert not any(line.startswith("✓ state store") for line in lines)


def test_check_names_a_hook_for_a_job_that_does_not_exist(fastapi_crons: Cli) -> None:
    code, lines = _checked(fastapi_crons, f"{APP}\ncrons.add_after_run_hook(lambda job, context: None, 'nope')\n")
    assert code == 1
    assert lines[-1] == "✗ hooks: added for jobs that do not exist: 'nope'; check job_name, or register the job"
    assert not any(line.startswith("✗ stores") for line in lines)


def test_config_is_shown_with_its_sources_and_without_secrets(
    fastapi_crons: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRON_LOCK_TIMEOUT", "120")
    Path(".env").write_text("CRON_API_TOKEN=hush-hush-hush-hush\n")
    result = fastapi_crons("config-show")
    shown = {row[0]: row[1:] for row in rows_of(result)}
    assert shown["CRON_LOCK_TIMEOUT"] == ["120", "environment"]
    assert shown["CRON_API_TOKEN"][1] == ".env"
    assert shown["CRON_NAMESPACE"] == ["default", "default"]
    assert "hush" not in result.output
    Path("main.py").write_text("from fastapi_crons import CronConfig, Crons\nCrons(config=CronConfig(max_threads=3))\n")
    assert {row[0]: row[1:] for row in rows_of(fastapi_crons("config-show"))}["CRON_MAX_THREADS"] == ["3", "code"]


def test_config_set_edits_the_env_file(fastapi_crons: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("# ours\nOTHER=1\n")
    assert fastapi_crons("config-set", "CRON_TIMEZONE", "Europe/Berlin").stdout == "CRON_TIMEZONE is set in .env\n"
    assert fastapi_crons("config-set", "CRON_API_TOKEN", "-", input="hush-hush-hush-hush\n").exit_code == 0
    assert (
        Path(".env").read_text() == "# ours\nOTHER=1\nCRON_TIMEZONE=Europe/Berlin\nCRON_API_TOKEN=hush-hush-hush-hush\n"
    )
    assert "Mars" in refused(fastapi_crons("config-set", "CRON_TIMEZONE", "Mars"))
    assert "CRON_NOPE" in refused(fastapi_crons("config-set", "CRON_NOPE", "1"))
    monkeypatch.setenv("CRON_TIMEZONE", "UTC")
    unset = fastapi_crons("config-set", "timezone", "--unset")
    assert "is set in the environment, too" in unset.stderr
    assert Path(".env").read_text() == "# ours\nOTHER=1\nCRON_API_TOKEN=hush-hush-hush-hush\n"
    assert fastapi_crons("config-set", "CRON_TIMEZONE").exit_code == 2


def test_wrong_usage_is_told_from_errors(fastapi_crons: Cli, project: Path) -> None:
    assert fastapi_crons("nope").exit_code == 2
    assert fastapi_crons("run-job").exit_code == 2
    assert fastapi_crons("why", "endless", "yesterday").exit_code == 2


def test_what_nobody_expected_is_a_sentence_too(
    fastapi_crons: Cli, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("odd")

    seam.JOB_JSON.replace(monkeypatch, fail)
    assert refused(fastapi_crons("list-jobs", "--json")) == "Error: RuntimeError: odd; --verbose shows the traceback"
    assert "Traceback" in fastapi_crons("list-jobs", "--json", "--verbose").stderr


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
    assert "--run" in fastapi_crons("logs", "--run", failed, "--follow").stderr
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
        r"^It was run by worker-1, from 2026-03-01 02:00:00 UTC on \(run [0-9a-f-]{36}\), and completed after \S+ s\.$",
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
    not_due = fastapi_crons("why", "send_reports", "2026-03-01T03:20")
    assert "no tick at that instant; the next tick after it is 2026-03-01 03:30:00 CET." in not_due.stdout
    to_come = fastapi_crons("why", "backup_database", "2126-03-01T02:00:00Z")
    assert "It is due in" in to_come.stdout


READS = (
    ("status",),
    ("list-jobs",),
    ("logs",),
    ("logs", "--job", "endless", "--json"),
    ("why", "endless", "2026-03-01T00:00:00Z"),
    ("next", "endless"),
    ("check",),
    ("config-show",),
    ("plugins",),
)
OF_WHAT_IS_NOT_THERE = (
    ("pause", "nowhere"),
    ("resume", "nowhere"),
    ("resume", "endless"),
    ("cancel", "nowhere"),
    ("cancel", "endless"),
    ("cancel", "endless", "019ca8c1-6c00-7000-8000-0123456789ab"),
    ("run-job", "nowhere"),
    ("logs", "--job", "nowhere"),
)


@pytest.mark.parametrize("command", [*READS, *OF_WHAT_IS_NOT_THERE], ids=" ".join)
@pytest.mark.parametrize("with_app", [True, False])
def test_a_command_that_only_reads_makes_no_file(
    fastapi_crons: Cli, tmp_path: Path, with_app: bool, command: tuple[str, ...]
) -> None:
    if with_app:
        (tmp_path / "main.py").write_text(APP)
    before = {path.name for path in Path().iterdir()}
    result = fastapi_crons(*command)
    assert {path.name for path in Path().iterdir()} - {"__pycache__"} == before
    if with_app and command in READS:
        assert result.exit_code == 0, result.output
    elif command == ("resume", "endless") and with_app:
        assert (result.exit_code, result.stdout) == (0, "imported\nJob 'endless' is not paused\n")
    elif command not in READS:
        refused(result)


def test_what_a_command_failed_with_is_not_hidden_by_the_end_of_the_app(fastapi_crons: Cli) -> None:
    Path("main.py").write_text(
        """
from contextlib import asynccontextmanager
from fastapi import FastAPI
from fastapi_crons import Crons

@asynccontextmanager
async def lifespan(app):
    yield
    raise RuntimeError("the pool did not close")

app = FastAPI(lifespan=lifespan)
crons = Crons(app)
crons.cron("0 0 1 1 *", name="job", overlap="skip")(lambda: None)
"""
    )

    async def hold() -> None:
        crons = Crons(state_backend=SQLiteStateBackend("crons.db"), config=CronConfig())
        started, done = asyncio.Event(), asyncio.Event()

        async def job() -> None:
            started.set()
            await done.wait()

        crons.cron("0 0 1 1 *", name="job")(job)
        await crons.start()
        running = asyncio.ensure_future(crons.run_job("job"))
        await started.wait()
        result = await asyncio.to_thread(fastapi_crons, "run-job", "job")
        assert "is already running" in refused(result)
        assert "the pool did not close" in result.stderr
        done.set()
        await running
        await crons.stop()

    asyncio.run(hold())


def test_config_set_says_who_can_read_the_file(fastapi_crons: Cli) -> None:
    Path(".env").touch(mode=0o600)
    assert fastapi_crons("config-set", "CRON_TIMEZONE", "Asia/Tokyo").stderr == ""
    Path(".env").chmod(0o644)
    warned = fastapi_crons("config-set", "CRON_TIMEZONE", "UTC").stderr
    assert ".env can be read by everybody (mode 0644)" in warned
    assert "chmod 600 .env" in warned


def test_config_set_refuses_a_pipe_instead_of_waiting_for_it(fastapi_crons: Cli) -> None:
    os.mkfifo(".env")
    assert "named pipe" in refused(fastapi_crons("config-set", "CRON_TIMEZONE", "UTC"))


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


_HOSTILE = "a\x1b]0;owned\x07\x1b[2J\r\nForged line\u202e\x9b31m\x85b"


def _poison(path: Path) -> None:
    """Put what a terminal takes for more than text into every column of a store that holds text."""
    with contextlib.closing(sqlite3.connect(path)) as store, store:
        for table, columns in {
            "job_run": (
                "trigger",
                "instance",
                "status",
                "error_type",
                "error_message",
                "error_traceback",
                "actor",
                "note",
            ),
            "job_missed": ("instance", "reason", "detail"),
            "lock_job": ("function", "paused_by", "paused_note"),
            "lock_instance": ("id", "host", "version"),
            "job_status": ("status", "instance_id"),
        }.items():
            for column in columns:
                with contextlib.suppress(sqlite3.Error):
                    store.execute(f"UPDATE {table} SET {column} = ?", [_HOSTILE])
        log = [[0.0, _HOSTILE, _HOSTILE, _HOSTILE]]
        store.execute("UPDATE job_run SET log = ?, beside = ?", [json.dumps(log), _HOSTILE])


@pytest.mark.parametrize("keep_known_words", [True, False])
def test_nothing_in_a_store_reaches_the_terminal_unescaped(
    fastapi_crons: Cli, project: Path, caplog: pytest.LogCaptureFixture, keep_known_words: bool
) -> None:
    fastapi_crons("run-job", "send_reports", "--note", "x")
    fastapi_crons("run-job", "backup_database")
    fastapi_crons("pause", "backup_database", "--note", "x")
    _poison(Path("crons.db"))
    if keep_known_words:
        with contextlib.closing(sqlite3.connect("crons.db")) as store, store:
            store.execute("UPDATE job_run SET status = 'failed', trigger = 'cli'")
    for command in (
        ["logs"], ["logs", "--verbose"], ["logs", "--json", "--verbose"], ["status"], ["list-jobs"], ["list-jobs", "--json"],
        ["why", "send_reports", "2026-03-01T12:00:00"], ["check"], ["run-job", "send_reports", "--verbose"],
        ["pause", "send_reports"], ["resume", "backup_database"], ["cancel", "send_reports"], ["status", "--json"],
    ):  # fmt: skip
        result = fastapi_crons(*command)
        lines = (result.stdout + result.stderr).split("\n")
        assert not [line for line in lines if not line.isprintable()], command
        assert not [line for line in lines if line.startswith("Forged")], command
    for record in caplog.records:
        message = record.getMessage()
        assert "\x1b" not in message
        assert "\x9b" not in message


async def test_the_names_in_a_store_reach_the_log_escaped(caplog: pytest.LogCaptureFixture) -> None:
    def scheduler() -> Crons:
        crons = Crons(state_backend=SQLiteStateBackend("crons.db"))
        crons.cron("0 0 1 1 *", name="job")(_named_job)
        return crons

    first = scheduler()
    await first.start()
    await first.run_job("job")
    with contextlib.closing(sqlite3.connect("crons.db")) as store, store:
        store.execute(
            "UPDATE lock_job SET function = ?, schedule = '0 0 2 1 *', timezone = ?", [_HOSTILE, "Europe/Berlin"]
        )
        store.execute("UPDATE job_run SET status = 'running', ended_ts = NULL, instance = ?", [_HOSTILE])
    second = scheduler()
    await second.start()
    await second.stop()
    await first.stop()
    messages = [record.getMessage() for record in caplog.records]
    assert any("owned" in message for message in messages)
    assert not [message for message in messages if not message.replace("\n", "").isprintable()]


def _named_job() -> None: ...


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
