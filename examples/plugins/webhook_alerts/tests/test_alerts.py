"""The plugin as it is installed, against a webhook on this machine."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from fastapi_crons import CronConfig, Crons
from fastapi_crons.state import MemoryStateBackend, StateBackend
from fastapi_crons_webhook_alerts.message import without_secrets


class Webhook:
    """Takes what is posted; answers with `answers`, one after another, then with 204."""

    def __init__(self) -> None:
        self.posted: list[dict[str, Any]] = []
        self.answers: list[int] = []
        webhook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                webhook.posted.append(body)
                self.send_response(webhook.answers.pop(0) if webhook.answers else 204)
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/services/s3cret"

    def events(self) -> list[tuple[str, int | None]]:
        return [(posted["event"], posted["failures"]) for posted in self.posted]


@pytest.fixture
def webhook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Webhook]:
    made = Webhook()
    thread = threading.Thread(target=made.server.serve_forever, args=[0.01])
    thread.start()
    monkeypatch.setenv("CRON_ALERTS_URL", made.url)
    monkeypatch.setenv("CRON_ALERTS_NTH", "3")
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


def run_a_job(outcomes: str, *, state: StateBackend | None = None, hook_timeout: float = 10) -> None:
    """Run a job once for each letter: it fails for an `f`."""

    async def whole() -> None:
        crons = Crons(state_backend=state or MemoryStateBackend(), config=CronConfig(hook_timeout=hook_timeout))
        left = iter(outcomes)

        @crons.cron("0 0 1 1 *", name="sync", tags=["erp"])
        async def sync() -> None:
            if next(left) == "f":
                raise ConnectionError("can't log in with password=hunter2")

        await crons.start()
        for _ in outcomes:
            await crons.run_job("sync")
        await crons.stop()

    asyncio.run(whole())


def test_the_first_failure_the_nth_and_the_recovery_are_told(webhook: Webhook) -> None:
    run_a_job("kffffkkf")
    assert webhook.events() == [("failed", 1), ("still_failing", 3), ("recovered", 4), ("failed", 1)]
    first = webhook.posted[0]
    assert first["text"] == "Job 'sync' failed: ConnectionError: can't log in with password=***"
    assert (first["job"], first["tags"], first["error"]) == ("sync", ["erp"], "can't log in with password=***")


def test_failures_are_counted_over_restarts_and_instances(webhook: Webhook) -> None:
    state = MemoryStateBackend()  # keeps what it has, as a database would
    for outcomes in ("ff", "f", "k"):
        run_a_job(outcomes, state=state)
    assert webhook.events() == [("failed", 1), ("still_failing", 3), ("recovered", 3)]


def test_a_post_is_tried_again_within_the_hooks_time(webhook: Webhook) -> None:
    webhook.answers = [503, 429]
    run_a_job("f")
    assert webhook.events() == [("failed", 1)] * 3
    assert len({posted["id"] for posted in webhook.posted}) == 1


@pytest.mark.parametrize(("answers", "tries"), [([404], 1), ([302], 1), ([500] * 9, 2)])
def test_an_alert_that_is_given_up_is_logged_without_the_url(
    webhook: Webhook, caplog: pytest.LogCaptureFixture, answers: list[int], tries: int
) -> None:
    webhook.answers = list(answers)
    with caplog.at_level(logging.DEBUG):
        run_a_job("f", hook_timeout=1)
    assert len(webhook.posted) == tries
    assert f"(HTTP {answers[0]}); tries: {tries}" in caplog.text
    assert "s3cret" not in caplog.text


def test_nothing_is_sent_without_a_url(webhook: Webhook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CRON_ALERTS_URL")
    run_a_job("fk")
    assert webhook.posted == []


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("password=a,b token: 'x y' ok", "password=***,b token: *** ok"),
        ('{"api_key": "abc", "rows": 3}', '{"api_key": ***, "rows": 3}'),
        ("Authorization: Bearer abc.def", "Authorization: ***"),
        ("Authorization: Token abc\nnext line", "Authorization: ***\nnext line"),
        ("{'Authorization': 'ApiKey abc'}", "{'Authorization': ***"),
        ('Authorization: Digest username="a", response="b"', "Authorization: ***"),
        ("Server=db;Uid=me;Pwd=abc;", "Server=db;Uid=me;Pwd=***;"),
        (r'password="a\"b" ok', "password=*** ok"),
        (r'"{\"token\": \"abc def\", \"rows\": 3}"', r'"{\"token\": ***, \"rows\": 3}"'),
        ("{'secrets': ['a', 'b'], 'rows': 3}", "{'secrets': ***, 'rows': 3}"),
        ("secrets=['a', 'b", "secrets=***"),
        ("sent Bearer abcdefghij to it", "sent Bearer *** to it"),
        ("no tokens left", "no tokens left"),
    ],
)
def test_secrets_are_hidden(text: str, kept: str) -> None:
    assert without_secrets(text) == kept
