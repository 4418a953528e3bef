"""`check`, `config` and `next`: what they find, show and change."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.integration.cli.commands import APP, Cli, json_of, refused, rows_of


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


def test_check_does_not_doubt_schedules_that_no_clock_knows(fastapi_crons: Cli, project: Path) -> None:
    app = """
from fastapi import FastAPI
from fastapi_crons import Crons
from fastapi_crons.schedules import AtStart, Every
crons = Crons(FastAPI())
crons.cron(AtStart(), name="once")(print)
crons.cron(Every(seconds=45, after="end"), name="often")(print)
"""
    code, lines = _checked(fastapi_crons, app)
    assert code == 0
    assert [line[:2] for line in lines if line[2:].startswith("job ")] == ["✓ ", "✓ "]


def test_check_says_each_schedule_in_words(fastapi_crons: Cli, project: Path) -> None:
    lines = fastapi_crons("check").stdout.splitlines()
    assert any(
        line.startswith("✓ job backup_database: ") and line.endswith(": At 02:00, every day") for line in lines
    ), lines
    assert any("(Europe/Berlin)" in line and line.endswith(": Every 15 minutes") for line in lines), lines


@pytest.mark.parametrize(
    ("expr", "doubt"),
    [
        ("*/10 * * * * *", "60 times in a row; seconds are the last field here, not the first"),
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
