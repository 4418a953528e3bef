"""The command line as a process: signals, pipes, terminals, plugins that are broken, completion."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import until
from tests.system.pages import ROOT, blocks

pytestmark = pytest.mark.slow

APP = """
import asyncio, subprocess
from fastapi import FastAPI
from fastapi_crons import Crons

app = FastAPI()
crons = Crons(app)


@crons.cron("* * * * * *", name="tick")
async def tick():
    pass


@crons.cron("0 0 1 1 *", name="endless")
async def endless():
    open("started.txt", "w").close()
    await asyncio.sleep(3600)


@crons.cron("0 0 1 1 *", name="loud", max_retries=0)
def loud():
    print("printed")
    subprocess.run(["echo", "printed by a child"])
    return "result"
"""

MODULE = [sys.executable, "-m", "fastapi_crons"]
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture(autouse=True)
def _project() -> None:
    Path("main.py").write_text(APP)


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a command beside the test; what it writes is read when it has ended."""
    processes: list[subprocess.Popen[str]] = []

    def start(*arguments: str, **environment: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*MODULE, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.communicate()


def without_progress(errors: str) -> str:
    """What a command wrote, without the lines about steps that took longer than a second on a busy machine."""
    return re.sub(r"(?m)^[a-z ]+ …\n", "", errors)


def call(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    answer = subprocess.run(
        [*MODULE, *arguments],
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        env={**os.environ, **environment},
        check=False,
    )
    answer.stderr = without_progress(answer.stderr)
    return answer


def runs(job: str) -> list[dict[str, Any]]:
    answer = call("logs", "--job", job, "--json")
    found: list[dict[str, Any]] = json.loads(answer.stdout or "[]")
    return found


@pytest.mark.parametrize("with_signal", [signal.SIGTERM, signal.SIGINT])
def test_a_standalone_scheduler_runs_jobs_and_stops_cleanly(start: Start, with_signal: signal.Signals) -> None:
    process = start("start-scheduler")
    until(lambda: len([run for run in runs("tick") if run["status"] == "completed"]) >= 2)
    status = call("status").stdout
    process.send_signal(with_signal)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "Cron scheduler started with 3 jobs" in errors
    assert "Cron scheduler stopped" in errors
    assert f"pid {process.pid}, heartbeat" in status
    assert {run["status"] for run in runs("tick")} == {"completed"}
    assert "no instance is running" in call("status").stdout


def test_a_second_signal_ends_it_at_once(start: Start) -> None:
    Path("main.py").write_text(f"{APP}\ncrons.cron('* * * * * *', name='deaf')(endless)\n")
    process = start("start-scheduler")
    until(Path("started.txt").exists)
    process.send_signal(signal.SIGTERM)
    until(lambda: json.loads(call("list-jobs", "--json").stdout)[0]["status"] != "pending")
    assert process.poll() is None, "a job that goes on gets time to end"
    process.send_signal(signal.SIGTERM)
    assert process.wait(5) == -signal.SIGTERM


def test_ctrl_c_cancels_the_run(start: Start) -> None:
    process = start("run-job", "endless")
    until(Path("started.txt").exists)
    (running,) = json.loads(call("list-jobs", "--status", "running", "--json").stdout)
    assert running["name"] == "endless"
    process.send_signal(signal.SIGINT)
    assert "Traceback" not in process.communicate(timeout=30)[1]
    assert process.returncode == 130
    assert [run["status"] for run in runs("endless")] == ["cancelled"]


def test_a_job_that_is_running_is_run_again_with_force_only(start: Start) -> None:
    start("run-job", "endless")
    until(Path("started.txt").exists)
    refused = call("run-job", "endless")
    assert refused.returncode == 1
    assert "job 'endless' is already running" in refused.stderr
    assert "--force runs it anyway" in refused.stderr
    assert (
        call("run-job", "endless", "--force", "--timeout", "0.1")
        .stderr.splitlines()[1]
        .startswith("❌ Job 'endless' timed out")
    )
    assert "of 'endless': its instance ends it within seconds" in call("cancel", "endless").stdout


def test_a_run_is_cancelled_from_elsewhere(start: Start) -> None:
    process = start("run-job", "endless", CRON_HEARTBEAT_INTERVAL="0.5")
    until(Path("started.txt").exists)
    assert "of 'endless': its instance ends it within seconds" in call("cancel", "endless").stdout
    _, errors = process.communicate(timeout=30)
    assert (process.returncode, "❌ Job 'endless' was cancelled after" in errors) == (1, True)


def test_following_the_log_shows_what_happens_elsewhere(start: Start) -> None:
    call("run-job", "loud")
    process = start("logs", "--follow", PYTHONUNBUFFERED="1")
    assert process.stdout is not None
    assert "loud" in process.stdout.readline()
    call("run-job", "loud")
    # A run as short as this may be told of when it has ended only.
    while "completed" not in (line := process.stdout.readline()):
        assert "running" in line
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0


@pytest.mark.parametrize("pause", [0.0, 0.01])
@pytest.mark.parametrize("command", [["logs", "--follow"], ["run-job", "endless"], ["start-scheduler"]])
def test_interrupting_twice_ends_a_command_at_once_and_without_a_traceback(
    start: Start, command: list[str], pause: float
) -> None:
    call("run-job", "loud")
    process = start(*command, PYTHONUNBUFFERED="1")
    said = process.stderr if command == ["start-scheduler"] else process.stdout
    assert said is not None
    said.readline()
    process.send_signal(signal.SIGINT)
    time.sleep(pause)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert "Traceback" not in errors
    assert "KeyboardInterrupt" not in errors
    assert process.returncode in (0, 130, -signal.SIGINT)


@pytest.mark.parametrize("after", [0.3, 0.5, 0.8, 1.2])
def test_interrupting_a_command_at_any_moment_shows_no_traceback(start: Start, after: float) -> None:
    Path("main.py").write_text(f"print('begun', flush=True)\nimport time\n{APP}\ntime.sleep(1)\n")
    process = start("list-jobs", PYTHONUNBUFFERED="1")
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(after)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert "Traceback" not in errors
    assert process.returncode in (0, 130, -signal.SIGINT)


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
    assert (answer.stdout, answer.stderr) == ("[", "")


def test_an_output_that_has_few_characters_is_enough() -> None:
    for command in (["run-job", "loud"], ["list-jobs"], ["status"], ["check"]):
        answer = call(*command, PYTHONIOENCODING="ascii", LC_ALL="C")
        assert (answer.returncode, "Traceback" in answer.stderr) == (0, False)


def install_plugin(text: str) -> None:
    """A distribution in the current folder, whose plugin has this text."""
    Path("shop.py").write_text(text)
    information = Path("shop-1.0.dist-info")
    information.mkdir(exist_ok=True)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: shop\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text("[fastapi_crons]\nshop = shop\n")


def test_plugins_bring_commands() -> None:
    install_plugin(
        "from fastapi_crons import hookimpl\n"
        "@hookimpl\n"
        "def cli_commands(cli):\n"
        "    @cli.command('open-shop')\n"
        "    def open_shop(): print('open')\n"
    )
    assert "open-shop" in call("--help").stdout
    assert call("open-shop").stdout == "open\n"
    assert call("open-shop", CRON_DISABLED_PLUGINS="shop").returncode == 2
    Path(".env").write_text("CRON_DISABLED_PLUGINS=shop\n")
    assert "open-shop" not in call("--help").stdout


def test_the_command_that_the_documentation_adds_finds_the_app() -> None:
    (text,) = (block.text for block in blocks(ROOT / "docs/plugins/hooks.md") if "def cli_commands" in block.text)
    install_plugin(text)
    Path("main.py").write_text(
        "from fastapi_crons import Crons\ncrons = Crons()\ncrons.cron('@daily', name='a')(lambda: None)\n"
    )
    assert call("count-jobs", "--app", "main:crons").stdout == "1\n"
    assert call("count-jobs", CRON_APP="main:crons").stdout == "1\n"
    failed = call("count-jobs", "--app", "main:nothing")
    assert (failed.returncode, failed.stderr.count("\n")) == (1, 1)


@pytest.mark.parametrize(
    "text",
    [
        "raise RuntimeError('broken')\n",
        "from fastapi_crons import hookimpl\n@hookimpl\ndef cli_commands(cli): raise RuntimeError('broken')\n",
    ],
)
def test_a_broken_plugin_stands_in_nobody_s_way(text: str) -> None:
    install_plugin(text)
    shown = call("--help")
    assert (shown.returncode, "list-jobs" in shown.stdout) == (0, True)
    (warning,) = shown.stderr.splitlines()
    assert warning.startswith("Warning: ")
    assert "RuntimeError: broken" in warning
    assert call("next", "* * * * *").returncode == 0
    wanted = call("open-shop")
    assert wanted.returncode == 2
    assert "RuntimeError: broken" in wanted.stderr


def test_job_names_are_completed_in_silence() -> None:
    def complete(words: str) -> subprocess.CompletedProcess[str]:
        environment = {"_FASTAPI_CRONS_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": "2"}
        code = "import sys; sys.argv = ['fastapi-crons']; from fastapi_crons_cli.main import main; main()"
        return subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **environment}, check=False
        )

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


#: A lifespan as most are written, and jobs that are hard to end.
HARD = """
import asyncio, logging, os, sys, time
from contextlib import asynccontextmanager
from fastapi import FastAPI
from fastapi_crons import Crons


@asynccontextmanager
async def lifespan(app):
    if os.environ.get("LEAVES"):
        sys.exit(0)
    open("pool", "w").close()
    yield
    os.remove("pool")
    if os.environ.get("BREAKS"):
        raise RuntimeError("the pool does not close")


app = FastAPI(lifespan=lifespan)
crons = Crons(app)


@crons.cron("0 0 1 1 *", name="endless")
async def endless():
    open("started.txt", "w").close()
    await asyncio.sleep(3600)


@crons.cron("0 0 1 1 *", name="deaf")
async def deaf():
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            pass


@crons.cron("0 0 1 1 *", name="thread")
def thread():
    time.sleep(1.5)
    open("written.txt", "w").close()


@crons.cron("0 0 1 1 *", name="forges")
async def forges():
    logging.getLogger("x").warning("said\\n2026-11-25 20:00:00 ERROR root: FORGED")
"""


@pytest.fixture
def hard() -> None:
    Path("main.py").write_text(HARD)


@pytest.mark.parametrize("with_signal", [signal.SIGTERM, signal.SIGINT])
def test_the_lifespan_of_the_app_ends_in_its_own_way(hard: None, start: Start, with_signal: signal.Signals) -> None:
    process = start("run-job", "endless")
    until(Path("started.txt").exists)
    assert Path("pool").exists()
    process.send_signal(with_signal)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 128 + with_signal
    assert (
        without_progress(errors)
        == "❌ Cancelled job 'endless'; see how it ended with: fastapi-crons logs --job endless\n"
    )
    assert not Path("pool").exists()
    assert runs("endless")[0]["status"] == "cancelled"


def test_a_lifespan_that_fails_at_its_end_takes_nothing_from_what_was_done(hard: None) -> None:
    answer = call("run-job", "forges", BREAKS="1")
    assert "completed successfully" in answer.stdout
    assert answer.stderr.endswith("Error: RuntimeError: the pool does not close; --verbose shows the traceback\n")
    assert answer.returncode == 1


@pytest.mark.parametrize("command", [["run-job", "forges"], ["start-scheduler"]])
def test_a_lifespan_that_ends_the_process_is_an_error(hard: None, command: list[str]) -> None:
    answer = call(*command, LEAVES="1")
    assert answer.returncode == 1
    assert answer.stderr.splitlines()[-1] == "Error: the app ended the process while it started (SystemExit: 0)"
    assert "Traceback" not in answer.stderr


def test_a_job_that_swallows_its_cancellation_does_not_hold_the_command(hard: None) -> None:
    answer = call("run-job", "deaf", "--timeout", "0.1", CRON_SHUTDOWN_TIMEOUT="0.5")
    assert answer.returncode == 1
    assert "does not end although it was cancelled" in answer.stderr
    assert runs("deaf")[0]["status"] == "interrupted"


def test_a_thread_that_goes_on_is_waited_for(hard: None) -> None:
    answer = call("run-job", "thread", "--timeout", "0.2")
    assert answer.returncode == 1
    assert "timed out" in answer.stderr
    assert Path("written.txt").exists(), "what the record says goes on did"


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


def test_runs_of_a_process_that_was_killed_are_not_shown_as_running(start: Start) -> None:
    process = start("run-job", "endless")
    until(Path("started.txt").exists)
    until(lambda: runs("endless"))
    process.kill()
    process.wait()
    (job,) = (job for job in json.loads(call("list-jobs", "--json").stdout) if job["name"] == "endless")
    assert job["status"] == "interrupted"
    refused = call("cancel", "endless")
    assert refused.returncode == 1
    assert "no instance that shares the lock store is running it" in refused.stderr


def test_a_closed_output_is_no_error() -> None:
    closed = subprocess.run(
        ["sh", "-c", f"{sys.executable} -m fastapi_crons list-jobs >&- 2>errors.txt"], check=False, timeout=60
    )
    assert closed.returncode == 0
    assert without_progress(Path("errors.txt").read_text()) == ""
