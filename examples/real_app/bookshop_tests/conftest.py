"""An app per test, with a database of its own, and a carrier that does what the test says."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from bookshop.app import create_app
from bookshop.resources import carrier
from bookshop.settings import Settings
from fastapi import FastAPI
from fastapi.testclient import TestClient
from httpx2 import AsyncClient, MockTransport, Request, Response

from fastapi_crons import CronConfig, Crons
from fastapi_crons.testing import VirtualClock

Answer = Callable[[Request], Coroutine[None, None, Response]]


class Shop:
    """One running app, and what is in its database."""

    def __init__(self, app: FastAPI, client: TestClient, clock: VirtualClock, path: Path) -> None:
        self.app = app
        self.client = client
        self.clock = clock
        self.path = path

    def order(self, book: str = "Emma", customer: str = "ann", cents: int = 900) -> None:
        """Place an order, as a customer does."""
        order = {"region": "eu", "customer": customer, "book": book, "cents": cents}
        assert self.client.post("/orders", json=order).status_code == 201

    def run(self, job: str, **body: object) -> dict[str, Any]:
        """Run a job by hand, and return what is on record."""
        self.client.post(f"/api/crons/{job}/run", json=body)
        return self.runs(job)[0]

    def runs(self, job: str) -> list[dict[str, Any]]:
        """What is on record of a job, the newest run first."""
        found: list[dict[str, Any]] = self.client.get(f"/api/crons/{job}/runs").json()["runs"]
        return found

    def advance(self, minutes: float) -> None:
        """Let time pass for the app's scheduler, on the event loop of the app."""
        crons, portal = Crons.of_app(self.app), self.client.portal
        assert crons is not None
        assert portal is not None
        portal.call(partial(self.clock.advance, crons, minutes=minutes))

    def rows(self, query: str) -> list[Any]:
        """The first column of what a query finds."""
        with closing(sqlite3.connect(self.path)) as connection:
            return [row[0] for row in connection.execute(query)]

    def carrier_answers(self, answer: Answer) -> None:
        """Put another carrier in the place of the app's."""
        client = AsyncClient(base_url="http://carrier", transport=MockTransport(answer))
        self.app.dependency_overrides[carrier] = lambda: client


MakeShop = Callable[[str], Shop]


@pytest.fixture
def make_shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeShop]:
    """Makes apps that run at the same time. Time passes in them when the test says so."""
    config = CronConfig(enabled=True, state_backend="memory", lock_backend="local")
    with ExitStack() as stack:

        def make(name: str) -> Shop:
            path = tmp_path / f"{name}.db"
            # A job in a process of its own finds its settings in the environment.
            monkeypatch.setenv("BOOKSHOP_DATABASE_URL", f"sqlite+aiosqlite:///{path}?timeout=0.2")
            clock = VirtualClock("2026-03-01T00:00:00Z")
            app = create_app(Settings(), config=config, clock=clock)
            return Shop(app, stack.enter_context(TestClient(app)), clock, path)

        yield make


@pytest.fixture
def shop(make_shop: MakeShop) -> Shop:
    """One app."""
    return make_shop("shop")
