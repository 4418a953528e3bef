"""The app's jobs as its API shows them: several apps in one process, each with what is its own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest
from httpx2 import Request, Response

from bookshop_tests.conftest import MakeShop, Shop


def test_the_jobs_and_their_schedules(shop: Shop) -> None:
    jobs = {job["name"]: (job["description"], job["kwargs"]) for job in shop.client.get("/api/crons").json()}
    assert list(jobs) == ["orders.ship", "reports.sales_eu", "reports.sales_us", "reports.bought_together"]
    assert jobs["orders.ship"][0] == "Every 15 minutes, counted from 1970-01-01 00:00 UTC"
    assert jobs["reports.sales_us"][1] == {"region": "us"}


def test_each_schedule_has_arguments_of_its_own(shop: Shop) -> None:
    shop.order(cents=900)
    shop.advance(minutes=38 * 60)  # Monday, eight in Berlin and in New York have passed
    assert [shop.runs(f"reports.sales_{region}")[0]["result"] for region in ("eu", "us")] == [900, 0]


def test_other_arguments_by_hand(shop: Shop) -> None:
    shop.order(cents=900)
    shop.order(cents=2000)
    assert shop.run("reports.sales_eu", kwargs={"at_least": 1000})["result"] == 2000
    refused = shop.client.post("/api/crons/reports.sales_eu/run", json={"kwargs": {"at_least": -1}})
    assert refused.status_code == 422


def test_two_apps_in_one_process_share_nothing(make_shop: MakeShop) -> None:
    one, other = make_shop("one"), make_shop("other")

    async def refuse(request: Request) -> Response:
        return Response(503)

    other.carrier_answers(refuse)
    for shop in (one, other):
        shop.order()
    assert [shop.run("orders.ship")["status"] for shop in (one, other)] == ["completed", "failed"]
    assert [shop.rows("SELECT status FROM orders") for shop in (one, other)] == [["shipped"], ["paid"]]
    assert [len(shop.runs("orders.ship")) for shop in (one, other)] == [1, 1]


@pytest.fixture
def alerts(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What a webhook is told."""
    told: list[str] = []

    class Webhook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.append(json.loads(self.rfile.read(int(self.headers["content-length"])))["text"])
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Webhook) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("BOOKSHOP_ALERT_URL", f"http://127.0.0.1:{server.server_port}")
        yield told
        server.shutdown()


def test_a_failure_is_told(alerts: list[str], make_shop: MakeShop) -> None:
    shop = make_shop("shop")

    async def refuse(request: Request) -> Response:
        return Response(503)

    shop.carrier_answers(refuse)
    shop.order()
    shop.run("orders.ship")
    (alert,) = alerts
    assert alert.startswith("orders.ship failed: Server error '503 Service Unavailable'")
