"""The command line as a process: signals, cancellation, and runs that other processes hold."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest

from tests.support import until
from tests.system.cli.commands import APP, Start, call, runs

pytestmark = pytest.mark.slow


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
    assert process.wait(30) == -signal.SIGTERM


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
    (cancelled,) = json.loads(call("cancel", "endless", "--json").stdout)
    assert cancelled["message"] == f"Run {cancelled['run_id']} of job 'endless' is being cancelled"
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
    _, errors = process.communicate(timeout=30)
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
    _, errors = process.communicate(timeout=30)
    assert "Traceback" not in errors
    assert process.returncode in (0, 130, -signal.SIGINT)


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
    assert refused.stderr == "Error: job 'endless' is not running\n"
