"""Whole processes: a real server, killed and started again, stopped by signals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import until
from tests.system.servers.server import Server, truth

pytestmark = pytest.mark.slow

APP = """
import asyncio, os, time
from fastapi import FastAPI
from fastapi_crons import Crons, get_cron_router

app = FastAPI()
crons = Crons(app)
app.include_router(get_cron_router(), prefix="/api")


def note(job, event):
    with open("truth.txt", "a") as file:
        file.write(f"{job} {event} {os.getpid()} {time.time()}\\n")


@crons.cron("* * * * * *", name="tick")
async def tick():
    note("tick", "run")


@crons.cron("* * * * * */3", name="slow")
async def slow():
    note("slow", "start")
    await asyncio.sleep(2)
    note("slow", "end")
    return "done"


@crons.cron("* * * * * */2", name="in_a_thread")
def in_a_thread():
    note("in_a_thread", "run")


async def heard(job_name, context):
    note(job_name, "on_error:" + context["status"])

crons.add_on_error_hook(heard)
"""


@pytest.fixture
def start() -> Iterator[Callable[..., Server]]:
    Path("app.py").write_text(APP)
    servers: list[Server] = []

    def start(*options: str) -> Server:
        servers.append(Server(*options))
        return servers[-1]

    yield start
    for server in servers:
        server.kill()


@pytest.mark.parametrize("instance_id", [None, "worker-001"])
def test_a_killed_process_leaves_interrupted_runs_that_run_again(
    start: Callable[..., Server], monkeypatch: pytest.MonkeyPatch, instance_id: str | None
) -> None:
    if instance_id is not None:
        monkeypatch.setenv("CRON_INSTANCE_ID", instance_id)
    server = start()
    until(lambda: truth("slow") and truth("slow")[-1][0] == "start" and server.runs("slow"))
    server.end(signal.SIGKILL)
    killed_at = time.time()
    time.sleep(2.5)
    server = start()
    until(lambda: any(run["attempt"] == 2 and run["status"] == "completed" for run in server.runs("slow")))
    runs = server.runs("slow")
    cut_off = next(run for run in runs if run["status"] == "interrupted")
    again = next(run for run in runs if run["attempt"] == 2)
    assert again["scheduled_time"] == cut_off["scheduled_time"]
    assert again["start_time"] > cut_off["start_time"]
    until(lambda: "on_error:interrupted" in [event for event, _, _ in truth("slow")])

    # The ticks of the downtime: the newest ran, and names the others.
    until(lambda: len(truth("tick")) > 3)
    late = next(run for run in server.runs("tick") if run["trigger"] == "catch_up" or run["missed_ticks"])
    assert late["missed_ticks"] >= 1
    restarted = [float(when) for _, _, when in truth("tick") if float(when) > killed_at]
    assert restarted
    ticks = [run["scheduled_time"] for run in server.runs("tick")]
    assert len(ticks) == len(set(ticks))


@pytest.mark.parametrize("with_signal", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_the_running_job_finish_and_ends_the_process(
    start: Callable[..., Server], with_signal: signal.Signals
) -> None:
    server = start()
    until(lambda: truth("slow") and truth("slow")[-1][0] == "start")
    began = time.monotonic()
    code = server.end(with_signal)
    assert time.monotonic() - began < 25
    assert code in (0, -with_signal)  # uvicorn raises the signal again once it has shut down
    assert truth("slow")[-1][0] == "end"
    assert "Cron scheduler stopped" in Path("server.log").read_text()


def test_the_log_of_a_plain_server_shows_that_it_started(start: Callable[..., Server]) -> None:
    server = start()
    until(lambda: "Cron scheduler started with 3 jobs" in Path("server.log").read_text())
    until(lambda: server.runs("in_a_thread"))


def test_several_workers_on_one_host_run_each_tick_once(start: Callable[..., Server]) -> None:
    server = start("--workers", "3")
    until(lambda: len(truth("tick")) >= 6)
    server.end()
    ticks = [round(float(when)) for _, _, when in truth("tick")]
    assert len(ticks) == len(set(ticks)), ticks


def test_a_real_interrupt_ends_a_process_while_jobs_run() -> None:
    code = (
        "import asyncio, signal\n"
        "from fastapi_crons import Crons\n"
        # What was started in a shell's background ignores interrupts, and its children do.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "crons = Crons()\n"
        "@crons.cron('* * * * * *')\n"
        "async def busy():\n"
        "    print('busy', flush=True)\n"
        "    while True: pass\n"
        "async def main():\n"
        "    await crons.start()\n"
        "    await asyncio.sleep(60)\n"
        "loop = asyncio.new_event_loop()\n"
        "loop.run_until_complete(main())\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "busy\n"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode in (1, -signal.SIGINT), os.linesep + errors
    assert "KeyboardInterrupt" in errors
