"""What stands on standard output, and what of others' texts never does."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from pathlib import Path

import pytest

from fastapi_crons import Crons
from fastapi_crons.state import SQLiteStateBackend
from tests import seam
from tests.integration.cli.commands import APP, Cli, json_of, refused, rows_of


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


def test_wrong_usage_is_told_from_errors(fastapi_crons: Cli, project: Path) -> None:
    assert fastapi_crons("nope").exit_code == 2
    assert fastapi_crons("run-job").exit_code == 2
    assert fastapi_crons("why", "endless", "last night").exit_code == 2


def test_what_nobody_expected_is_a_sentence_too(
    fastapi_crons: Cli, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("odd")

    seam.JOB_JSON.replace(monkeypatch, fail)
    assert refused(fastapi_crons("list-jobs", "--json")) == "Error: RuntimeError: odd; --verbose shows the traceback"
    assert "Traceback" in fastapi_crons("list-jobs", "--json", "--verbose").stderr


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
