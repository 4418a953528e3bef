"""Readers and operators: `change_dependencies`, and what an endpoint learns of who asks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, Body, Depends, FastAPI, Header, HTTPException, Request, WebSocket
from fastapi.security import HTTPBasic, HTTPBearer
from fastapi.testclient import TestClient
from httpx2 import ASGITransport, AsyncClient
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse
from starlette.websockets import WebSocketDisconnect

from fastapi_crons import ConfigurationError, CronConfig, Crons, get_cron_router, hookimpl
from fastapi_crons.api import Asked, asked
from fastapi_crons.state import MemoryStateBackend
from tests.conftest import MakeCrons
from tests.integration.api.client import STRANGER
from tests.integration.api.raw import JSON, Api
from tests.support import nothing

OPERATOR = {"x-role": "operator"}
VIEWER = {"x-role": "viewer"}
TOKEN = {"authorization": "Bearer a-token-of-more-than-32-characters"}


def known(connection: HTTPConnection) -> None:
    if "x-role" not in connection.headers:
        raise HTTPException(401, "who are you?")
    connection.state.role = connection.headers["x-role"]


def operates(connection: HTTPConnection) -> None:
    if connection.state.role != "operator":
        raise HTTPException(403, "only operators change things")


class Plugin:
    """Says what it learns of who asks, and changes things by routes of several kinds."""

    @hookimpl
    def routes(self, router: APIRouter) -> None:
        inner = APIRouter()
        for each in (router, inner):
            each.get("/me")(me)
            each.post("/typed")(lambda: "changed")
            each.add_route("/raw", raw, methods=["GET", "POST"])
            each.add_websocket_route("/ws", echo)
            each.websocket("/typed-ws")(echo)
        router.include_router(inner, prefix="/n")


async def me(asked: Annotated[Asked, Depends(asked)]) -> dict[str, Any]:
    return {
        "jobs": len(await asked.management.jobs()),
        "details": asked.details,
        "actor": asked.actor,
        "read_only": await asked.why_read_only(),
    }


async def raw(request: Request) -> JSONResponse:
    return JSONResponse(await me(await asked(request)))


async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text("open")
    await websocket.close()


class RefusedError(Exception):
    """What the app answers by itself."""


def own_answer(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"own": True}, 418)


MakeClient = Callable[..., TestClient]


@pytest.fixture
def client_of() -> Iterator[MakeClient]:
    """Serves a scheduler with a job and the plugin."""
    with ExitStack() as served:

        def make(changes: Any = operates, guards: Any = (known,), **options: Any) -> TestClient:
            app = FastAPI()
            crons = Crons(app, state_backend=MemoryStateBackend(), config=CronConfig(**options))
            crons.cron("0 0 1 1 *", name="job")(nothing)
            crons.plugins.register(Plugin())
            given: Any = {"dependencies": list(map(Depends, guards))} if guards else {}
            if changes is not None:
                given["change_dependencies"] = [Depends(changes)]
            app.include_router(get_cron_router(**given), prefix="/api")
            app.add_exception_handler(RefusedError, own_answer)
            client = TestClient(app)
            served.enter_context(client)
            return client

        yield make


def is_open(client: TestClient, path: str, headers: dict[str, str]) -> bool:
    try:
        with client.websocket_connect(f"/api{path}", headers=headers) as websocket:
            return bool(websocket.receive_text() == "open")
    except WebSocketDisconnect:
        return False


CHANGES = ["/crons/job/run", "/crons/job/pause", "/crons/nope/resume", "/typed", "/n/typed", "/raw", "/n/raw"]


@pytest.mark.parametrize("path", CHANGES)
def test_a_viewer_reads_and_an_operator_changes(client_of: MakeClient, path: str) -> None:
    client = client_of()
    refused = client.post(f"/api{path}", headers=VIEWER)
    assert (refused.status_code, refused.json()["detail"]) == (403, "only operators change things")
    assert client.post(f"/api{path}", headers=OPERATOR).status_code in (200, 202, 404)
    assert client.post(f"/api{path}").status_code == 401, "dependencies come first"
    assert client.get("/api/crons", headers=VIEWER).status_code == 200


@pytest.mark.parametrize("path", ["/ws", "/typed-ws", "/n/ws", "/n/typed-ws"])
def test_websockets_are_for_operators(client_of: MakeClient, path: str) -> None:
    client = client_of()
    assert not is_open(client, path, {})
    assert not is_open(client, path, VIEWER)
    assert is_open(client, path, OPERATOR)


@pytest.mark.parametrize("path", ["/me", "/n/me", "/raw", "/n/raw"])
def test_an_endpoint_learns_who_asks(client_of: MakeClient, path: str) -> None:
    client = client_of()
    assert client.get(f"/api{path}", headers=OPERATOR | {"x-actor": "ops"}).json() == {
        "jobs": 1,
        "details": True,
        "actor": "ops",
        "read_only": None,
    }
    viewer = client.get(f"/api{path}", headers=VIEWER).json()
    assert (viewer["details"], viewer["read_only"]) == (True, "only operators change things")


async def test_who_may_not_is_told_before_a_body_is_read(make_crons: MakeCrons) -> None:
    crons = make_crons()
    crons.cron("0 0 1 1 *", name="job")(nothing)
    crons.plugins.register(Plugin())
    api = Api(crons, dependencies=[Depends(known)], change_dependencies=[Depends(operates)])
    chunked = (b"transfer-encoding", b"chunked")
    for path in ("/crons/job/run", "/typed", "/n/typed"):
        answer = await api.ask("POST", f"/api{path}", JSON, chunked, (b"x-role", b"viewer"), body=[b"{", b"}"])
        assert (answer.status, answer.chunks_read) == (403, 0)


def test_changes_stay_local_where_nothing_else_guards_them(client_of: MakeClient) -> None:
    client = client_of(lambda: None, guards=())
    assert client.post("/api/typed").status_code == 200
    assert client.post("/api/typed", headers=STRANGER).status_code == 403
    stranger = client.get("/api/me", headers=STRANGER).json()
    assert stranger["details"] is False
    assert "changes are accepted only from" in stranger["read_only"]
    assert "other sites" in client.get("/api/me", headers={"sec-fetch-site": "cross-site"}).json()["read_only"]


def test_without_dependencies_for_changes_whoever_is_admitted_may_change(client_of: MakeClient) -> None:
    client = client_of(None, guards=(), api_token="a-token-of-more-than-32-characters")
    assert client.get("/api/me", headers=TOKEN).json()["read_only"] is None
    assert client.get("/api/me").status_code == 401


def by_header(x_key: Annotated[str, Header()]) -> None:
    """Wants a header."""


def by_job(job_name: str | None = None) -> None:
    if job_name == "job":
        raise HTTPException(403, f"hands off {job_name}")


def by_own_exception() -> None:
    raise RefusedError


def by_fault() -> None:
    raise ZeroDivisionError


def test_a_missing_header_refuses_a_change_and_leaves_reading(client_of: MakeClient) -> None:
    client = client_of(by_header)
    assert "x-key" in client.get("/api/me", headers=VIEWER).json()["read_only"]
    assert client.post("/api/crons/job/run", headers=VIEWER).status_code == 422
    assert client.post("/api/crons/job/run", headers=VIEWER | {"x-key": "1"}).status_code == 200


def test_a_dependency_may_look_at_the_job(client_of: MakeClient) -> None:
    client = client_of(by_job)
    refused = client.post("/api/crons/job/run", headers=VIEWER)
    assert (refused.status_code, refused.json()["detail"]) == (403, "hands off job")
    assert client.post("/api/crons/other/run", headers=VIEWER).status_code == 404
    assert client.get("/api/me", headers=VIEWER).json()["read_only"] is None


def test_an_exception_that_the_app_answers_is_answered_by_it(client_of: MakeClient) -> None:
    client = client_of(by_own_exception)
    assert client.post("/api/crons/job/run", headers=VIEWER).status_code == 418
    assert client.get("/api/me", headers=VIEWER).json()["read_only"] == "the app does not let this client make changes"


def test_a_fault_of_a_dependency_is_not_taken_for_a_refusal(client_of: MakeClient) -> None:
    client = client_of(by_fault)
    for method, path in (("GET", "/me"), ("POST", "/typed")):
        with pytest.raises(ZeroDivisionError):
            client.request(method, f"/api{path}", headers=VIEWER)


def test_a_test_may_put_another_dependency_in_the_place_of_one(client_of: MakeClient) -> None:
    client = client_of()
    app: Any = client.app
    app.dependency_overrides[operates] = nobody_refused
    assert client.get("/api/me", headers=VIEWER).json()["read_only"] is None
    assert client.post("/api/crons/job/run", headers=VIEWER).status_code == 200
    assert is_open(client, "/ws", VIEWER)


def by_scheme(credentials: Annotated[object, Depends(HTTPBasic())]) -> None:
    """Wants a name and a password."""


def nobody_refused() -> None:
    """Refuses nobody."""


def reads_body(wanted: Annotated[dict[str, Any], Body()]) -> None:
    """Wants a body."""


@pytest.mark.parametrize("where", ["change_dependencies", "dependencies"])
def test_a_dependency_that_reads_the_body_is_refused(where: str) -> None:
    given: Any = {"change_dependencies": [Depends(nothing)], where: [Depends(reads_body)]}
    with pytest.raises(ConfigurationError, match="no dependency may have a parameter of the request's body"):
        get_cron_router(**given)


def test_the_schema_shows_what_guards_changes(make_crons: MakeCrons) -> None:
    app = FastAPI()
    crons = make_crons()
    app.include_router(
        get_cron_router(crons, dependencies=[Depends(HTTPBearer())], change_dependencies=[Depends(by_scheme)])
    )
    paths = app.openapi()["paths"]
    assert paths["/crons"]["get"]["security"] == [{"HTTPBearer": []}]
    changing = paths["/crons/{job_name}/run"]["post"]
    assert {name for each in changing["security"] for name in each} == {"HTTPBearer", "HTTPBasic"}
    assert "403" in changing["responses"]


def test_outside_of_the_guards_nobody_has_asked() -> None:
    app = FastAPI()
    app.get("/me")(me)
    with pytest.raises(ConfigurationError, match="/me is not behind the guards of the management API"):
        TestClient(app).get("/me")


async def test_a_second_scheduler_is_asked_by_its_own_router(make_crons: MakeCrons) -> None:
    app = FastAPI()
    for name, jobs in (("one", 1), ("two", 2)):
        crons = make_crons()
        for number in range(jobs):
            crons.cron("0 0 1 1 *", name=f"job {number}")(nothing)
        crons.plugins.register(Plugin())
        await crons.start()
        app.include_router(get_cron_router(crons), prefix=f"/{name}")
    async with AsyncClient(transport=ASGITransport(app), base_url="http://localhost:8000") as client:
        assert [(await client.get(f"/{name}/me")).json()["jobs"] for name in ("one", "two")] == [1, 2]
