"""The example plugins, installed from their wheels: their own tests, and real processes that have them."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.support import until
from tests.system.conftest import EXAMPLES, ROOT, run
from tests.system.pages.pages import blocks
from tests.unit.test_names import HEAVY

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("folder", EXAMPLES.values())
def test_an_example_passes_its_own_tests(with_everything: Path, tmp_path: Path, folder: str) -> None:
    shutil.copytree(ROOT / folder / "tests", tmp_path / "tests")
    done = run(with_everything, "-W", "error", "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests", check=False)
    assert done.returncode == 0, done.stdout


def test_the_settings_of_an_example_are_those_that_its_page_shows(with_everything: Path) -> None:
    known = json.loads(run(with_everything, "-m", "fastapi_crons", "config-show", "--json").stdout)
    for name, folder in EXAMPLES.items():
        rows = re.findall(
            r"^\| `(CRON_\w+)` \| (?:`(.*?)`)? ?\|", (ROOT / folder / "README.md").read_text(), re.MULTILINE
        )
        brought = [setting for setting in known if setting["distributions"] == [name.replace("_", "-")]]
        assert rows == [(setting["variable"], setting["default"]) for setting in brought]


def test_loading_every_plugin_imports_nothing_before_it_is_needed(with_everything: Path) -> None:
    code = (
        "import sys; from fastapi_crons.plugins import Plugins; found = Plugins().list()\n"
        f"print(len(found), [*{HEAVY} & sys.modules.keys()])"
    )
    assert run(with_everything, "-c", code).stdout == "11 []\n"


@contextmanager
def started(*command: str | Path) -> Iterator[subprocess.Popen[bytes]]:
    """A program in the current folder, whose output goes to `log.txt`; it is killed where it has not ended by itself."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    with Path("log.txt").open("a") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(30)


@pytest.fixture
def posted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """What is posted to the webhook that the environment names; it refuses the first try."""
    found: list[dict[str, Any]] = []
    refusals = [503]

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if not refusals:
                found.append(body)
            self.send_response(refusals.pop() if refusals else 204)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=[0.01])
    thread.start()
    monkeypatch.setenv("CRON_ALERTS_URL", f"http://127.0.0.1:{server.server_port}/services/s3cret")
    yield found
    server.shutdown()
    thread.join()
    server.server_close()


_JOBS = """
from pathlib import Path
from fastapi_crons import Crons

crons = Crons()

@crons.cron("* * * * * *", name="sync")
def sync():
    if Path("broken").exists():
        raise ConnectionError("password=hunter2")
"""


def test_alerts_of_a_scheduler_that_is_restarted_reach_the_webhook(
    with_everything: Path, posted: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRON_ALERTS_NTH", "3")
    Path("app.py").write_text(_JOBS)
    Path("broken").touch()
    command = (with_everything, "-m", "fastapi_crons", "start-scheduler")

    def events() -> list[tuple[str, int]]:
        return [(alert["event"], alert["failures"]) for alert in posted]

    with started(*command) as scheduler:
        until(events)
        scheduler.send_signal(signal.SIGTERM)
        assert scheduler.wait(30) == 0
    with started(*command):
        until(lambda: len(events()) > 1)
        Path("broken").unlink()
        until(lambda: len(events()) > 2)
    assert events()[:2] == [("failed", 1), ("still_failing", 3)]
    assert events()[2][0] == "recovered"
    assert posted[0]["error"] == "password=***"
    (shown,) = (
        block
        for block in blocks(ROOT / EXAMPLES["fastapi_crons_webhook_alerts"] / "README.md")
        if block.language == "json"
    )
    assert list(json.loads(shown.text)) == list(posted[0])
    log = Path("log.txt").read_text()
    assert "Cron scheduler started" in log
    assert "s3cret" not in log


_APP = """
import time
from fastapi import FastAPI
from fastapi_crons import Crons

app = FastAPI()
crons = Crons(app)

@crons.cron("* * * * * *", name="tick")
def tick(): return 7

@crons.cron("* * * * * *", name="slow")
def slow(): time.sleep(60)
"""


def test_a_history_of_json_lines_goes_on_after_a_kill(with_everything: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRON_STATE_BACKEND", "jsonl")
    monkeypatch.setenv("CRON_HEARTBEAT_INTERVAL", "0.5")
    Path("app.py").write_text(_APP)
    history = Path("crons-history/default.jsonl")

    def statuses(job: str) -> dict[str, str]:
        text = history.read_text() if history.exists() else ""
        lines = map(json.loads, text[: text.rfind("\n") + 1].splitlines())
        return {line["id"]: line["status"] for line in lines if line["job"] == job and line["kind"] == "run"}

    command = (with_everything, "-m", "uvicorn", "app:app", "--port", "0")
    with started(*command) as server:
        until(lambda: "completed" in statuses("tick").values() and statuses("slow"))
        server.send_signal(signal.SIGKILL)
        server.wait(30)
    (cut_off,), before = statuses("slow"), statuses("tick")
    with history.open("a") as file:
        file.write('{"kind": "run", "id": "half a li')  # what the kill can leave
    with started(*command):
        until(lambda: len(statuses("tick")) > len(before) and statuses("slow")[cut_off] == "interrupted")
    assert before.items() <= statuses("tick").items()
    shown = run(with_everything, "-m", "fastapi_crons", "logs", "--job", "tick", "--json").stdout
    assert {run["id"] for run in json.loads(shown)} >= {id for id, status in before.items() if status == "completed"}


_SHARED = """
import os
from fastapi_crons import Crons, JobContext

crons = Crons()

@crons.cron("* * * * * *", name="tick")
def tick(context: JobContext):
    with open("ticks.txt", "a") as file:
        file.write(f"{int(context.tick.timestamp())} {os.getpid()}\\n")
"""


def test_processes_share_the_ticks_through_a_lock_store_in_tables(
    with_everything: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRON_LOCK_BACKEND", "plain-sql")
    Path("app.py").write_text(_SHARED)
    ticks = Path("ticks.txt")

    def runs() -> list[list[str]]:
        return [line.split() for line in ticks.read_text().splitlines()] if ticks.exists() else []

    command = (with_everything, "-m", "fastapi_crons", "start-scheduler")
    with started(*command), started(*command):
        until(lambda: len({pid for _, pid in runs()}) == 2 and len(runs()) >= 8)
    handled = [int(tick) for tick, _ in runs()]
    assert sorted(handled) == list(range(min(handled), min(handled) + len(handled)))
