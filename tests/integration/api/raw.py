"""Asks the management API by raw ASGI, which no client library corrects."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any, NamedTuple

from fastapi import FastAPI
from starlette.types import Message

from fastapi_crons import Crons, get_cron_router
from tests.support import runs_of

JSON = (b"content-type", b"application/json")


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes
    chunks_read: int

    def json(self) -> Any:
        return json.loads(self.body)


class Api:
    """The management API of one scheduler."""

    def __init__(self, crons: Crons, **options: Any) -> None:
        self.crons = crons
        self.app = FastAPI()
        self.app.include_router(get_cron_router(crons, **options), prefix="/api")

    async def ask(
        self,
        method: str,
        path: str,
        *headers: tuple[bytes, bytes],
        body: bytes | list[bytes] = b"",
        host: bytes = b"localhost:8000",
        peer: str | None = "testclient",
        http: str = "1.1",
    ) -> Answer:
        chunks = [body] if isinstance(body, bytes) else body
        given = dict(headers)
        # As clients do, unless a test says something else.
        if body and not isinstance(body, list) and b"content-length" not in given:
            headers = (*headers, (b"content-length", str(len(body)).encode()))
        raw_path, _, query = path.partition("?")
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": http,
            "method": method,
            "scheme": "http",
            "path": raw_path,
            "raw_path": raw_path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(b"host", host), *headers],
            "client": None if peer is None else (peer, 50_000),
            "server": ("127.0.0.1", 8000),
        }
        read = 0
        sent: list[Message] = []

        async def receive() -> Message:
            nonlocal read
            read += 1
            if read > len(chunks):
                await asyncio.Event().wait()
            return {"type": "http.request", "body": chunks[read - 1], "more_body": read < len(chunks)}

        async def send(message: Message) -> None:
            sent.append(message)

        await self.app(scope, receive, send)
        start, *rest = sent
        return Answer(
            start["status"],
            {name.decode(): value.decode("latin-1") for name, value in start["headers"]},
            b"".join(message.get("body", b"") for message in rest),
            read,
        )

    async def changes(self, *headers: tuple[bytes, bytes], **how: Any) -> int:
        """The status of each kind of change, which must be the same for all, and must have done what it says."""
        before = len(await runs_of(self.crons, "job"))
        run = await self.ask("POST", "/api/crons/job/run", *headers, **how)
        statuses = [
            run.status,
            (await self.ask("POST", "/api/crons/job/pause", *headers, **how)).status,
            (await self.ask("POST", "/api/crons/job/resume", *headers, **how)).status,
        ]
        ran = len(await runs_of(self.crons, "job")) - before
        assert ran == (run.status == 200)
        assert len(set(statuses)) == 1, statuses
        if run.status != 200:
            assert run.headers["content-type"] == "application/problem+json"
        return run.status


async def secretive(context: Any) -> str:
    logging.getLogger("shop").warning("a secret log line")
    if context.tick is not None:
        raise ValueError("a secret error")
    return "a secret result"
