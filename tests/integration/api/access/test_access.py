"""The management API: who may do what. Requests are raw ASGI, which no client library corrects."""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from typing import Any

import pytest
from fastapi import Depends, Header, HTTPException

from fastapi_crons.testing import VirtualClock
from tests.integration.api.raw import JSON, Api
from tests.support import runs_of

Headers = Iterable[tuple[bytes, bytes]]
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
    options = (await api.ask("GET", "/api/crons/job", *headers, **how)).json()["options"]
    assert (options["function"], options["retry_on"], options["max_retries"]) == (None, None, 0)
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
