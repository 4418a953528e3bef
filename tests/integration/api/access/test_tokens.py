"""Tokens of the management API: which are taken, what guessing costs, and what a start says of guards."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import pytest
import pytest_asyncio
from fastapi import Depends, FastAPI, Header, HTTPException, Request
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBasic, HTTPBearer
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import HTTPConnection

from fastapi_crons import CronConfig, Crons, get_cron_router
from fastapi_crons.api.throttle import ADDRESSES, DELAY, WAITING, WITHIN, WRONG, Throttle
from fastapi_crons.errors import ConfigurationError
from fastapi_crons.state import MemoryStateBackend
from tests import seam
from tests.conftest import MakeCrons
from tests.integration.api.raw import JSON, Answer, Api
from tests.support import until_async

TOKEN = "a-token-of-more-than-32-characters"
RIGHT = (b"authorization", f"Bearer {TOKEN}".encode())
WRONG_ONE = (b"authorization", b"Bearer another-token-of-more-than-32-characters")


@pytest.mark.parametrize("token", ["", "Q", "hunter2", "fifteen-letters", "ünïcödé-wörds-x", "a" * 15])
@pytest.mark.parametrize("by", ["code", "environment", "file"])
def test_a_token_that_can_be_guessed_is_refused(token: str, by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if by == "environment":
        monkeypatch.setenv("CRON_API_TOKEN", token)
    elif by == "file":
        Path(".env").write_text(f"CRON_API_TOKEN={token}\n")
    with pytest.raises(ConfigurationError, match=r"CRON_API_TOKEN=\*\*\*.*use 16 at least") as refused:
        CronConfig(**({"api_token": token} if by == "code" else {}))
    assert not token or token not in str(refused.value)


@given(
    st.text(st.characters(categories=["Cc", "Cf", "Cs"]), min_size=1, max_size=2),
    st.integers(1, 20),
)
def test_control_characters_are_refused_wherever_they_stand(odd: str, at: int) -> None:
    token = "x" * at + odd + "x" * 20
    with pytest.raises(ConfigurationError, match="CRON_API_TOKEN") as refused:
        CronConfig(api_token=token)
    assert "control characters" in str(refused.value)


@pytest.mark.parametrize(("length", "told"), [(16, True), (31, True), (32, False), (200, False)])
async def test_a_short_token_is_told_of_once_at_the_start(
    make_crons: MakeCrons, length: int, told: bool, caplog: pytest.LogCaptureFixture
) -> None:
    crons = make_crons(api_token="t" * length)
    api = Api(crons)
    assert "advised" not in caplog.text
    await crons.start()
    assert ("CRON_API_TOKEN has" in caplog.text) is told
    await api.ask("GET", "/api/crons")
    await crons.stop()
    await crons.start()
    assert caplog.text.count("advised") == told
    assert "t" * 16 not in caplog.text


class Slept:
    """What was slept, and what time it is then."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.naps: list[float] = []
        self.may_end: asyncio.Event | None = None

    async def sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        if self.may_end is not None:
            await self.may_end.wait()


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> Slept:
    slept = Slept()
    seam.THROTTLE_SLEEP.replace(monkeypatch, slept.sleep)
    seam.THROTTLE_MONOTONIC.replace(monkeypatch, lambda: slept.now)
    return slept


Ask = Callable[..., Awaitable[Answer]]


@pytest_asyncio.fixture
async def ask(make_crons: MakeCrons) -> AsyncIterator[Ask]:
    crons = make_crons(api_token=TOKEN)
    await crons.start()
    api = Api(crons)

    async def ask(header: tuple[bytes, bytes] | None, peer: str = "10.0.0.7") -> Answer:
        return await api.ask("GET", "/api/crons", *([header] if header else []), peer=peer)

    yield ask


async def test_after_ten_wrong_tokens_answers_to_this_address_are_delayed(ask: Ask, slept: Slept) -> None:
    for _ in range(WRONG):
        assert (await ask(WRONG_ONE)).status == 401
    assert slept.naps == []
    assert (await ask(WRONG_ONE)).status == 401
    assert slept.naps == [DELAY]
    # A right one is not told from a wrong one by how long it takes.
    assert (await ask(RIGHT)).status == 200
    assert slept.naps == [DELAY] * 2


async def test_others_are_not_delayed(ask: Ask, slept: Slept) -> None:
    for _ in range(WRONG + 5):
        await ask(WRONG_ONE)
    naps = len(slept.naps)
    assert (await ask(RIGHT, "10.0.0.8")).status == 200
    assert (await ask(WRONG_ONE, "10.0.0.8")).status == 401
    assert (await ask(None)).status == 401, "nothing was guessed"
    assert len(slept.naps) == naps


async def test_a_minute_later_nobody_is_delayed(ask: Ask, slept: Slept) -> None:
    for _ in range(WRONG):
        await ask(WRONG_ONE)
    slept.now += WITHIN
    await ask(WRONG_ONE)
    assert slept.naps == []


async def test_requests_without_a_token_are_no_guesses(ask: Ask, slept: Slept) -> None:
    for _ in range(3 * WRONG):
        assert (await ask(None)).status == 401
    assert (await ask(RIGHT)).status == 200
    assert slept.naps == []


async def test_guessing_at_the_same_time_is_no_way_around(ask: Ask, slept: Slept) -> None:
    for _ in range(WRONG):
        await ask(WRONG_ONE)
    slept.may_end = asyncio.Event()
    tasks = [asyncio.ensure_future(ask(WRONG_ONE)) for _ in range(100)]
    await until_async(lambda: sum(task.done() for task in tasks) == 100 - WAITING)
    assert (await ask(RIGHT, "10.0.0.8")).status == 200
    slept.may_end.set()
    answers = await asyncio.gather(*tasks)
    assert len(slept.naps) == WAITING
    assert sorted(answer.status for answer in answers) == [401] * WAITING + [429] * (100 - WAITING)
    assert {answer.headers.get("retry-after") for answer in answers if answer.status == 429} == {"1"}


ALIKE = {
    "the same network": ("2001:db8::1", "2001:db8::ffff:1", True),
    "another network": ("2001:db8::1", "2001:db8:0:1::1", False),
    "mapped": ("10.0.0.7", "::ffff:10.0.0.7", True),
    "another address": ("10.0.0.7", "10.0.0.9", False),
    "no addresses": ("unix", "unix", True),
}


@pytest.mark.parametrize(("first", "second", "alike"), ALIKE.values(), ids=ALIKE)
async def test_whoever_has_an_ipv6_address_has_a_network(first: str, second: str, alike: bool, slept: Slept) -> None:
    known = Throttle()
    for _ in range(WRONG):
        known.was_wrong(first)
    await known.wait(second)
    assert len(slept.naps) == alike


async def test_guesses_from_everywhere_do_not_fill_the_memory(slept: Slept) -> None:
    known = Throttle()
    for number in range(ADDRESSES + 100):
        known.was_wrong(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
    assert len(known._wrong) == ADDRESSES
    for _ in range(WRONG):
        known.was_wrong("10.200.0.1")
    await known.wait("10.200.0.1")
    assert slept.naps == [DELAY]


@pytest.mark.parametrize("header", [None, WRONG_ONE], ids=["none", "wrong"])
async def test_a_token_is_looked_at_before_a_body(make_crons: MakeCrons, header: tuple[bytes, bytes] | None) -> None:
    crons = make_crons(api_token=TOKEN)
    crons.cron("0 0 1 1 *", name="job")(lambda: None)
    await crons.start()
    api = Api(crons)
    sent = [JSON, *([header] if header else [])]
    for path in ("run", "pause", "resume", "runs/x/cancel"):
        for body in ([b"{", b"}"], [b" " * 40_000] * 10):
            answer = await api.ask(
                "POST", f"/api/crons/job/{path}", *sent, (b"transfer-encoding", b"chunked"), body=body, peer="10.0.0.7"
            )
            assert (answer.status, answer.chunks_read) == (401, 0)
        for length in (b"9" * 30, b"nonsense"):
            answer = await api.ask(
                "POST", f"/api/crons/job/{path}", *sent, (b"content-length", length), peer="10.0.0.7"
            )
            assert (answer.status, answer.chunks_read) == (401, 0)


async def test_whether_a_client_is_local_is_looked_at_before_a_body(make_crons: MakeCrons) -> None:
    crons = make_crons()
    crons.cron("0 0 1 1 *", name="job")(lambda: None)
    await crons.start()
    answer = await Api(crons).ask(
        "POST", "/api/crons/job/run", JSON, (b"transfer-encoding", b"chunked"), body=[b"{", b"}"], peer="10.0.0.7"
    )
    assert (answer.status, answer.chunks_read) == (403, 0)


def by_key(x_key: str = Header()) -> None:
    """Refuses who has no such header."""


def by_raising(request: Request) -> None:
    if "key" not in request.headers:
        raise HTTPException(403)


def noted(request: Request) -> None:
    """Refuses nobody."""


async def with_sub_dependency(user: Annotated[None, Depends(by_raising)]) -> None:
    """Refuses whom the other does."""


def with_scheme(credentials: Annotated[object, Depends(HTTPBearer(auto_error=False))]) -> None:
    if credentials is None:
        raise HTTPException(401)


def handed_on(credentials: Annotated[object, Depends(HTTPBearer())]) -> object:
    return credentials


class OwnScheme(HTTPBearer):
    async def __call__(self, request: HTTPConnection) -> HTTPAuthorizationCredentials | None:
        found = await super().__call__(request)
        if found is None or found.credentials != TOKEN:
            raise HTTPException(401)
        return found


class Noted:
    def __call__(self) -> None:
        """Refuses nobody."""


HERE = __name__
GUARDS: dict[str, tuple[list[Any], int, str]] = {
    "a scheme, which takes any credentials": (
        [HTTPBasic()],
        logging.WARNING,
        "is guarded by HTTPBasic, which requires credentials but does not check them",
    ),
    "a scheme behind a function that hands on what it found": (
        [handed_on],
        logging.WARNING,
        f"is guarded by {HERE}:handed_on, which requires credentials but does not check them",
    ),
    "a scheme and a function": ([HTTPBearer(), by_raising], logging.INFO, f"HTTPBearer, {HERE}:by_raising"),
    "a scheme of the app's": ([OwnScheme()], logging.INFO, "is guarded by OwnScheme"),
    "a function with a scheme": ([with_scheme], logging.INFO, f"is guarded by {HERE}:with_scheme"),
    "a function": ([by_raising], logging.INFO, f"guarded by {HERE}:by_raising; that is not a security scheme"),
    "one that wants a header": ([by_key], logging.INFO, f"guarded by {HERE}:by_key; that is not a security scheme"),
    "one that depends on another": ([with_sub_dependency], logging.INFO, "that is not a security scheme"),
    "several": ([noted, by_raising], logging.INFO, f"guarded by {HERE}:noted, {HERE}:by_raising; "),
    "nothing": ([noted], logging.WARNING, "none of these dependencies can refuse"),
    "a scheme that refuses nobody": (
        [APIKeyHeader(name="x", auto_error=False)],
        logging.WARNING,
        "none of these dependencies can refuse",
    ),
    "an object that refuses nobody": ([Noted()], logging.WARNING, "none of these dependencies can refuse"),
    "nothing, in part": (
        [partial(noted, Request({"type": "http"}))],
        logging.WARNING,
        "none of these dependencies can refuse",
    ),
    "nothing, twice": ([noted, lambda: None], logging.WARNING, "anyone may change things"),
}


@pytest.mark.parametrize(("guards", "level", "said"), GUARDS.values(), ids=GUARDS)
async def test_the_start_says_once_what_guards_the_api(
    make_crons: MakeCrons, guards: list[Any], level: int, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    crons = make_crons()
    api = Api(crons, dependencies=[Depends(guard) for guard in guards])
    assert "guarded" not in caplog.text
    await crons.start()
    await api.ask("GET", "/api/crons")
    await crons.stop()
    await crons.start()
    (record,) = [record for record in caplog.records if "guarded" in record.getMessage()]
    assert record.levelno == level
    assert said in record.getMessage()


def test_a_scheduler_that_is_made_after_its_router_says_it_at_the_first_request(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    app = FastAPI()
    app.include_router(get_cron_router(dependencies=[Depends(by_raising)]), prefix="/api")
    with TestClient(app) as client:
        Crons(app, state_backend=MemoryStateBackend())
        for _ in range(2):
            client.get("/api/crons", headers={"key": "x"})
    assert caplog.text.count("guarded by") == 1
