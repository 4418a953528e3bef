"""The README does what it says: every snippet runs, every command is one that works."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from pydantic import SecretStr

from fastapi_crons import CronConfig
from fastapi_crons_postgres.settings import PostgresSettings
from fastapi_crons_redis.settings import RedisSettings
from fastapi_crons_sqlite import SQLiteSettings
from tests.faults.redis_server import RedisServer, needs_redis
from tests.programs import run
from tests.system.conftest import ROOT

TEXT = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", TEXT, re.DOTALL)
PYTHON = [code for language, code in BLOCKS if language == "python"]
CONSOLE = [code for language, code in BLOCKS if language == "console"]
COMMANDS = [line for language, code in BLOCKS if language == "bash" for line in code.splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize("code", PYTHON, ids=range(len(PYTHON)))
def test_every_python_snippet_runs(code: str) -> None:
    done = run([sys.executable, "-W", "error", "-c", code])
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_contract_in_the_readme_is_one_that_a_store_can_keep() -> None:
    (code,) = (code for code in PYTHON if "LockContract" in code)
    Path("test_my_lock.py").write_text(code)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_my_lock.py"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert re.search(r"\b[1-9]\d* passed", done.stdout), done.stdout


def test_every_command_is_known_here() -> None:
    """Each is executed: by this file, by `.ci/run` (which is this very run), or as the installation of other tests."""
    assert [command for command in COMMANDS if not command.startswith("fastapi-crons ")] == [
        "python3 dev.py demo",
        "python3 dev.py test",
        'pip install "fastapi-crons>=3" uvicorn',
        "uvicorn app:app",
        "uvicorn app:app --workers 4",
        'pip install "fastapi-crons[redis]>=3"',
        "export CRON_REDIS_URL=redis://localhost:6379/0",
    ]
    assert COMMANDS[1] in (ROOT / ".ci/run").read_text()


@pytest.mark.slow
def test_the_five_minute_app_starts_and_answers() -> None:
    (app,) = (code for code in PYTHON if code.startswith("# app.py"))
    Path("app.py").write_text(app)
    command = [sys.executable, "-m", *shlex.split("uvicorn app:app"), "--port", "0"]
    _serve(command, "Cron scheduler started with 2 jobs", "/api/crons", "daily_report")
    assert Path("crons.db").exists()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_every_command_line_works_in_the_folder_of_the_five_minute_app() -> None:
    (app,) = (code for code in PYTHON if code.startswith("# app.py"))
    Path("app.py").write_text(app)
    for block in CONSOLE:
        command, *shown = block.splitlines()
        assert [re.sub(r"[\d.]+s$", "0.00s", line) for line in _run(command.removeprefix("$ ")).splitlines()] == shown
    commands = [command for command in COMMANDS if command.startswith("fastapi-crons ")]
    assert len(commands) == 13
    for command in commands:
        _run(command)
    assert Path(".env").read_text() == "CRON_TIMEZONE=Europe/Berlin\n"


def _run(command: str) -> str:
    program, *arguments = shlex.split(command)
    assert program == "fastapi-crons"
    done = run([sys.executable, "-m", "fastapi_crons", *arguments])
    assert done.returncode == 0, (command, done.stderr)
    return done.stdout


@pytest.mark.slow
@needs_redis
@pytest.mark.parametrize("redis", [False, True])
def test_several_workers_share_the_file_or_the_server(
    redis: bool, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    (app,) = (code for code in PYTHON if code.startswith("# app.py"))
    Path("app.py").write_text(app)
    if redis:
        variable, _, url = "export CRON_REDIS_URL=redis://localhost:6379/0".removeprefix("export ").partition("=")
        monkeypatch.setenv(variable, url.replace("localhost:6379/0", f"127.0.0.1:{redis_server.port}/0"))
    command = [sys.executable, "-m", *shlex.split("uvicorn app:app --workers 4"), "--port", "0"]
    log = _serve(command, "Cron scheduler started with 2 jobs", "/api/scheduler/health", '"ok"', started_times=4)
    assert Path("crons.db").exists() is not redis
    assert "WARNING" not in log.replace("the management API has neither", "")


@pytest.mark.slow
def test_the_demo_says_what_to_open_and_answers() -> None:
    # The set-up half of the command has been run where this test runs from `dev.py test`.
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); import dev; from pathlib import Path; "
        "dev.PYTHON = Path(sys.executable); sys.exit(dev.demo([]))"
    )
    log = _serve([sys.executable, "-c", code], "Cron scheduler started with 8 jobs", "/api/dashboard", "flaky_sync")
    for wanted in ("open", "try", "then", "/api/dashboard", "curl -X POST"):
        assert wanted in log


@pytest.mark.slow
def test_the_demo_begins_with_a_day_of_history() -> None:
    for source in (ROOT / "examples/quickstart").glob("*.py"):
        shutil.copy(source, ".")
    run([sys.executable, "yesterday.py"], check=True)
    command = [sys.executable, "-m", "fastapi_crons", "list-jobs", "--json", "--app", "app:app"]
    jobs = {job["name"]: job for job in json.loads(run(command, check=True).stdout)}
    assert {name for name, job in jobs.items() if job["last_run"]} == {"rates", "invoices", "daily_report"}
    assert (jobs["invoices"]["paused"]["actor"], jobs["invoices"]["paused"]["note"]) == ("Ada", "the bank is down")
    failed = [sys.executable, "-m", "fastapi_crons", "runs", "--status", "failed", "--app", "app:app"]
    assert "ConnectionError: the exchange is closed" in run(failed, check=True).stdout


def _serve(command: list[str], started: str, path: str, expected: str, started_times: int = 1) -> str:
    """Start a server, ask it once, and end it; returns its log."""
    log = Path("log.txt")
    with log.open("w") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        deadline = time.monotonic() + 90
        while not (match := re.search(r"running on (http://\S+)", log.read_text())) or (
            log.read_text().count(started) < started_times
        ):
            assert time.monotonic() < deadline, log.read_text()
            assert process.poll() is None, log.read_text()
            time.sleep(0.05)
        with urllib.request.urlopen(match[1] + path, timeout=10) as answer:
            assert expected in answer.read().decode()
        assert started in log.read_text()
    finally:
        _end(process)
    return log.read_text()


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ctrl-C, as a terminal sends it: to the whole group."""
    import os
    import signal

    os.killpg(process.pid, signal.SIGINT)
    process.wait(30)


def test_the_settings_shown_exist_with_these_defaults() -> None:
    shown = re.findall(r"^\| (`CRON_.*?) \|([^|]*)\|", TEXT, re.MULTILINE)
    assert len(shown) >= 9
    fields = {f"CRON_{name.upper()}": field for name, field in CronConfig.model_fields.items()}
    fields |= {f"CRON_SQLITE_{name.upper()}": field for name, field in SQLiteSettings.model_fields.items()}
    fields |= {f"CRON_POSTGRES_{name.upper()}": field for name, field in PostgresSettings.model_fields.items()}
    fields |= {f"CRON_REDIS_{name.upper()}": field for name, field in RedisSettings.model_fields.items()}
    for variables, defaults in shown:
        values = re.findall(r"`(.*?)`", defaults)
        for place, variable in enumerate(re.findall(r"`(.*?)`", variables)):
            default = fields[variable].default
            if isinstance(default, SecretStr):
                default = default.get_secret_value()
            if values:
                assert str(default).lower().removesuffix(".0") == values[place].lower(), variable
            else:
                assert default in (None, frozenset()), variable


def test_every_setting_says_what_it_means() -> None:
    for settings in (CronConfig, SQLiteSettings, PostgresSettings, RedisSettings):
        for name, field in settings.model_fields.items():
            assert field.description, name
