"""Stopping: under uvicorn with signals and reloads, with responses open, and standalone. Always bounded."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from http.client import HTTPResponse
from pathlib import Path

import pytest

from tests.support import until
from tests.system.servers.server import Server, truth

pytestmark = pytest.mark.slow

APP = """
import asyncio, os, threading, time
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from fastapi_crons import CronConfig, Crons, get_cron_router

app = FastAPI()
crons = Crons(app, config=CronConfig(shutdown_timeout=2))
app.include_router(get_cron_router(), prefix="/api")


def note(job, event):
    with open("truth.txt", "a") as file:
        file.write(f"{job} {event} {os.getpid()} {time.time()}\\n")


@crons.cron("* * * * * *", name="tick")
async def tick():
    note("tick", "run")


@crons.cron("0 0 1 1 *", name="patient")
async def patient():
    note("patient", "start")
    await asyncio.sleep(1)
    note("patient", "end")
    return "done"


@crons.cron("0 0 1 1 *", name="stubborn")
async def stubborn():
    note("stubborn", "start")
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            note("stubborn", "swallowed")


@crons.cron("0 0 1 1 *", name="thread")
def thread():
    note("thread", "start")
    threading.Event().wait()


@app.get("/stream")
async def stream():
    async def lines():
        while True:
            yield b"line\\n"
            await asyncio.sleep(0.1)
    return StreamingResponse(lines())
"""


@pytest.fixture
def start() -> Iterator[Callable[..., Server]]:
    Path("app.py").write_text(APP)
    servers: list[Server] = []

    def start(*options: str) -> Server:
        servers.append(Server(*options))
        until(lambda: len(truth("tick")) >= 1)
        return servers[-1]

    yield start
    for server in servers:
        server.kill()


def ask(server: Server, job: str) -> Callable[[], tuple[int, str]]:
    """Ask for a run in a thread; the answer is to be had from what this returns."""
    answers: list[tuple[int, str]] = []

    def post() -> None:
        request = urllib.request.Request(f"{server.url}/api/crons/{job}/run", method="POST")
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                answers.append((answer.status, answer.read().decode()))
        except urllib.error.HTTPError as error:
            answers.append((error.code, error.read().decode()))

    thread = threading.Thread(target=post, daemon=True)
    thread.start()

    def answer() -> tuple[int, str]:
        thread.join(30)
        return answers[0]

    return answer


@pytest.mark.parametrize("with_signal", [signal.SIGTERM, signal.SIGINT])
def test_jobs_that_refuse_to_end_do_not_keep_the_process(
    start: Callable[..., Server], with_signal: signal.Signals
) -> None:
    server = start()
    answers = [ask(server, job) for job in ("patient", "stubborn", "thread")]
    until(lambda: all(truth(job) for job in ("patient", "stubborn", "thread")))
    signalled = time.time()
    began = time.monotonic()
    server.end(with_signal)
    assert time.monotonic() - began < 15
    assert [status for status, _ in (answer() for answer in answers)] == [202, 202, 202]
    assert truth("patient")[-1][0] == "end", "what can finish in time does"
    assert truth("stubborn")[-1][0] == "swallowed"
    assert all(float(when) < signalled + 1 for _, _, when in truth("tick")), "a tick was claimed after the signal"

    again = start()
    until(lambda: again.runs("thread"))
    statuses = {job: again.runs(job)[-1]["status"] for job in ("patient", "stubborn", "thread")}
    assert statuses == {"patient": "completed", "stubborn": "interrupted", "thread": "interrupted"}
    again.end()


def test_an_open_response_does_not_keep_the_scheduler_going(start: Callable[..., Server]) -> None:
    server = start()
    stream: HTTPResponse = urllib.request.urlopen(f"{server.url}/stream", timeout=30)
    assert stream.readline() == b"line\n"
    signalled = time.time()
    server.process.send_signal(signal.SIGTERM)
    until(lambda: "Cron scheduler stopped" in server.output())
    time.sleep(1.2)
    assert server.process.poll() is None, "the server waits for the stream, as it would without us"
    assert all(float(when) < signalled + 1 for _, _, when in truth("tick"))
    assert stream.readline() == b"line\n"
    stream.close()
    assert server.process.wait(30) in (0, -signal.SIGTERM)


def test_a_reload_ends_one_scheduler_and_starts_the_next(start: Callable[..., Server]) -> None:
    server = start("--reload")
    first = truth("tick")[-1][1]
    Path("app.py").write_text(APP + "\n# edited\n")
    until(lambda: truth("tick")[-1][1] != first)
    assert server.output().count("Cron scheduler stopped") == 1
    # A run starts less than a second after its tick.
    ticks = [int(float(when)) for _, _, when in truth("tick")]
    assert len(ticks) == len(set(ticks)), "a tick ran in both"
    server.end()
    assert server.output().count("Cron scheduler stopped") == 2


STANDALONE = """
import asyncio, signal, threading
from fastapi_crons import CronConfig, Crons

crons = Crons(config=CronConfig(shutdown_timeout=0.5))

@crons.cron("* * * * * *")
def never_ends():
    print("started", flush=True)
    threading.Event().wait()

@crons.cron("* * * * * *")
async def swallows():
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            pass

async def main():
    done = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, done.set)
    await crons.start()
    await done.wait()
    await crons.stop()
    print("stopped", flush=True)

asyncio.run(main())
"""


def test_a_standalone_scheduler_stops_in_time_too() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", STANDALONE], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    output, errors = process.communicate(timeout=30)
    assert time.monotonic() - began < 15
    assert output.endswith("stopped\n"), errors
    assert process.returncode == 0, errors
