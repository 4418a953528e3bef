"""Signing in with the token, and out again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from urllib.parse import quote

import pytest
import pytest_asyncio
from fastapi import FastAPI
from httpx2 import ASGITransport, AsyncClient, Response

from fastapi_crons import Crons, get_cron_router
from tests.conftest import MakeCrons
from tests.integration.dashboard.page import Page
from tests.support import nothing, runs_of, until_async

TOKEN = "a-token-of-more-than-32-characters-x"
SAME_ORIGIN = {"Sec-Fetch-Site": "same-origin"}
TYPED = {"Sec-Fetch-Site": "none"}


@pytest.fixture
def crons(make_crons: MakeCrons) -> Crons:
    crons = make_crons(api_token=TOKEN)
    crons.cron("0 0 1 1 *", name="job")(nothing)
    return crons


@pytest_asyncio.fixture
async def browser(crons: Crons) -> AsyncIterator[AsyncClient]:
    """A browser on another machine."""
    await crons.start()
    app = FastAPI()
    app.include_router(get_cron_router(crons), prefix="/api")
    url = "https://jobs.example.com/api/dashboard"
    headers = {"Accept": "text/html", **TYPED}
    async with AsyncClient(transport=ASGITransport(app), base_url=url, headers=headers) as client:
        yield client


async def sign_in(browser: AsyncClient, token: str = TOKEN, **fields: str) -> Response:
    return await browser.post("/login", data={"token": token, **fields}, headers=SAME_ORIGIN)


async def test_a_browser_without_a_session_is_led_to_the_login_page_and_back(browser: AsyncClient) -> None:
    refused = await browser.get("/jobs/job/why?at=2026-03-01T00:00Z")
    assert refused.status_code == 303
    wanted = "/api/dashboard/jobs/job/why?at=2026-03-01T00:00Z"
    login = Page(await browser.get(refused.headers["location"].partition("/dashboard")[2]))
    assert [field["value"] for field in login.all("input", name="next")] == [wanted]
    # What else there is, is for those who have signed in.
    assert [words for _, words in login.links] == ["Skip to content", "Crons"]
    answer = await sign_in(browser, next=wanted)
    assert (answer.status_code, answer.headers["location"]) == (303, wanted)
    page = Page(await browser.get(wanted.partition("/dashboard")[2]))
    assert "What became of job" in page.text
    assert "Sign out" in page.text
    # The login page is not asked for again.
    assert (await browser.get("/login", params={"next": wanted})).headers["location"] == wanted


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Referer": "http://chat.example.com/"},  # over plain HTTP, browsers don't say more
        {},
    ],
    ids=str,
)
async def test_who_comes_by_a_link_of_another_site_is_asked_for_the_session_once_more(
    browser: AsyncClient, headers: dict[str, str]
) -> None:
    del browser.headers["Sec-Fetch-Site"]
    wanted = "/api/dashboard/jobs/job/why?at=2026-03-01T00:00Z&x=';"
    onward = Page(await browser.get("/login", params={"next": wanted}, headers=headers))
    (again,) = [href for href, _ in onward.links]
    assert [each["content"] for each in onward.all("meta", **{"http-equiv": "refresh"})] == [f"0; url={again}"]
    below = again.partition("/dashboard")[2]
    login = Page(await browser.get(below, headers=headers))
    assert [field["value"] for field in login.all("input", name="next")] == [wanted]
    assert "refresh" not in [each.get("http-equiv") for each in login.all("meta")]
    await sign_in(browser)
    assert (await browser.get(below, headers=SAME_ORIGIN)).headers["location"] == wanted


@pytest.mark.parametrize(
    "headers", [TYPED, SAME_ORIGIN, {"Referer": "https://jobs.example.com/api/dashboard/plan"}], ids=str
)
async def test_who_sends_its_sessions_is_shown_the_login_page_at_once(
    browser: AsyncClient, headers: dict[str, str]
) -> None:
    del browser.headers["Sec-Fetch-Site"]
    (field,) = Page(await browser.get("/login", headers=headers)).all("input", name="token")
    assert "autofocus" in field


async def test_a_wrong_token_is_told_and_many_are_refused(browser: AsyncClient) -> None:
    wrong = await sign_in(browser, "not the token", next="/api/dashboard/plan", name="<b>Ann</b>")
    page = Page(wrong, 401)
    assert "That is not the token" in page.text
    assert 'not the token"' not in wrong.text
    assert [field["value"] for field in page.all("input", name="name")] == ["<b>Ann</b>"]
    assert [field["value"] for field in page.all("input", name="next")] == ["/api/dashboard/plan"]
    assert "set-cookie" not in wrong.headers
    for number in range(9):
        await sign_in(browser, f"guess {number}")
    guesses = await asyncio.gather(*(sign_in(browser, f"another {number}") for number in range(12)))
    refused = [guess for guess in guesses if guess.status_code != 401]
    assert len(refused) == 2
    assert "too many wrong tokens" in Page(refused[0], 429).text.lower()


@pytest.mark.parametrize(
    "elsewhere", ["https://evil.example", "//evil.example", "/\\evil.example", "javascript:alert(1)"]
)
async def test_one_is_led_to_no_other_site(browser: AsyncClient, elsewhere: str) -> None:
    page = await browser.get(f"/login?next={quote(elsewhere, safe='')}")
    assert page.status_code == 200
    answer = await sign_in(browser, next=elsewhere)
    assert answer.headers["location"] == "/api/dashboard"


async def test_who_signed_in_is_the_actor_and_signs_out(browser: AsyncClient, crons: Crons) -> None:
    answer = await sign_in(browser, name="Ann")
    cookie = answer.headers["set-cookie"]
    assert all(part in cookie for part in ("HttpOnly", "SameSite=strict", "Secure", "Path=/api"))
    started = await browser.post("/jobs/job/run", data={}, headers=SAME_ORIGIN)
    assert started.status_code == 303, started.text
    assert (await until_async(lambda: runs_of(crons, "job")))[0].actor == "Ann"
    out = await browser.post("/logout", headers=SAME_ORIGIN)
    assert out.headers["location"] == "/api/dashboard/login"
    assert (await browser.get("/plan")).status_code == 303
    # Once more, as in another window.
    out = await browser.post("/logout", headers=SAME_ORIGIN)
    assert out.headers["location"] == "/api/dashboard/login"


async def test_a_form_that_is_sent_when_the_session_has_ended_is_told_that_nothing_was_done(
    browser: AsyncClient, crons: Crons
) -> None:
    form = "https://jobs.example.com/api/dashboard/jobs/job?days=7&said=resumed"
    sent = await browser.post("/jobs/job/pause", data={"note": "x"}, headers={**SAME_ORIGIN, "Referer": form})
    assert sent.status_code == 303
    login = Page(await browser.get(sent.headers["location"].partition("/dashboard")[2]))
    assert "Nothing was done: your session had ended. Sign in, and do it again." in login.text
    (following,) = login.all("input", name="next")
    # Nor is it said once more what was done before.
    assert following["value"] == "/api/dashboard/jobs/job?days=7"
    assert "Nothing was done" not in Page(await browser.get("/login")).text


async def test_without_a_token_there_is_nothing_to_sign_in_to(make_crons: MakeCrons) -> None:
    crons = make_crons()
    await crons.start()
    app = FastAPI()
    app.include_router(get_cron_router(crons), prefix="/api")
    async with AsyncClient(transport=ASGITransport(app), base_url="http://localhost:8000/api/dashboard") as browser:
        assert (await browser.get("/login")).headers["location"] == "/api/dashboard"
        assert "Sign out" not in (await browser.get("/plan")).text
        assert (await sign_in(browser)).status_code == 404


async def test_a_form_of_another_site_is_told_so_and_not_about_headers(browser: AsyncClient) -> None:
    await sign_in(browser)
    page = Page(await browser.post("/jobs/job/pause", data={}, headers={"Sec-Fetch-Site": "cross-site"}), 401)
    assert "Refused: Nothing was done: you are not signed in, or the form was on a page of another site" in page.text
    assert "Bearer" not in page.text
