"""The management API against its own schema: schemathesis sends it what the schema allows, and what it does not."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote
from zlib import crc32

import pytest
import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from fastapi_crons import get_cron_router
from fastapi_crons.testing import reset
from tests.support import until
from tests.system.servers.server import Server

pytestmark = pytest.mark.slow

APP = """
import asyncio, time
from fastapi import FastAPI
from fastapi_crons import CronConfig, Crons, get_cron_router
from fastapi_crons.state import MemoryStateBackend

app = FastAPI()
crons = Crons(app, state_backend=MemoryStateBackend(), config=CronConfig(shutdown_timeout=0))
app.include_router(get_cron_router(), prefix="/api")

@crons.cron("* * * * * *", name="every second", tags=["a"])
async def every_second():
    return {"nested": [1, 2.5, None, "ü"]}

@crons.cron("0 0 1 1 *", name="100% wrong?", tags=["a", "b"])
async def fails():
    raise ValueError("<b>no</b>\\n" * 10)

@crons.cron("0 0 29 2 *", name="slow #1: & more")
async def slow():
    await asyncio.sleep(0.7)

@crons.cron("@yearly", name="in a thread+1", max_retries=1, retry_delay=0.01)
def thread():
    time.sleep(0.05)
    raise KeyError("gone")

@crons.cron("30 2 31 3 *", name="<script>\\"it's\\"</script>".replace("/", "."), timezone="Europe/Berlin")
def markup():
    print("ran")

@crons.cron("0 12 * * *", name="...naïve 🚀 名前", enabled=False)
def unicode():
    return "x" * 1000
"""
#: How much of what is sent is to be understood, at least; otherwise nothing much is tried.
SHARE = 0.25


SLOW = quote("slow #1: & more", safe="")
START = {"wait": False, "force": True}


def validate(case: schemathesis.Case[Any], response: schemathesis.Response) -> None:
    # A job that failed is documented to be answered by a 500; any other is a fault.
    failed = response.status_code == 500 and response.json().get("status") == "failed"
    excluded: list[Any] = [not_a_server_error] if failed else []
    # In an address every value is text, and one value is a list: a number is as good a tag as any.
    for name in {"job", "tag"} & (case.query or {}).keys():
        values = case.query[name]
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            excluded.append(negative_data_rejection)
    # Only the job's function says which arguments it takes.
    if response.status_code == 422 and isinstance(case.body, dict) and case.body.get("kwargs"):
        excluded.append(positive_data_acceptance)
    # Only the scheduler knows which times are over, and how many ticks there are between two.
    if response.status_code == 422 and case.operation.label.endswith(("/plan", "/backfill")):
        excluded.append(positive_data_acceptance)
    # A span may end before it begins.
    if response.status_code == 422 and {"since", "until"} <= (case.query or {}).keys():
        excluded.append(positive_data_acceptance)
    case.validate_response(response, excluded_checks=excluded)


class Sender:
    """Puts names and ids that there are in the place of made-up ones, and counts the answers."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.names = [quote(job["name"], safe="") for job in server.get("/api/crons")]
        self.run_ids = [run["id"] for run in server.runs("every%20second")]
        self.statuses: Counter[tuple[str, int]] = Counter()

    def send(self, case: schemathesis.Case[Any]) -> None:
        meta = case.meta
        given = case.path_parameters
        if given and (meta is None or meta.generation.mode is GenerationMode.POSITIVE):
            chosen = crc32(repr((given, case.query, case.body)).encode("utf-8", "replace"))
            if chosen % 8:
                given["job_name"] = self.names[chosen % len(self.names)]
            if "run_id" in given and chosen % 3:
                given["job_name"], given["run_id"] = "every%20second", self.run_ids[chosen % len(self.run_ids)]
            if case.operation.label.endswith("/cancel") and chosen % 2:
                given["job_name"], given["run_id"] = SLOW, self.server.post(f"/api/crons/{SLOW}/run", START)["run_id"]
        response = case.call(base_url=self.server.url)
        # uvicorn's own answer, to more than it reads of an address.
        if response.text == "Invalid HTTP request received.":
            return
        validate(case, response)
        self.statuses[case.operation.label, response.status_code] += 1


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("server")
        patch.chdir(folder)
        (folder / "app.py").write_text(APP)
        server = Server()
        until(lambda: len(server.runs("every%20second")) > 2)
        yield server
        server.kill()


@pytest.fixture(scope="module")
def sender(server: Server) -> Sender:
    return Sender(server)


def _described() -> dict[str, Any]:
    reset()
    app = FastAPI()
    app.include_router(get_cron_router(), prefix="/api")
    reset()
    return app.openapi()


# `schemathesis.pytest.from_fixture` does not know pytest 9.2; the schema is the same without a server.
# The stream of events never ends by itself; test_api_events.py listens to it.
DESCRIBED = _described()
schema = schemathesis.openapi.from_dict(DESCRIBED).exclude(path_regex="/(events|drain)$")
UNHURRIED = settings(deadline=None, suppress_health_check=list(HealthCheck), database=None)


def _test_of(operation: str) -> Any:
    @schema.include(name=operation).parametrize()
    @settings(UNHURRIED, max_examples=50)
    def test(case: schemathesis.Case[Any], sender: Sender) -> None:
        sender.send(case)

    return test


# One function for each: under pytest 9.2 schemathesis gives all that it parametrizes the same id, and xdist runs one of them.
OPERATIONS = [
    f"{method.upper()} {path}"
    for path, methods in DESCRIBED["paths"].items()
    for method in methods
    if not path.endswith(("/events", "/drain"))  # after a drain the server would refuse what the others ask
]
for operation in OPERATIONS:
    name = "_".join(re.findall(r"\w+", operation.lower()))
    globals()[f"test_every_answer_is_as_the_schema_says_to_{name}"] = _test_of(operation)


def test_a_good_share_of_that_was_understood(sender: Sender) -> None:
    if {label for label, _ in sender.statuses} != set(OPERATIONS):
        pytest.skip("not all of it was sent")
    understood = {label: number for (label, status), number in sender.statuses.items() if status < 300}
    assert sum(understood.values()) > SHARE * sender.statuses.total(), sender.statuses
    # A made-up time is hardly ever a tick that did not run, and a made-up id never a backfill.
    likely = {each for each in OPERATIONS if "/backfill" not in each and not each.endswith("/ticks/{time}/run")}
    assert understood.keys() >= likely, sender.statuses


def test_so_is_every_answer_to_requests_that_follow_from_one_another(server: Server) -> None:
    served = schemathesis.openapi.from_url(f"{server.url}/openapi.json").exclude(path_regex="/(events|drain)$")

    class Machine(served.as_state_machine()):  # type: ignore[misc]
        def validate_response(self, response: schemathesis.Response, case: Any, *_: object, **__: object) -> None:
            # An address too long for the server itself never comes to the app.
            if response.content != b"Invalid HTTP request received.":
                validate(case, response)

    run_state_machine_as_test(Machine, settings=settings(UNHURRIED, max_examples=20, stateful_step_count=6))
