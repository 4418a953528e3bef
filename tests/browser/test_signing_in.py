"""Signing in, as browsers do it: by links of other sites, and when a session is over while a page is open."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import TOKEN, Open, Site
from tests.browser.jobs import QUICK
from tests.browser.watched import Watched

pytestmark = pytest.mark.slow


def sign_in(shown: Watched) -> None:
    shown.page.get_by_label("Token").fill(TOKEN)
    shown.page.get_by_role("button", name="Sign in").click()


def follow_a_link_in_a_chat(shown: Watched, target: str) -> None:
    """Chats are on another site: the browser sends no session with their links."""
    chat = "http://chat.test/"
    shown.page.route(chat, lambda route: route.fulfill(content_type="text/html", body=f"<a href='{target}'>look</a>"))
    shown.page.goto(chat)
    shown.page.get_by_role("link", name="look").click()


@pytest.mark.parametrize("script", [True, False], ids=["with script", "without script"])
def test_a_link_in_a_chat_opens_its_page_for_who_has_signed_in(site: Site, open_page: Open, script: bool) -> None:
    shown = open_page(java_script_enabled=script)
    plan = f"{site.proxy}/plan?hours=6"
    follow_a_link_in_a_chat(shown, plan)
    expect(shown.page.get_by_role("heading", name="Sign in")).to_be_visible()
    sign_in(shown)
    expect(shown.page.get_by_role("heading", name="Plan", level=1)).to_be_visible()
    follow_a_link_in_a_chat(shown, plan)
    expect(shown.page.get_by_role("heading", name="Plan", level=1)).to_be_visible()
    assert shown.page.url == plan
    shown.page.go_back()
    expect(shown.page.get_by_role("link", name="look")).to_be_visible()


def test_an_open_page_becomes_the_login_page_when_the_session_is_over(site: Site, open_page: Open) -> None:
    shown = open_page()
    page = shown.page
    page.goto(f"{site.proxy}/timeline")
    with page.expect_response("**/events"):  # by then the page listens
        sign_in(shown)
    expect(page.get_by_role("heading", name="Timeline")).to_be_visible()
    shown.expected = (401,)  # the stream of events, which asks again
    page.get_by_label("Job or tag").focus()
    page.context.clear_cookies()
    # On a busy machine the server has said that the page is to rest for long.
    page.evaluate("document.getElementById('content').dataset.pace = 1")
    page.evaluate("document.getElementById('live').dispatchEvent(new Event('run'))")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible(timeout=15_000)
    page.wait_for_timeout(300)  # what the browser has to complain about is said by then
    sign_in(shown)
    expect(page.get_by_role("heading", name="Timeline")).to_be_visible()


def test_a_form_that_is_sent_when_the_session_is_over_is_sent_again_with_its_note(site: Site, open_page: Open) -> None:
    shown = open_page()
    page = shown.page
    page.goto(f"{site.proxy}/jobs/{QUICK}")
    sign_in(shown)
    page.locator("summary", has_text="Pause").click()
    note = page.locator("#pause-form").get_by_label("Note")
    note.fill("the other side is down")
    shown.expected = (401,)  # the stream of events
    page.context.clear_cookies()
    page.get_by_role("button", name="Pause on all instances").click()
    expect(page.get_by_role("alert")).to_contain_text("Nothing was done")
    expect(page.get_by_role("button", name="Sign out")).to_have_count(0)
    expect(page.get_by_role("link", name="Plan")).to_have_count(0)
    sign_in(shown)
    expect(note).to_have_value("the other side is down")
    page.get_by_role("button", name="Pause on all instances").click()
    expect(page.locator("main q")).to_have_text("the other side is down")
    page.locator("summary", has_text="Resume").click()
    page.get_by_role("button", name="Resume").click()
    expect(page.locator("main q")).to_have_count(0)
