"""What the command line writes: to pipes, to terminals, of several lines, and as completion."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from tests.support import without_progress
from tests.system.cli.commands import APP, MODULE, Start, call

pytestmark = pytest.mark.slow


def test_json_is_not_mixed_with_what_jobs_and_their_children_print() -> None:
    answer = call("run-job", "loud", "--json")
    assert json.loads(answer.stdout)["result"] == "result"
    assert answer.stderr.splitlines() == ["printed", "printed by a child"]


def test_both_modules_are_the_same_program() -> None:
    versions = {
        subprocess.run([sys.executable, "-m", module, "--version"], capture_output=True, text=True, check=True).stdout
        for module in ("fastapi_crons", "fastapi_crons.cli", "fastapi_crons_cli")
    }
    assert len(versions) == 1


def test_help_imports_neither_fastapi_nor_settings() -> None:
    code = (
        "import sys, atexit\n"
        "atexit.register(lambda: print([m for m in ('fastapi', 'pydantic', 'redis') if m in sys.modules]))\n"
        "from fastapi_crons_cli.main import main\n"
        "main()"
    )
    answer = subprocess.run([sys.executable, "-c", code, "--help"], capture_output=True, text=True, check=True)
    assert answer.stdout.splitlines()[-1] == "[]"


def test_a_reader_that_goes_away_is_no_error() -> None:
    command = f"{' '.join(MODULE)} list-jobs --json | head -c 1"
    answer = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60, check=False)
    assert (answer.stdout, without_progress(answer.stderr)) == ("[", "")


def test_an_output_that_has_few_characters_is_enough() -> None:
    for command in (["run-job", "loud"], ["list-jobs"], ["status"], ["check"]):
        answer = call(*command, PYTHONIOENCODING="ascii", LC_ALL="C")
        assert (answer.returncode, "Traceback" in answer.stderr) == (0, False)


def complete(words: str) -> subprocess.CompletedProcess[str]:
    """What a shell is offered for the last of these words."""
    environment = {
        "_FASTAPI_CRONS_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(words.count(" ")),
    }
    code = "import sys; sys.argv = ['fastapi-crons']; from fastapi_crons_cli.main import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **environment}, check=False
    )


@pytest.mark.parametrize(
    "words", ["run-job endless --tick", "backfill endless", "backfill endless 1d", "plan --until", "runs --since"]
)
def test_times_are_completed(words: str) -> None:
    assert complete(f"fastapi-crons {words} yest").stdout.splitlines() == ["yesterday", "yesterday 02:30"]


def test_job_names_are_completed_in_silence() -> None:
    asked = complete("fastapi-crons run-job e")
    assert (asked.stdout.strip(), asked.stderr) == ("", ""), "no command has run the app here: it may be a stranger's"
    call("list-jobs")
    assert complete("fastapi-crons run-job e").stdout.split() == ["endless"]
    Path("main.py").write_text("print('noise')\nraise SystemExit('broken')\n")
    broken = complete("fastapi-crons run-job e")
    assert (broken.stdout.strip(), broken.stderr) == ("", "")


def on_a_terminal(*arguments: str, columns: int, with_signal: int | None = None, when: str = "") -> str:
    """What a command writes to a terminal of so many columns; it is sent a signal when it has written something."""
    pid, descriptor = pty.fork()
    if pid == 0:
        fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        # What readline put into the environment, os.environ does not know of.
        environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
        os.execve(sys.executable, [*MODULE, *arguments], {**environment, "TERM": "xterm"})
    written = b""
    while True:
        try:
            read = os.read(descriptor, 65_536)
        except OSError:  # the other end is closed
            break
        if not read:
            break
        written += read
        if with_signal is not None and when.encode() in written:
            os.kill(pid, with_signal)
            with_signal = None
    os.close(descriptor)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    return written.decode()


def test_a_narrow_terminal_shows_the_documented_columns_whole() -> None:
    name, instance = "a_job_with_a_name_of_quite_some_length", "worker-with-a-long-name-001"
    Path("main.py").write_text(f"{APP}\ncrons.cron('0 0 1 1 *', name='{name}')(list)\n")
    assert name in on_a_terminal("list-jobs", columns=80)
    call("run-job", name, CRON_INSTANCE_ID=instance)
    ran = json.loads(call("list-jobs", "--json").stdout)[-1]["last_run"][:19].replace("T", " ")
    narrow, wide = (on_a_terminal("list-jobs", columns=columns) for columns in (80, 160))
    assert (ran in narrow, "completed" in narrow, "Next Run" in narrow) == (True, True, False)
    assert max(len(line) for line in narrow.splitlines() if line.startswith(("┌", "├"))) <= 80
    assert (name in wide, instance in wide, "Next Run" in wide) == (True, True, True)


def test_a_live_view_on_a_terminal() -> None:
    written = on_a_terminal("start-scheduler", columns=120, with_signal=signal.SIGTERM, when="Next Run")
    assert "Cron scheduler started with 3 jobs" in written
    assert "Cron scheduler stopped" in written


def test_following_in_json_gives_one_object_a_line(start: Start) -> None:
    Path("main.py").write_text(f"print('noise')\n{APP}")
    process = start("logs", "--follow", "--json", "--limit", "1")
    assert process.stdout is not None
    call("run-job", "loud")
    while (told := json.loads(process.stdout.readline()))["status"] == "running":
        pass
    assert (told["job_name"], told["status"]) == ("loud", "completed")
    process.send_signal(signal.SIGINT)
    rest, errors = process.communicate(timeout=30)
    assert (process.returncode, rest, "noise" in errors.splitlines()) == (0, "", True)


def test_what_takes_long_is_told_of() -> None:
    Path("main.py").write_text(f"import time\ntime.sleep(1.5)\n{APP}")
    answer = subprocess.run([*MODULE, "list-jobs"], capture_output=True, encoding="utf-8", timeout=60, check=False)
    assert answer.returncode == 0
    assert "importing the app …\n" in answer.stderr


def test_messages_of_several_lines_look_like_no_others(hard: None) -> None:
    answer = call("run-job", "forges", "--verbose")
    assert "    | 2026-11-25 20:00:00 ERROR root: FORGED\n" in answer.stdout


def test_settings_are_shown_although_the_app_is_broken() -> None:
    Path("main.py").write_text("import nowhere")
    answer = call("config-show", CRON_NAMESPACE="staging")
    assert answer.returncode == 0
    assert "staging" in answer.stdout
    assert "without what the app sets in code: main can't be imported" in answer.stderr


def test_what_only_this_process_would_hear_is_refused() -> None:
    answer = call("pause", "tick", CRON_STATE_BACKEND="memory", CRON_LOCK_BACKEND="local")
    assert answer.returncode == 1
    assert "each process has a LocalLockBackend of its own" in answer.stderr


def test_a_closed_output_is_no_error() -> None:
    closed = subprocess.run(
        ["sh", "-c", f"{sys.executable} -m fastapi_crons list-jobs >&- 2>errors.txt"], check=False, timeout=60
    )
    assert closed.returncode == 0
    assert without_progress(Path("errors.txt").read_text()) == ""
