"""What a request may be, where it may come from, and what no answer holds. Requests are raw ASGI."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import redis.asyncio as redis
from fastapi import Depends

from fastapi_crons import CronConfig, Crons
from fastapi_crons.api.problems import MAX_BODY
from fastapi_crons.locking import DistributedLockManager, LocalLockBackend
from fastapi_crons.state import MemoryStateBackend, RedisStateBackend
from fastapi_crons.testing import VirtualClock
from tests.integration.api.raw import JSON, Api, secretive
from tests.support import runs_of

RIGHT = (b"authorization", b"Bearer hunter2-of-more-than-32-characters")
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
    crons.cron("* * * * *", name="job")(secretive)
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
        crons.cron("* * * * *", name="job")(secretive)
        await crons.start()
        assert (await Api(crons).ask("GET", "/api/crons", RIGHT)).status == status
        await crons.stop()
