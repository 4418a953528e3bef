"""The stream of events, from real uvicorn processes."""

from __future__ import annotations

import json
import queue
import signal
import socket
import sqlite3
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import pytest

from tests.faults.redis_server import RedisServer
from tests.support import until
from tests.system.servers.server import Server

pytestmark = pytest.mark.slow

APP = """
import asyncio, os
from fastapi import FastAPI
from fastapi_crons import CronConfig, Crons, get_cron_router
from fastapi_crons.api.models import RunModel

app = FastAPI()
most = int(os.environ.get("MOST_STREAMS", 250))
crons = Crons(app, config=CronConfig(shutdown_timeout=1, history_keep=10_000, max_event_streams=most))
app.include_router(get_cron_router(), prefix="/api")

@crons.cron("0 0 1 1 *", name="job", overlap="allow")
async def job():
    return "a secret result"

@crons.cron("0 0 1 1 *", name="large", overlap="allow")
async def large():
    return "x" * 60_000

@crons.cron("0 0 1 1 *", name="broken")
async def broken():
    raise ValueError("a secret error")

written, write = [], RunModel.of
RunModel.of = lambda *run, **how: written.append(run) or write(*run, **how)

@app.get("/tasks")
async def tasks():
    names = [task.get_name() for task in asyncio.all_tasks() - {asyncio.current_task()}]
    return {
        "feeds": sum("feed" in name for name in names),
        "names": names,
        "queues": len(crons.engine.feed._queues),
        "written": len(written),
    }
"""
#: How long (seconds) a process may take to end on a busy machine; one that waited for its streams would not end.
PROMPTLY = 15


class Stream:
    """Listens in a thread."""

    def __init__(self, server: Server, query: str = "", **headers: str) -> None:
        self.connection = HTTPConnection("127.0.0.1", server.port, timeout=30)
        self.connection.request("GET", f"/api/scheduler/events{query}", headers=headers)
        assert isinstance(self.connection.sock, socket.socket)
        self.socket = self.connection.sock
        self.response = self.connection.getresponse()
        assert self.response.headers["content-type"].startswith("text/event-stream")
        assert self.response.readline() == b": listening\n"
        self.events: queue.Queue[tuple[str, dict[str, Any]] | None] = queue.Queue()
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self) -> None:
        kind = ""
        try:
            for line in self.response:
                field, _, value = line.decode().rstrip("\n").partition(": ")
                if field == "event":
                    kind = value
                elif field == "data":
                    self.events.put((kind, json.loads(value)))
        except (OSError, HTTPException):
            pass  # closed under our hands
        self.events.put(None)

    def next_run(self, timeout: float = 10) -> dict[str, Any]:
        event = self.events.get(timeout=timeout)
        assert event is not None, "the stream has ended"
        assert event[0] == "run"
        return event[1]

    def run(self, run_id: str) -> dict[str, Any]:
        """What is heard of a run when it ends."""
        while True:
            run = self.next_run()
            if run["id"] == run_id and run["status"] != "running":
                return run

    def close(self) -> None:
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        self.connection.close()


@pytest.fixture(params=["memory", "sqlite", "redis"])
def store(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    kind: str = request.param
    if kind == "redis":
        server: RedisServer = request.getfixturevalue("redis_server")
        monkeypatch.setenv("CRON_REDIS_URL", server.url)
        monkeypatch.setenv("CRON_NAMESPACE", f"events-{time.time_ns()}")
    elif kind == "memory":
        monkeypatch.setenv("CRON_STATE_BACKEND", "memory")
        monkeypatch.setenv("CRON_LOCK_BACKEND", "local")
    return kind


@pytest.fixture
def start() -> Iterator[Callable[..., Server]]:
    Path("app.py").write_text(APP)
    servers: list[Server] = []

    def start(*options: str) -> Server:
        server = Server(*options)
        servers.append(server)
        until(lambda: _answers(server))
        return server

    yield start
    for server in servers:
        server.kill()


def _answers(server: Server) -> bool:
    try:
        return bool(server.get("/api/crons"))
    except OSError:
        return False


def _run(server: Server, job: str = "job") -> str:
    try:
        run_id: str = server.post(f"/api/crons/{job}/run", {})["run_id"]
    except urllib.error.HTTPError as error:
        run_id = json.load(error)["run_id"]
    return run_id


def _listening(server: Server) -> Stream:
    """A stream whose subscription the store has by now."""
    stream = Stream(server)
    until(lambda: _run(server) and not stream.events.empty())
    return stream


def test_the_start_and_the_end_of_runs_are_heard(store: str, start: Callable[..., Server]) -> None:
    server = start()
    with closing(_listening(server)) as stream, closing(Stream(server, "?job=broken")) as of_one:
        run = stream.run(_run(server))
        assert (run["job_name"], run["status"], run["result"], run["log"]) == (
            "job",
            "completed",
            "a secret result",
            [],
        )
        failed = _run(server, "broken")
        assert of_one.run(failed)["error"] == {"type": "ValueError", "message": "a secret error", "traceback": None}
        assert stream.run(failed)["job_name"] == "broken"


@pytest.mark.parametrize("store", ["memory"], indirect=True)
def test_strangers_hear_nothing(store: str, start: Callable[..., Server]) -> None:
    server = start()
    refused = _refused(server, host="jobs.example.com")
    assert (refused.code, "CRON_API_TOKEN" in json.load(refused)["detail"]) == (403, True)
    assert server.get("/tasks")["queues"] == 0


@pytest.mark.parametrize("store", ["memory"], indirect=True)
def test_a_record_is_written_out_once_whatever_the_number_of_listeners(
    store: str, start: Callable[..., Server]
) -> None:
    server = start()
    with ExitStack() as stack:
        streams = [stack.enter_context(closing(_listening(server)))]
        streams += [stack.enter_context(closing(Stream(server))) for _ in range(5)]
        before = server.get("/tasks")["written"]
        last = _run(server)
        runs = [stream.run(last) for stream in streams]
        assert server.get("/tasks")["written"] - before in (1, 2), "its start, where that was told, and its end"
    assert all(run == runs[0] for run in runs)
    assert (runs[0]["status"], runs[0]["result"]) == ("completed", "a secret result")


@pytest.mark.parametrize("store", ["memory"], indirect=True)
def test_more_listeners_than_are_allowed_are_asked_to_come_later(
    store: str, start: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOST_STREAMS", "2")
    server = start()
    with closing(Stream(server)), closing(Stream(server, "?job=job")) as second:
        refused = _refused(server)
        assert (refused.code, refused.headers["retry-after"]) == (503, "10")
        assert "CRON_MAX_EVENT_STREAMS" in json.load(refused)["detail"]
        second.close()
        until(lambda: server.get("/tasks")["queues"] == 1)
        with closing(Stream(server)) as third:
            last = _run(server)
            assert third.run(last)["status"] == "completed"


def _refused(server: Server, **headers: str) -> urllib.error.HTTPError:
    request = urllib.request.Request(f"{server.url}/api/scheduler/events", headers=headers)
    with pytest.raises(urllib.error.HTTPError) as refused, urllib.request.urlopen(request, timeout=30):
        pass
    return refused.value


@pytest.mark.parametrize("store", ["sqlite", "redis"], indirect=True)
def test_what_another_process_runs_is_heard_too(store: str, start: Callable[..., Server]) -> None:
    here, there = start(), start()
    with closing(_listening(here)) as stream:
        assert stream.run(_run(there))["status"] == "completed"


def test_a_client_that_goes_away_leaves_nothing_behind(
    store: str, start: Callable[..., Server], request: pytest.FixtureRequest
) -> None:
    server = start()
    before = set(server.get("/tasks")["names"])  # calls of the store that are under way among them
    subscribed = _subscriptions(store, request)
    connections = subscribed()
    streams = [_listening(server), *(Stream(server) for _ in range(200))]
    during = server.get("/tasks")
    assert (during["feeds"], during["queues"]) == (1, 201)
    assert store == "memory" or subscribed() == connections + 1, "one subscription, whatever the number of listeners"
    last = _run(server)
    assert all(stream.run(last) for stream in streams)
    for stream in streams:
        stream.close()
    until(lambda: set(server.get("/tasks")["names"]) <= before, what="the end of all tasks that came with the streams")
    assert server.get("/tasks")["queues"] == 0
    until(lambda: subscribed() == connections, what="the end of the subscription")


def _subscriptions(store: str, request: pytest.FixtureRequest) -> Callable[[], int]:
    """How many listeners the store has."""
    if store == "memory":
        return lambda: 0
    if store == "redis":
        redis: RedisServer = request.getfixturevalue("redis_server")
        return lambda: sum(" sub=0 " not in line for line in str(redis.cli("CLIENT", "LIST")).splitlines())

    def rows() -> int:
        with closing(sqlite3.connect("crons.db")) as connection:
            ((number,),) = connection.execute("SELECT count(*) FROM job_listener")
            return int(number)

    return rows


@pytest.mark.parametrize("with_signal", [signal.SIGTERM, signal.SIGINT])
def test_a_server_that_is_told_to_end_ends_promptly_with_streams_open(
    store: str, start: Callable[..., Server], with_signal: signal.Signals
) -> None:
    server = start()
    streams = [_listening(server), Stream(server, "?job=nothing")]
    began = time.monotonic()
    server.end(with_signal)
    assert time.monotonic() - began < PROMPTLY
    for stream in streams:
        stream.thread.join(30)
        assert not stream.thread.is_alive()
        stream.close()
    if store == "sqlite":
        with closing(sqlite3.connect("crons.db")) as connection:
            assert connection.execute("SELECT * FROM job_listener").fetchall() == []
    assert "Traceback" not in server.output()


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
def test_a_reload_is_not_held_up_by_a_stream(store: str, start: Callable[..., Server]) -> None:
    server = start("--reload")
    stream = _listening(server)
    Path("app.py").write_text(APP + "\n# edited\n")
    until(lambda: server.output().count("Cron scheduler started") == 2, PROMPTLY + 5)
    stream.thread.join(30)
    assert not stream.thread.is_alive()
    stream.close()
    began = time.monotonic()
    server.end()
    assert time.monotonic() - began < PROMPTLY


@pytest.mark.parametrize("store", ["memory"], indirect=True)
def test_a_client_that_does_not_read_is_let_go(store: str, start: Callable[..., Server]) -> None:
    server = start()
    with socket.create_connection(("127.0.0.1", server.port)) as idle:
        idle.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        idle.sendall(b"GET /api/scheduler/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        until(lambda: server.get("/tasks")["queues"] == 1)
        until(lambda: _many_runs(server) and server.get("/tasks")["queues"] == 0, 50)
        # It is still connected, and costs nothing any more but the connection.
        until(lambda: server.get("/tasks")["feeds"] == 0)
        # uvicorn itself waits for such a client, unless it is given --timeout-graceful-shutdown; jobs don't.
        server.process.terminate()
        until(lambda: "Cron scheduler stopped" in server.output(), PROMPTLY)


def _many_runs(server: Server) -> bool:
    for _ in range(100):
        server.post("/api/crons/large/run", {"wait": False})
    return True
