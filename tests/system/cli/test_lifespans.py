"""How a command ends whose app or whose job does not end well."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.support import until, without_progress
from tests.system.cli.commands import Start, call, runs

pytestmark = pytest.mark.slow


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
