"""What jobs leave in the database, however they end."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from httpx2 import Request, Response

from bookshop_tests.conftest import Shop

STATUS = "SELECT status FROM orders ORDER BY id"
PARCELS = "SELECT order_id FROM parcels"


def test_what_a_job_writes_is_committed(shop: Shop) -> None:
    shop.order("Emma")
    shop.order("Ulysses")
    shop.advance(minutes=30)
    second, first = shop.runs("orders.ship")
    assert [(run["status"], run["result"]) for run in (first, second)] == [("completed", 2), ("completed", 0)]
    assert shop.rows(STATUS) == ["shipped", "shipped"]
    assert shop.rows("SELECT run_id FROM parcels") == [first["id"]] * 2


def test_a_failure_rolls_back_and_the_next_tick_does_it_all(shop: Shop) -> None:
    refused: list[Request] = []

    async def refuse_the_second_once(request: Request) -> Response:
        if request.url.path == "/parcels/1" or refused:
            return Response(201)
        refused.append(request)
        return Response(503)

    shop.carrier_answers(refuse_the_second_once)
    shop.order()
    shop.order()
    run = shop.run("orders.ship")
    assert run["status"] == "failed"
    assert "503" in run["error"]["message"]
    assert (shop.rows(STATUS), shop.rows(PARCELS)) == (["paid", "paid"], [])
    shop.advance(minutes=15)
    assert (shop.rows(STATUS), shop.rows(PARCELS)) == (["shipped", "shipped"], [1, 2])


def ship_slowly(shop: Shop) -> None:
    """Two orders, and a carrier that takes one at once, and an hour for the other."""

    async def answer(request: Request) -> Response:
        if request.url.path == "/parcels/2":
            await shop.clock.sleep(3600)
        return Response(201)

    shop.carrier_answers(answer)
    shop.order()
    shop.order()
    shop.advance(minutes=15)
    assert [run["status"] for run in shop.runs("orders.ship")] == ["running"]


def test_a_time_limit_rolls_back(shop: Shop) -> None:
    ship_slowly(shop)
    shop.advance(minutes=2)
    assert [run["status"] for run in shop.runs("orders.ship")] == ["timed_out"]
    assert (shop.rows(STATUS), shop.rows(PARCELS)) == (["paid", "paid"], [])


def test_a_cancellation_rolls_back(shop: Shop) -> None:
    ship_slowly(shop)
    (run,) = shop.runs("orders.ship")
    assert shop.client.post(f"/api/crons/orders.ship/runs/{run['id']}/cancel").status_code == 202
    shop.advance(minutes=0)
    assert [run["status"] for run in shop.runs("orders.ship")] == ["cancelled"]
    assert (shop.rows(STATUS), shop.rows(PARCELS)) == (["paid", "paid"], [])


def test_a_commit_that_fails_fails_the_run(shop: Shop) -> None:
    with closing(sqlite3.connect(shop.path, check_same_thread=False)) as other:

        async def lock_the_database(request: Request) -> Response:
            other.execute("BEGIN IMMEDIATE")
            return Response(201)

        shop.carrier_answers(lock_the_database)
        shop.order()
        run = shop.run("orders.ship")
    assert run["status"] == "failed"
    assert "database is locked" in run["error"]["message"]
    assert (shop.rows(STATUS), shop.rows(PARCELS)) == (["paid"], [])


def test_a_job_in_a_process_opens_the_database_itself(shop: Shop) -> None:
    for customer, book in (("ann", "Emma"), ("ann", "Ulysses"), ("bob", "Ulysses"), ("bob", "Emma"), ("bob", "Dune")):
        shop.order(book, customer)
    assert shop.run("reports.bought_together", kwargs={"top": 1})["result"] == [["Emma", "Ulysses", 2]]
