"""The management API: who may do what. Requests are raw ASGI, which no client library corrects."""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any, NamedTuple

import pytest
import pytest_asyncio
import redis.asyncio as redis
from fastapi import Depends, FastAPI, Header, HTTPException
from starlette.types import Message

from fastapi_crons import CronConfig, Crons, get_cron_router
from fastapi_crons.api.problems import MAX_BODY
from fastapi_crons.locking import DistributedLockManager, LocalLockBackend
from fastapi_crons.state import MemoryStateBackend, RedisStateBackend
from fastapi_crons.testing import VirtualClock
from tests.conftest import MakeCrons
from tests.support import runs_of

JSON = (b"content-type", b"application/json")
RIGHT = (b"authorization", b"Bearer hunter2-of-more-than-32-characters")
Headers = Iterable[tuple[bytes, bytes]]


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


async def _secretive(context: Any) -> str:
    logging.getLogger("shop").warning("a secret log line")
    if context.tick is not None:
        raise ValueError("a secret error")
    return "a secret result"


MakeApi = Callable[..., Api]


@pytest_asyncio.fixture
async def make_api(make_crons: MakeCrons, clock: VirtualClock) -> AsyncIterator[Callable[..., Any]]:
    async def make(dependencies: Any = None, **options: Any) -> Api:
        crons = make_crons(**options)
        crons.cron("0 * * * *", name="job")(_secretive)
        await crons.start()
        return Api(crons, dependencies=dependencies)

    yield make


NOT_LOCAL = {
    "loopback, and no process is known": {"peer": "127.0.0.1"},
    "from the network": {"peer": "10.0.0.7"},
    "IPv6 network": {"peer": "2001:db8::1"},
    "mapped network": {"peer": "::ffff:10.0.0.7"},
    "no peer (a socket file)": {"peer": None},
    "a peer without an address": {"peer": "localhost.evil"},
    "DNS rebinding": {"host": b"evil.example.com"},
    "DNS rebinding with port": {"host": b"evil.example.com:8000"},
    "a name that begins like loopback": {"host": b"127.0.0.1.evil.com"},
    "a public address": {"host": b"10.0.0.5:8000"},
    "no host": {"host": b""},
    "nonsense as host": {"host": b"[::1"},
    "more nonsense": {"host": b"\xff\xfe"},
    "user part": {"host": b"evil.com@localhost"},
    "port and more": {"host": b"localhost:8000@evil.com"},
    "a trailing dot": {"host": b"localhost."},
    "below localhost": {"host": b"evil.localhost"},
    "percent-encoded": {"host": b"%6cocalhost"},
    "blanks": {"host": b"localhost evil"},
    "a long port": {"host": b"localhost:8000000"},
    "no port": {"host": b"localhost:"},
    "nginx as it came": {"http": "1.0"},
}


@pytest.mark.parametrize("how", NOT_LOCAL.values(), ids=NOT_LOCAL)
async def test_strangers_read_lists_but_no_details_and_change_nothing(
    make_api: Any, clock: VirtualClock, how: dict[str, Any]
) -> None:
    await _stranger(await make_api(), clock, (), how)


PROXIES: dict[str, list[tuple[bytes, bytes]]] = {
    "X-Forwarded-For": [(b"x-forwarded-for", b"127.0.0.1")],
    "X-Forwarded-Proto": [(b"x-forwarded-proto", b"https")],
    "an empty one": [(b"x-forwarded-for", b"")],
    "Forwarded": [(b"forwarded", b"for=127.0.0.1")],
    "Via": [(b"via", b"1.1 proxy")],
    "X-Real-IP": [(b"x-real-ip", b"127.0.0.1")],
    "capitals": [(b"X-ForWarded-For", b"127.0.0.1")],
    "underscores": [(b"x_forwarded_for", b"127.0.0.1")],
    "two hosts": [(b"host", b"localhost:8000")],
    **{
        name: [(name.lower().encode(), b"1")]
        for name in (
            "X-Client-IP",
            "CF-Ray",
            "CF-Connecting-IP",
            "True-Client-IP",
            "Fastly-Client-IP",
            "X-Envoy-External-Address",
            "X-Original-URL",
            "X-Original-Forwarded-For",
            "Cdn-Loop",
        )
    },
}


@pytest.mark.parametrize("headers", PROXIES.values(), ids=PROXIES)
async def test_who_comes_through_a_proxy_on_this_machine_is_a_stranger(
    make_api: Any, clock: VirtualClock, headers: list[tuple[bytes, bytes]]
) -> None:
    await _stranger(await make_api(), clock, headers, {})


async def _stranger(api: Api, clock: VirtualClock, headers: Headers, how: dict[str, Any]) -> None:
    crons = api.crons
    await clock.advance(crons, minutes=61)
    await crons.run_job("job", note="a secret note", triggered_by="api", actor="ops")
    await crons.pause("job", note="a secret note", actor="ops")
    assert await api.changes(JSON, *headers, **how) == 403
    (ended, failed) = (run.id for run in reversed(await runs_of(crons, "job")))
    where = [
        "/api/crons",
        "/api/crons/job",
        "/api/crons/job/runs",
        f"/api/crons/job/runs/{ended}",
        f"/api/crons/job/runs/{failed}",
        "/api/crons/job/ticks/2026-03-01T01:00:00Z",
        "/api/crons/job/ticks/2026-03-01T01:30:00Z",
        "/api/crons/job/ticks/2026-03-01T02:00:00Z",
        "/api/scheduler",
        "/api/scheduler/health",
    ]
    for path in where:
        answer = await api.ask("GET", path, *headers, **how)
        assert answer.status == 200
        assert b"secret" not in answer.body, path
        assert b"Traceback" not in answer.body
    run = (await api.ask("GET", f"/api/crons/job/runs/{failed}", *headers, **how)).json()
    assert (run["status"], run["error"]["type"]) == ("failed", "ValueError")
    assert (run["error"]["message"], run["error"]["traceback"], run["log"], run["delay"]) == (None, None, [], None)
    listed = b"".join([(await api.ask("GET", path)).body for path in where])
    assert all(text in listed for text in (b"a secret note", b"a secret error", b"a secret log", b"a secret result"))


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"host": b"127.0.0.1:8000"},
        {"host": b"[::1]:8000"},
        {"host": b"127.8.8.8"},
        {"host": b"laptop:8000"},
        {"host": b"LocalHost:8000"},
        {"host": b"testserver"},
    ],
    ids=str,
)
async def test_local_clients_may_do_everything(make_api: Any, how: dict[str, Any]) -> None:
    api = await make_api()
    assert await api.changes(**how) == 200
    assert (await api.ask("GET", "/api/crons/job/runs", **how)).json()["runs"][0]["result"] == "a secret result"


CROSS_SITE = {
    "another origin": [(b"origin", b"https://evil.example.com")],
    "the same host, another port": [(b"origin", b"http://localhost:3000")],
    "no origin that counts": [(b"origin", b"null")],
    "nonsense": [(b"origin", b"http://[")],
    "no scheme": [(b"origin", b"localhost:8000")],
    "empty": [(b"origin", b"")],
    "not text": [(b"origin", b"\xff")],
    "cross-site": [(b"sec-fetch-site", b"cross-site")],
    "same-site": [(b"sec-fetch-site", b"same-site")],
    "same-site, same host": [(b"sec-fetch-site", b"same-site"), (b"origin", b"http://localhost:8000")],
    "unheard of": [(b"sec-fetch-site", b"whatever")],
    "typed in, elsewhere": [(b"sec-fetch-site", b"none"), (b"origin", b"https://evil.example.com")],
}


@pytest.mark.parametrize("headers", CROSS_SITE.values(), ids=CROSS_SITE)
@pytest.mark.parametrize(
    "options", [{}, {"api_token": "hunter2-of-more-than-32-characters"}, {"api_open": True}], ids=str
)
async def test_other_sites_change_nothing_whatever_credentials_come_with_it(
    make_api: Any, headers: list[tuple[bytes, bytes]], options: dict[str, Any]
) -> None:
    api = await make_api(**options)
    assert await api.changes(RIGHT, JSON, *headers) == 403
    assert await api.changes(RIGHT, JSON, *headers, body=b"{}") == 403
    assert (await api.ask("GET", "/api/crons", RIGHT, *headers)).status == 200


@pytest.mark.parametrize("headers", CROSS_SITE.values(), ids=CROSS_SITE)
async def test_other_sites_are_not_shown_what_only_this_machine_is(
    make_api: Any, headers: list[tuple[bytes, bytes]]
) -> None:
    """An app may let any page read what it answers (CORS), and its browser may be on this machine."""
    api = await make_api()
    assert await api.changes() == 200
    assert (await api.ask("GET", "/api/crons/job/runs")).json()["runs"][0]["result"] == "a secret result"
    assert "secret" not in str((await api.ask("GET", "/api/crons/job/runs", *headers)).json())


@pytest.mark.parametrize("options", [{}, {"api_token": "hunter2-of-more-than-32-characters"}], ids=str)
@pytest.mark.parametrize("body", [b"", b"force=true", b'{"force": true}'])
@pytest.mark.parametrize(
    "kind", [b"application/x-www-form-urlencoded", b"multipart/form-data; boundary=x", b"text/plain"]
)
async def test_a_form_changes_nothing_also_an_empty_one(
    make_api: Any, kind: bytes, body: bytes, options: dict[str, Any]
) -> None:
    api = await make_api(**options)
    assert await api.changes(RIGHT, (b"content-type", kind), body=body) == 415
    assert await api.changes(RIGHT, body=b"{}") == 415, "a body of no kind"
    assert await api.changes(RIGHT, (b"transfer-encoding", b"chunked"), body=[b"{", b"}"]) == 415


async def test_a_browser_on_the_same_site_may_change_things(make_api: Any) -> None:
    api = await make_api(api_token="hunter2-of-more-than-32-characters")
    assert await api.changes(RIGHT, JSON, (b"origin", b"http://localhost:8000")) == 200
    behind_a_proxy = [(b"origin", b"https://jobs.example.com"), (b"sec-fetch-site", b"same-origin")]
    assert await api.changes(RIGHT, JSON, *behind_a_proxy, (b"via", b"1.1 proxy")) == 200
    assert await api.changes(RIGHT, (b"content-type", b"Application/JSON; charset=utf-8")) == 200


@pytest.mark.parametrize(
    "given",
    [
        None,
        b"",
        b"Bearer",
        b"Bearer ",
        b"Bearer wrong",
        b"Bearer hunter2-of-more-than-32-charactersx",
        b"Bearer hunter",
        b"Bearer \xff\xfe",
        b"Bearer hunter2-of-more-than-32-characters\xc3\xbc",
        b"Basic aHVudGVyMg==",
        b"hunter2-of-more-than-32-characters",
        b"Bearer hunter2-of-more-than-32-characters, Bearer hunter2-of-more-than-32-characters",
        b"Token hunter2-of-more-than-32-characters",
    ],
)
async def test_without_the_token_nobody_reads_or_changes_anything(make_api: Any, given: bytes | None) -> None:
    api = await make_api(api_token="hunter2-of-more-than-32-characters")
    headers = [] if given is None else [(b"authorization", given)]
    assert await api.changes(*headers) == 401
    for path in (
        "/crons",
        "/crons/job",
        "/crons/nope",
        "/crons/job/runs",
        "/scheduler",
        "/scheduler/health",
        "/scheduler/events",
    ):
        answer = await api.ask("GET", f"/api{path}", *headers)
        assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert b"hunter2-of-more-than-32-characters" not in answer.body


@pytest.mark.parametrize(
    "token", ["hunter2-of-more-than-32-characters", "schlüssel-schlüssel", "with some spaces in it"]
)
async def test_with_the_token_everything_may_be_done_from_anywhere(make_api: Any, token: str) -> None:
    api = await make_api(api_token=token)
    right, oddly, apart = (
        (b"authorization", scheme + token.encode()) for scheme in (b"Bearer ", b"bEARER ", b"Bearer  ")
    )
    for header in (right, oddly, apart):
        assert await api.changes(header, peer="10.0.0.7", host=b"jobs.example.com") == 200
    answer = await api.ask("GET", "/api/crons/job/runs", right, peer="10.0.0.7")
    assert answer.json()["runs"][0]["result"] == "a secret result"


async def test_the_token_is_compared_in_constant_time(make_api: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []

    def compare(given: bytes, wanted: bytes) -> bool:
        compared.append((given, wanted))
        return given == wanted

    api = await make_api(api_token="hunter2-of-more-than-32-characters")
    monkeypatch.setattr(hmac, "compare_digest", compare)
    assert (await api.ask("GET", "/api/crons", (b"authorization", b"Bearer hunter3"))).status == 401
    assert compared == [(b"hunter3", b"hunter2-of-more-than-32-characters")]


async def test_dependencies_take_the_place_of_a_token(make_api: Any) -> None:
    def known(x_key: str = Header("")) -> None:
        if x_key != "open":
            raise HTTPException(403, "unknown key", {"x-hint": "ask"})

    api = await make_api(dependencies=[Depends(known)])
    key = (b"x-key", b"open")
    refused = await api.ask("GET", "/api/crons")
    assert (refused.status, refused.json()["detail"], refused.headers["x-hint"]) == (403, "unknown key", "ask")
    assert await api.changes() == 403
    assert await api.changes(key, peer="10.0.0.7", host=b"jobs.example.com") == 200
    answer = await api.ask("GET", "/api/crons/job/runs", key, peer="10.0.0.7")
    assert answer.json()["runs"][0]["result"] == "a secret result"
    assert await api.changes(key, (b"sec-fetch-site", b"cross-site")) == 403


async def test_an_open_api_is_open(make_api: Any, caplog: pytest.LogCaptureFixture) -> None:
    api = await make_api(api_open=True)
    assert await api.changes(peer="10.0.0.7", host=b"jobs.example.com") == 200
    assert "No CRON_API_TOKEN is set" not in caplog.text


ACTOR = (b"x-actor", "  Jörg\x85\x1b[31m\u202e ".encode())


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({"api_token": "hunter2-of-more-than-32-characters"}, "Jörg\\x85\\x1b[31m\\u202e"),
        ({"dependencies": [Depends(lambda: None)]}, "Jörg\\x85\\x1b[31m\\u202e"),
        ({"api_open": True}, None),
        ({}, None),
    ],
    ids=["token", "dependencies", "open", "neither"],
)
async def test_an_actor_is_kept_behind_credentials_only(
    make_api: Any, options: dict[str, Any], kept: str | None
) -> None:
    api = await make_api(**options)
    await api.ask("POST", "/api/crons/job/run", RIGHT, ACTOR)
    assert (await runs_of(api.crons, "job"))[0].actor == kept
    paused = (await api.ask("POST", "/api/crons/job/pause", RIGHT, ACTOR)).json()["paused"]
    assert paused["actor"] == kept
    await api.ask("POST", "/api/crons/job/run", RIGHT, (b"x-actor", b"\xff" * 5_000))
    actor = (await runs_of(api.crons, "job"))[1].actor
    assert (actor is None) == (kept is None)
    assert len(actor or "") < 230


def _json(size: int) -> bytes:
    return b'{"force": false' + b" " * (size - 16) + b"}"


async def test_a_body_may_be_64_kb_and_a_larger_one_is_refused_before_it_is_read(make_api: Any) -> None:
    api = await make_api()
    run = "/api/crons/job/run"
    assert len(_json(MAX_BODY)) == MAX_BODY == 64 * 1024
    assert (await api.ask("POST", run, JSON, body=_json(MAX_BODY))).status == 200
    refused = await api.ask("POST", run, JSON, body=_json(MAX_BODY + 1))
    assert (refused.status, refused.chunks_read) == (413, 0)

    chunked = (b"transfer-encoding", b"chunked")
    whole = _json(MAX_BODY)
    assert (await api.ask("POST", run, JSON, chunked, body=[whole[:40_000], whole[40_000:]])).status == 200
    refused = await api.ask("POST", run, JSON, chunked, body=[b" " * 40_000] * 1_000)
    assert (refused.status, refused.chunks_read) == (413, 2)
    lying = (b"content-length", b"2")
    refused = await api.ask("POST", run, JSON, lying, body=[b" " * 40_000] * 1_000)
    assert (refused.status, refused.chunks_read) == (413, 2)
    for length, status in ((b"9" * 5_000, 413), (b"70000", 413), (b"-1", 400), (b"\xb2", 400), (b"many", 400)):
        assert (await api.ask("POST", run, JSON, (b"content-length", length), body=b"{}")).status == status
    assert len(await runs_of(api.crons, "job")) == 2


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"])
async def test_nothing_but_a_post_changes_anything(make_api: Any, method: str) -> None:
    api = await make_api()
    await api.crons.pause("job")
    for path in ("run", "pause", "resume", "runs/x/cancel"):
        answer = await api.ask(method, f"/api/crons/job/{path}", JSON, body=b"{}")
        assert answer.status in (404, 405)
    for path in ("", "/job", "/job/runs", "/job/ticks/2026-03-01T01:00:00Z"):
        await api.ask("GET", f"/api/crons{path}?force=true&status=paused")
    assert await runs_of(api.crons, "job") == []
    assert "job" in await api.crons.pauses()


@pytest.mark.parametrize("name", ["../../etc/passwd", "job/../job", "..", "a/b", "job\x00", "<img src=x>"])
async def test_names_are_looked_up_and_never_paths(make_api: Any, name: str) -> None:
    api = await make_api()
    for method, path in (("GET", f"/api/crons/{name}"), ("POST", f"/api/crons/{name}/run")):
        answer = await api.ask(method, path)
        assert answer.status == 404
        assert len(answer.body) < 500
        assert answer.headers["content-type"].partition(";")[0] in ("application/json", "application/problem+json")
    assert await runs_of(api.crons, "job") == []


async def test_no_answer_is_cached_or_sniffed(make_api: Any) -> None:
    api = await make_api()
    for method, path in (
        ("GET", "/crons"),
        ("GET", "/crons/nope"),
        ("POST", "/crons/job/run"),
        ("GET", "/scheduler/health"),
    ):
        answer = await api.ask(method, f"/api{path}")
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"


async def test_secrets_are_in_no_answer_health_log_or_exception(
    clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    config = CronConfig(api_token="hunter2-of-more-than-32-characters", start_without_store=True, store_timeout=0.5)
    state = RedisStateBackend(redis.from_url("redis://:pa55word@127.0.0.1:1/0"))
    crons = Crons(
        state_backend=state, lock_manager=DistributedLockManager(LocalLockBackend(), config), config=config, clock=clock
    )
    crons.cron("* * * * *", name="job")(_secretive)
    await crons.start()
    api = Api(crons)
    seen = [repr(config), str(config), repr(crons), repr(crons.health())]
    for path in ("/crons", "/crons/job", "/crons/job/runs", "/scheduler", "/scheduler/health"):
        answer = await api.ask("GET", f"/api{path}", RIGHT)
        assert answer.status == 503
        seen.append(answer.body.decode())
    for change in ("run", "pause", "resume"):
        seen.append((await api.ask("POST", f"/api/crons/job/{change}", RIGHT)).body.decode())
    seen.append((await api.ask("GET", "/api/crons", (b"authorization", b"Bearer wrong"))).body.decode())
    await crons.stop()
    seen.append(caplog.text)
    assert "127.0.0.1:1" in caplog.text
    for text in seen:
        assert "hunter2-of-more-than-32-characters" not in text
        assert "pa55word" not in text


async def test_each_request_asks_the_settings_of_the_scheduler_it_asks(clock: VirtualClock) -> None:
    first, second = (
        Crons(state_backend=MemoryStateBackend(), config=CronConfig(api_token=token), clock=clock)
        for token in ("hunter2-of-more-than-32-characters", "another-token-of-enough-characters")
    )
    for crons, status in ((first, 200), (second, 401)):
        crons.cron("* * * * *", name="job")(_secretive)
        await crons.start()
        assert (await Api(crons).ask("GET", "/api/crons", RIGHT)).status == status
        await crons.stop()
