"""Sessions of browsers: they sign in by the token once, and are known by a cookie."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from fastapi import Depends, FastAPI, Header, HTTPException
from fastapi.testclient import TestClient
from pydantic import SecretStr
from starlette.types import Receive, Scope, Send

from fastapi_crons import CronConfig, Crons, get_cron_router
from fastapi_crons.api import local_path
from fastapi_crons.api.doors.sessions import LASTS, Sessions
from fastapi_crons.api.throttle import DELAY, WRONG
from fastapi_crons.clock import SystemClock
from fastapi_crons.state import MemoryStateBackend
from fastapi_crons.testing import VirtualClock
from tests import seam
from tests.integration.api.doors.site import ELSEWHERE, HERE, PAGE, TOKEN, NestedSite, Serve, Site, sign_in

SESSIONS = Sessions(SecretStr(TOKEN))
OTHER = Sessions(SecretStr("another-token-of-more-than-32-characters"))


def cookie_of(answer: Any) -> str:
    (cookie,) = answer.headers.get_list("set-cookie")
    return str(cookie)


def test_a_browser_signs_in_and_out(serve: Serve) -> None:
    client = serve()
    assert client.get("/api/site/page/x").status_code == 401
    answer = sign_in(client, name=" Jörg\n")
    assert (answer.status_code, answer.headers["location"]) == (303, "/api/site/page/a%2Fb%20%C3%BC")
    assert client.get(answer.headers["location"]).json() == {
        "name": "a/b ü",
        "actor": "Jörg",
        "in": True,
        "details": True,
    }
    assert client.get("/api/crons").status_code == 200, "the whole router knows the session"
    assert client.post("/api/crons/job/run").status_code == 200
    assert client.post("/api/site/logout", headers=HERE).text == "bye"
    assert client.get("/api/site/page/x").status_code == 401


def test_the_cookie_is_for_this_router_and_for_no_script(serve: Serve) -> None:
    cookie = cookie_of(sign_in(serve()))
    name, *attributes = cookie.split("; ")
    assert name.startswith(f"{SESSIONS.cookie}=")
    assert set(attributes) == {"HttpOnly", f"Max-Age={LASTS}", "Path=/api", "SameSite=strict", "Secure"}
    assert TOKEN not in cookie


def test_over_plain_http_the_cookie_is_not_secure_unless_the_browser_speaks_https(serve: Serve) -> None:
    client = serve(base="http://jobs.example.com")
    assert "Secure" not in cookie_of(sign_in(client))
    headers = HERE | {"origin": "https://jobs.example.com"}
    assert "Secure" in cookie_of(client.post("/api/site/login", data={"token": TOKEN}, headers=headers))


@pytest.mark.parametrize("prefix", ["", "/a/b", "/zeitpläne"])
def test_the_cookie_has_the_path_of_the_router(serve: Serve, prefix: str) -> None:
    client = serve(prefix)
    assert f"Path={prefix.replace('ä', '%C3%A4') or '/'};" in cookie_of(sign_in(client, path=f"{prefix}/site/login"))
    assert client.get(f"{prefix}/site/page/x").status_code == 200


def _stripped(app: FastAPI, root_path: str, begin: str) -> Any:
    """The app as a server with a root path serves it, behind a proxy that takes `/tools` away; paths begin with `begin`."""

    async def server(scope: Scope, receive: Receive, send: Send) -> None:
        path = begin + scope["path"].removeprefix("/tools")
        await app({**scope, "root_path": root_path, "path": path, "raw_path": path.encode()}, receive, send)

    return server


def _mounted(app: FastAPI) -> FastAPI:
    outer = FastAPI()
    outer.mount("/tools", app)
    return outer


AROUND: dict[str, Callable[[FastAPI], Any]] = {
    "a proxy that strips, and uvicorn": lambda app: _stripped(app, "/tools", "/tools"),
    "a proxy that strips, and a root path that is only told": lambda app: _stripped(app, "/tools", ""),
    "a root path with a slash": lambda app: _stripped(app, "/tools/", ""),
    "mounted": _mounted,
}


@pytest.mark.parametrize("around", AROUND.values(), ids=AROUND)
async def test_a_root_path_stands_before_all_paths(around: Callable[[FastAPI], Any]) -> None:
    app = FastAPI()
    crons = Crons(app, state_backend=MemoryStateBackend(), config=CronConfig(api_token=TOKEN))
    crons.plugins.register(Site())
    app.include_router(get_cron_router(), prefix="/api")
    async with crons:
        client = TestClient(around(app), base_url="https://jobs.example.com", follow_redirects=False)
        sent = client.get("/tools/api/site/page/a%2Fb?x=1", headers=PAGE)
        assert sent.status_code == 303
        to = urlsplit(sent.headers["location"])
        assert (to.netloc, to.path) == ("", "/tools/api/site/login")
        (target,) = parse_qs(to.query)["next"]
        assert target in ("/tools/api/site/page/a%2Fb?x=1", "/tools/api/site/page/a/b?x=1")
        answer = sign_in(client, path=to.path, next=target)
        assert answer.headers["location"] == target
        assert "Path=/tools/api;" in cookie_of(answer)
        assert client.get(target).status_code == 200


def test_a_browser_without_a_token_is_sent_to_the_login_page_and_back(serve: Serve) -> None:
    client = serve()
    sent = client.get("/api/site/page/a%2Fb?tag=x&tag=y%26z", headers=PAGE)
    assert sent.status_code == 303
    assert sent.headers["cache-control"] == "no-store"
    to = urlsplit(sent.headers["location"])
    assert client.get(sent.headers["location"]).text == "signed in: False, wanted: True"
    target = parse_qs(to.query)["next"][0]
    assert target == "/api/site/page/a%2Fb?tag=x&tag=y%26z"
    assert sign_in(client, next=target).headers["location"] == target
    assert client.get(sent.headers["location"]).text == "signed in: True, wanted: True"


@pytest.mark.parametrize("path", ["raw", "mounted/page"])
def test_routes_of_starlette_and_mounted_apps_send_browsers_to_the_login_page_too(serve: Serve, path: str) -> None:
    client = serve()
    sent = client.get(f"/api/site/{path}?x=1", headers=PAGE)
    assert (sent.status_code, client.get(f"/api/site/{path}").status_code) == (303, 401)
    to = urlsplit(sent.headers["location"])
    assert (to.path, parse_qs(to.query)["next"]) == ("/api/site/login", [f"/api/site/{path}?x=1"])
    sign_in(client, name="Ann")
    assert client.get(f"/api/site/{path}", headers=PAGE).text == "Ann"


def test_only_pages_are_sent_to_the_login_page(serve: Serve) -> None:
    client = serve()
    assert client.head("/api/site/page/x", headers=PAGE).status_code == 303
    assert client.get("/api/site/inner/page", headers=PAGE).status_code == 303
    assert client.head("/api/site/page/x").status_code == 401
    assert client.get("/api/site/page/x", headers={"accept": "*/*"}).status_code == 401
    assert client.get("/api/crons", headers=PAGE).status_code == 401
    assert client.post("/api/site/change", headers=HERE).status_code == 401
    assert client.post("/api/site/change", headers=PAGE).status_code == 401
    assert client.post("/api/site/change", headers=PAGE | ELSEWHERE).status_code == 401
    wrong = {"authorization": "Bearer another-token-of-more-than-32-characters"}
    assert client.get("/api/site/page/x", headers=PAGE | wrong).status_code == 401


@pytest.mark.parametrize(
    ("referer", "page"),
    [
        ({"referer": "https://jobs.example.com/api/site/page/a%2Fb?x=1"}, "/api/site/page/a%2Fb?x=1"),
        ({"referer": "http://["}, ""),
        ({}, ""),
    ],
    ids=["a page", "nonsense", "none"],
)
def test_a_form_that_is_sent_when_its_session_is_over_leads_to_the_login_page_and_back_to_its_own(
    serve: Serve, referer: dict[str, str], page: str
) -> None:
    sent = serve().post("/api/site/change", headers=PAGE | HERE | referer)
    assert sent.status_code == 303
    to = urlsplit(sent.headers["location"])
    query = parse_qs(to.query)
    assert (to.path, query.get("next", [""]), query["undone"]) == ("/api/site/login", [page], ["1"])


def test_who_is_refused_by_the_app_is_not_sent_to_the_login_page(serve: Serve) -> None:
    def refused() -> None:
        raise HTTPException(401, "ask the night shift")

    client = serve(change_dependencies=[Depends(refused)])
    sign_in(client)
    answer = client.post("/api/site/change", headers=PAGE | HERE)
    assert (answer.status_code, answer.json()["detail"]) == (401, "ask the night shift")
    assert client.get("/api/site/page/x", headers=PAGE).status_code == 200


def test_an_open_route_needs_no_token_and_shows_no_details(serve: Serve) -> None:
    client = serve()
    for headers in ({}, PAGE, {"authorization": "Bearer nonsense"}):
        answer = client.get("/api/site/style.css", headers=headers)
        assert (answer.status_code, answer.text[:14]) == (200, "details: False")
        assert "nobody makes changes here" in answer.text
    sign_in(client)
    assert client.get("/api/site/style.css").text.startswith("details: False")
    assert client.head("/api/site/login").status_code == 200


def test_dependencies_of_the_app_guard_open_routes(serve: Serve) -> None:
    def known(x_key: str = Header("")) -> None:
        if not x_key:
            raise HTTPException(403, "unknown key")

    client = serve(dependencies=[Depends(known)])
    assert client.get("/api/site/style.css").status_code == 403
    assert client.get("/api/site/style.css", headers={"x-key": "1"}).status_code == 200


@pytest.mark.parametrize("headers", [ELSEWHERE, {"sec-fetch-site": "same-site"}, {"origin": "null"}], ids=str)
def test_no_page_of_another_site_signs_in_or_uses_a_session(serve: Serve, headers: dict[str, str]) -> None:
    client = serve()
    assert client.post("/api/site/login", data={"token": TOKEN}, headers=headers).status_code == 403
    sign_in(client)
    assert client.get("/api/site/page/x", headers=headers).status_code == 401
    assert client.post("/api/site/change", json={}, headers=headers).status_code == 401
    assert client.get("/api/site/login", headers=headers).text == "signed in: False, wanted: True"
    assert client.get("/api/site/page/x").status_code == 200


NOW = 1_800_000_000.0
RIGHT = SESSIONS.begun("ops", NOW)
FORGED = {
    "empty": "",
    "dots": "..",
    "truncated": RIGHT[:-1],
    "truncated in the middle": RIGHT[:30],
    "longer": RIGHT + "0",
    "without a signature": RIGHT.rpartition(".")[0],
    "with a later end": str(int(RIGHT[:10]) + 1) + RIGHT[10:],
    "with another name": RIGHT.replace(".", ".b", 1),
    "of another token": OTHER.begun("ops", NOW),
    "not ASCII": RIGHT[:-1] + "ü",
    "other digits": "١" + RIGHT[1:],
    "oversized": "1" * 10_000 + "." + RIGHT,
    "the token": TOKEN,
    "quoted": f'"{RIGHT}"',
}


def page_with(client: TestClient, *cookies: str) -> int:
    header = "; ".join(cookies).encode("utf-8")
    return int(client.get("/api/site/page/x", headers=[(b"cookie", header)]).status_code)


class Noon(SystemClock):
    """The machine's clock, but for the time of day, which may be set."""

    time = NOW

    def now(self) -> float:
        return self.time


@pytest.mark.parametrize("value", FORGED.values(), ids=FORGED)
def test_a_cookie_that_the_token_did_not_sign_is_none(serve: Serve, value: str) -> None:
    client = serve(clock=Noon())
    assert page_with(client, f"{SESSIONS.cookie}={value}") == 401
    assert page_with(client, f"{SESSIONS.cookie}={RIGHT}") == 200


def test_a_session_ends(serve: Serve) -> None:
    client = serve(clock=(noon := Noon()))
    noon.time = NOW + LASTS - 1
    assert page_with(client, f"{SESSIONS.cookie}={RIGHT}") == 200
    noon.time = NOW + LASTS
    assert page_with(client, f"{SESSIONS.cookie}={RIGHT}") == 401


def test_of_several_cookies_one_is_enough(serve: Serve) -> None:
    client = serve(clock=Noon())
    over = SESSIONS.begun(None, NOW - LASTS - 1)
    for other in ("nonsense", over, OTHER.begun(None, NOW)):
        wrong, right = f"{SESSIONS.cookie}={other}", f"{SESSIONS.cookie}={RIGHT}"
        assert page_with(client, "a=b", wrong, right) == page_with(client, right, wrong) == 200


@pytest.mark.parametrize(
    "token", ["schlüssel-schlüssel-schlüssel", "токен-токен-токен-токен", "with some spaces in it"]
)
def test_a_token_may_be_of_any_letters(serve: Serve, token: str) -> None:
    client = serve(api_token=token)
    assert sign_in(client, "wrong").status_code == 401
    assert sign_in(client, f" {token}\n").status_code == 303
    assert client.get("/api/site/page/x").status_code == 200


def test_a_new_token_ends_all_sessions(serve: Serve) -> None:
    client = serve()
    sign_in(client)
    cookies = dict(client.cookies)
    other = serve(api_token="another-token-of-more-than-32-characters")
    other.cookies.update(cookies)
    assert other.get("/api/site/page/x").status_code == 401


def test_without_a_token_there_is_no_login(serve: Serve) -> None:
    client = serve(api_token=None, base="http://localhost:8000")
    assert client.get("/api/site/login").text == "signed in: False, wanted: False"
    answer = sign_in(client, "anything")
    assert (answer.status_code, "set-cookie" in answer.headers) == (404, False)
    assert "no CRON_API_TOKEN is set" in answer.json()["detail"]
    assert client.get("/api/site/page/x", headers=PAGE).status_code == 200


def test_guesses_are_slowed_down_whichever_way_they_come(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    naps: list[float] = []

    async def sleep(seconds: float) -> None:
        naps.append(seconds)

    seam.THROTTLE_SLEEP.replace(monkeypatch, sleep)
    client = serve()
    for number in range(WRONG):
        if number % 2:
            assert sign_in(client, "a wrong token").status_code == 401
        else:
            assert page_with(client, f"{SESSIONS.cookie}=1.x.{number}") == 401
    assert naps == []
    assert sign_in(client).status_code == 303
    assert naps == [DELAY], "by the login page"
    assert client.get("/api/site/page/x").status_code == 200
    assert client.get("/api/crons", headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200
    assert len(naps) >= 3, "by cookies and tokens"


def test_pages_may_be_in_a_router_that_is_included_and_answer_by_routes_of_their_own(serve: Serve) -> None:
    client = serve(site=NestedSite())
    refused = client.get("/api/nested/site/page/x", headers=PAGE)
    assert refused.status_code == 303
    assert urlsplit(refused.headers["location"]).path == "/api/nested/site/login"
    assert client.get("/api/nested/site/login").text == "signed in: False, wanted: True"
    assert client.get("/api/nested/site/style.css").headers["x-own"] == "yes"
    assert client.post("/api/nested/site/change", data={}, headers=HERE).status_code == 401
    assert sign_in(client, "wrong", path="/api/nested/site/login").text == "wrong"
    assert "Path=/api" in cookie_of(sign_in(client, path="/api/nested/site/login", name="Ann")).split("; ")
    assert client.get("/api/nested/site/page/x").json()["actor"] == "Ann"
    assert client.post("/api/nested/site/change", data={"a": "b"}, headers=HERE).json()["fields"] == [["a", "b"]]
    assert client.post("/api/nested/site/change", data={"a": "b"}, headers=ELSEWHERE).status_code == 401


def test_the_apps_dependencies_guard_open_routes_of_other_classes_too(serve: Serve) -> None:
    def refuse() -> None:
        raise HTTPException(403, "not from there")

    client = serve(site=NestedSite(), dependencies=[Depends(refuse)])
    for path in ("login", "style.css"):
        assert client.get(f"/api/nested/site/{path}").status_code == 403


def test_the_header_says_who_asks_where_there_is_one(serve: Serve) -> None:
    client = serve()
    sign_in(client, name="ops")
    assert client.get("/api/site/page/x", headers={"x-actor": "deploy"}).json()["actor"] == "deploy"
    sign_in(client)
    assert client.get("/api/site/page/x").json()["actor"] is None
    sign_in(client, name="ü" * 5_000)
    assert 100 < len(client.get("/api/site/page/x").json()["actor"]) < 300


@pytest.mark.parametrize(
    "target",
    [
        "//evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "http:evil.example",
        "https://evil.example/",
        "javascript:alert(1)",
        "evil",
        "/\t/evil.example",
        "/a\r\nset-cookie: x=y",
        "/a\x00",
        " //evil.example",
        "/" + "a" * 5_000,
        "",
    ],
)
def test_a_login_leads_nowhere_else(serve: Serve, target: str) -> None:
    assert local_path(target, "/home") == "/home"
    assert sign_in(serve(), next=target).headers["location"] == "/api/site/page/a%2Fb%20%C3%BC"


@pytest.mark.parametrize("target", ["/", "/api/dashboard", "/api/dashboard/jobs/a%2Fb?x=//y&z=http://w#f"])
def test_a_login_leads_back(target: str) -> None:
    assert local_path(target, "/home") == target
    assert local_path(None, "/home") == "/home"


async def test_each_router_of_an_app_has_its_own_sessions(clock: VirtualClock) -> None:
    app = FastAPI()
    tokens = {"/one": TOKEN, "/two": "another-token-of-more-than-32-characters"}
    for prefix, token in tokens.items():
        crons = Crons(state_backend=MemoryStateBackend(), config=CronConfig(api_token=token), clock=clock)
        crons.plugins.register(Site())
        app.include_router(get_cron_router(crons), prefix=prefix)
    client = TestClient(app, base_url="https://jobs.example.com", follow_redirects=False)
    for prefix, token in tokens.items():
        other = next(each for each in tokens if each != prefix)
        sent = client.get(f"{prefix}/site/page/x", headers=PAGE)
        assert sent.headers["location"].startswith(f"{prefix}/site/login?")
        assert sign_in(client, token, f"{prefix}/site/login").status_code == 303
        assert client.get(f"{prefix}/site/page/x").status_code == 200
        value = next(cookie.value for cookie in client.cookies.jar if cookie.path == prefix)
        forged = [f"{each.cookie}={value}" for each in (SESSIONS, OTHER)]
        headers: Any = {"cookie": "; ".join(forged)}
        assert TestClient(app).get(f"{other}/site/page/x", headers=headers).status_code == 401
