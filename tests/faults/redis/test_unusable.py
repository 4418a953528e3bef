"""A Redis server that can not be used as it is: what a start says, and what an app does without its store."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.faults.conftest import Report
from tests.faults.fleet import Fleet
from tests.faults.redis_server import HOST, RedisServer, free_port, needs_redis
from tests.faults.watch import RECOVERS_IN, SECRET, assert_quiet, watched
from tests.support import until

pytestmark = [pytest.mark.slow, needs_redis]

#: A web app with one job, whose end point says how the scheduler is.
SERVED = """
import os
from fastapi import FastAPI
from fastapi_crons import Crons, get_cron_router

app = FastAPI()
crons = Crons(app)
app.include_router(get_cron_router(), prefix="/api")


@crons.cron("* * * * * *", name="job-0")
def job():
    with open("ran.txt", "a") as file:
        file.write("ran\\n")


@app.get("/")
def home():
    return "here"
"""


@pytest.mark.parametrize(
    ("policy", "consequences"),
    [
        ("allkeys-lru", ["a tick can run twice or never", "history can go"]),
        ("volatile-lru", ["history can go"]),
        ("noeviction", []),
    ],
)
def test_a_server_that_may_drop_keys_is_warned_of_once_by_each_store(policy: str, consequences: list[str]) -> None:
    with RedisServer(maxmemory="100mb", maxmemory_policy=policy) as server, watched(server.url, 1) as watch:
        watch.fleet.stop()
        warnings = [line for line in watch.log().splitlines() if f"policy {policy}" in line]
        assert len(warnings) == len(consequences), watch.log()
        for warning, consequence in zip(warnings, consequences, strict=True):
            assert consequence in warning
            assert "set it to noeviction" in warning
            assert f"{HOST}:{server.port}" in warning


UNUSABLE = {
    "a wrong password": "redis://app:{wrong}@{host}:{port}/0",
    "a database that is not there": "redis://app:{secret}@{host}:{port}/99",
    "TLS to a server without": "rediss://app:{secret}@{host}:{port}/0",
    "nobody at the port": "redis://app:{secret}@{host}:{closed}/0",
}


@pytest.mark.parametrize(
    "fault", [pytest.param(name, marks=[] if "password" in name else pytest.mark.full) for name in UNUSABLE]
)
def test_a_start_fails_with_one_line_that_names_host_and_user(own_redis: RedisServer, fault: str) -> None:
    own_redis.cli("ACL", "SETUSER", "app", "on", f">{SECRET}", "~*", "&*", "+@all")
    wrong, closed = f"{SECRET}-no-more", free_port()
    url = UNUSABLE[fault].format(wrong=wrong, secret=SECRET, host=HOST, port=own_redis.port, closed=closed)
    said = Fleet({"CRON_REDIS_URL": url}, jobs=1).refused()
    assert SECRET not in said
    last = said.strip().splitlines()[-1]
    assert f"{HOST}:{closed if 'nobody' in fault else own_redis.port}" in last
    assert "'app'" in last
    assert last.startswith("fastapi_crons.errors.Store")


@pytest.mark.full
@pytest.mark.parametrize("fault", ["a wrong password", "nobody at the port"])
def test_an_app_serves_without_its_store_and_its_jobs_begin_when_it_is_there(fault: str) -> None:
    with RedisServer(password=SECRET) as server:
        if "password" in fault:
            server.cli("CONFIG", "SET", "requirepass", "another")
            server.password = "another"
        else:
            server.kill()
        with served(f"redis://:{SECRET}@{HOST}:{server.port}/0") as port:
            assert asked(port, "/") == (200, '"here"')
            status, health = asked(port, "/api/scheduler/health")
            assert status == 503
            assert json.loads(health)["status"] == "unhealthy"
            assert SECRET not in health
            assert not Path("ran.txt").exists()
            if "password" in fault:
                server.cli("CONFIG", "SET", "requirepass", SECRET)
                server.password = SECRET
            else:
                server.start()
            until(lambda: Path("ran.txt").exists(), RECOVERS_IN + 2, "a run after the store's return")
            status, health = asked(port, "/api/scheduler/health")
            assert (status, json.loads(health)["status"]) == (200, "ok"), health
        assert SECRET not in Path("served.log").read_text()


@contextmanager
def served(url: str) -> Iterator[int]:
    """uvicorn with `SERVED`, at a port; what it says goes to served.log."""
    Path("served_app.py").write_text(SERVED)
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "served_app:app", "--port", str(port)]
    env = {**os.environ, "CRON_REDIS_URL": url, "CRON_START_WITHOUT_STORE": "true"}
    with Path("served.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=env)
    try:
        until(lambda: answers(port), what="an app that serves")
        yield port
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) in (0, -signal.SIGTERM)
    finally:
        process.kill()
        process.wait()


def answers(port: int) -> bool:
    with suppress(OSError):
        return asked(port, "/")[0] == 200
    return False


def asked(port: int, path: str) -> tuple[int, str]:
    """Status and body of a GET."""
    try:
        with urllib.request.urlopen(f"http://{HOST}:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


@pytest.mark.full
def test_a_password_that_is_changed_and_put_back_is_like_a_server_that_was_away(report: Report) -> None:
    with RedisServer(appendonly="always", password=SECRET) as server, watched(server.url) as watch:
        server.cli("CONFIG", "SET", "requirepass", "another")
        server.password = "another"
        server.cli("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")  # whoever is in stays in else
        time.sleep(3)
        assert any(word in watch.log() for word in ("WRONGPASS", "invalid username-password"))
        server.cli("CONFIG", "SET", "requirepass", SECRET)
        server.password = SECRET
        sums, recovery = watch.ended(time.time())
        report("password rotated, put back after 3 s", sums, recovery, because="invalid username-password")
        assert recovery is not None
        assert recovery <= RECOVERS_IN + 1
        assert_quiet(watch.log())
