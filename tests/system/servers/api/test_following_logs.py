"""A run's log as it is written, from real uvicorn processes: also from one that does not run the job."""

from __future__ import annotations

import json
import signal
import time
import urllib.error
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.faults.redis_server import RedisServer
from tests.support import until
from tests.system.servers.server import Server

pytestmark = pytest.mark.slow

APP = """
import asyncio, os
from fastapi import FastAPI
from fastapi_crons import CronConfig, Crons, JobContext, get_cron_router

app = FastAPI()
crons = Crons(app, config=CronConfig(shutdown_timeout=1, heartbeat_interval=1, instance_timeout=6, max_reruns=0))
app.include_router(get_cron_router(), prefix="/api")

@crons.cron("0 0 1 1 *", name="job")
async def job(context: JobContext):
    number = 0
    while not os.path.exists("go-on"):
        context.logger.info("step %d", number)
        number += 1
        await asyncio.sleep(0.2)
    context.logger.warning("done")
"""
#: How long (seconds) a process may take to end on a busy machine; one that waited for its streams would not end.
PROMPTLY = 15


class Sent(NamedTuple):
    """A server-sent event."""

    kind: str
    id: str
    data: dict[str, Any]


class Stream:
    """The events of one run's log."""

    def __init__(self, server: Server, run_id: str, **headers: str) -> None:
        self._connection = HTTPConnection("127.0.0.1", server.port, timeout=20)
        self._connection.request("GET", f"/api/crons/job/runs/{run_id}/log", headers=headers)
        self._response = self._connection.getresponse()
        assert self._response.headers["content-type"].startswith("text/event-stream"), self._response.read()

    def __iter__(self) -> Iterator[Sent]:
        fields: dict[str, str] = {}
        with suppress(HTTPException):  # the server has ended
            for line in self._response:
                field, _, value = line.decode().rstrip("\n").partition(": ")
                if field in ("event", "id", "data"):
                    fields[field] = value
                elif not field and "event" in fields:
                    yield Sent(fields["event"], fields.get("id", ""), json.loads(fields["data"]))
                    fields = {}

    def close(self) -> None:
        self._connection.close()


@pytest.fixture(params=["sqlite", "redis"])
def start(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Server]]:
    if request.param == "redis":
        redis: RedisServer = request.getfixturevalue("redis_server")
        monkeypatch.setenv("CRON_REDIS_URL", redis.url)
        monkeypatch.setenv("CRON_NAMESPACE", f"logs-{time.time_ns()}")
    Path("app.py").write_text(APP)
    servers: list[Server] = []

    def start() -> Server:
        server = Server()
        servers.append(server)
        until(lambda: server.get("/api/crons"), not_yet=OSError)
        return server

    yield start
    for server in servers:
        server.kill()


def begun(server: Server) -> str:
    """A run of the job, on this server."""
    run_id: str = server.post("/api/crons/job/run", {"wait": False})["run_id"]
    return run_id


def test_lines_come_from_the_server_that_runs_the_job_and_from_any_other(start: Callable[[], Server]) -> None:
    here, there = start(), start()
    run_id = begun(here)
    for server in (here, there):
        with closing(Stream(server, run_id)) as stream:
            lines = [sent for sent, _ in zip(stream, range(3), strict=False)]
        assert [(sent.kind, sent.id, sent.data["number"], sent.data["message"]) for sent in lines] == [
            ("line", f"{number}", number, f"step {number - 1}") for number in (1, 2, 3)
        ]
        assert server.get(f"/api/crons/job/runs/{run_id}")["status"] == "running"
    with closing(Stream(there, run_id, **{"Last-Event-ID": "2"})) as stream:
        sent = iter(stream)
        assert next(sent).data["number"] == 3
        Path("go-on").touch()
        *rest, end = sent
    assert [each.data["number"] for each in rest] == list(range(4, 4 + len(rest)))
    assert rest[-1].data["message"] == "done"
    assert (end.kind, end.data["id"], end.data["status"], end.data["log"]) == ("end", run_id, "completed", [])
    with closing(Stream(here, run_id)) as stream:
        assert [each.data for each in stream][-2:] == [rest[-1].data, end.data], "as it is kept"


def test_a_crash_of_the_server_that_runs_it_ends_what_is_followed_elsewhere(start: Callable[[], Server]) -> None:
    here, there = start(), start()
    run_id = begun(here)
    with closing(Stream(there, run_id)) as stream:
        sent = iter(stream)
        while next(sent).data["number"] < 5:
            pass
        here.kill()
        *_, last, end = sent
    assert (end.kind, end.data["status"], end.data["error"]["type"]) == ("end", "interrupted", "Interrupted")
    kept = there.get(f"/api/crons/job/runs/{run_id}")
    assert kept["log_dropped"] + len(kept["log"]) == last.data["number"] >= 5


def test_a_server_that_is_told_to_end_ends_promptly_though_a_log_is_followed(start: Callable[[], Server]) -> None:
    here, there = start(), start()
    run_id = begun(here)
    with closing(Stream(here, run_id)) as of_own, closing(Stream(there, run_id)) as of_other:
        assert next(iter(of_own)).kind == next(iter(of_other)).kind == "line"
        for server, stream in ((there, of_other), (here, of_own)):
            began = time.monotonic()
            server.end(signal.SIGTERM)
            assert time.monotonic() - began < PROMPTLY
            assert "end" not in {sent.kind for sent in stream}
            assert "Traceback" not in server.output()


def test_strangers_follow_nothing_and_runs_that_are_not_there_are_said_not_to_be(start: Callable[[], Server]) -> None:
    server = start()
    run_id = begun(server)
    for headers, path, status in (
        ({"host": "jobs.example.com"}, f"/api/crons/job/runs/{run_id}/log", 403),
        ({}, "/api/crons/job/runs/ffffffff/log", 404),
        ({}, f"/api/crons/other/runs/{run_id}/log", 404),
        ({"Last-Event-ID": "x"}, f"/api/crons/job/runs/{run_id}/log", 422),
    ):
        request = urllib.request.Request(f"{server.url}{path}", headers=headers)
        with pytest.raises(urllib.error.HTTPError) as refused, urllib.request.urlopen(request, timeout=30):
            pass
        assert refused.value.code == status
        refused.value.close()
    with closing(Stream(server, run_id[-8:])) as stream:
        assert next(iter(stream)).data["message"] == "step 0"
