"""A job is run with arguments that are typed into its page."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Open, Site

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


@pytest.mark.parametrize("script", [True, False], ids=["with script", "without script"])
def test_a_wrong_argument_is_refused_and_mended_where_it_was_typed(site: Site, open_page: Open, script: bool) -> None:
    shown = open_page(java_script_enabled=script)
    shown.expected = (422,)
    page = shown.page
    page.goto(f"{site.prefix}/jobs/talks")
    page.get_by_text("Run now", exact=True).click()
    expect(page.get_by_label("lines int")).to_have_value("20")
    assert not script or shown.accessible() == []
    page.get_by_label("lines int").fill("two")
    page.get_by_label("Note").first.fill("a short one")
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("argument 'lines' can't be 'two'")
    expect(page.get_by_label("Note")).to_have_value("a short one")
    assert not script or shown.accessible() == []
    page.get_by_label("lines int").fill("2")
    # The one before may still be running.
    page.get_by_label("although it is already running").check()
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Run ")
    expect(page.get_by_text("a short one")).to_be_visible()
    expect(page.get_by_text('{"lines": 2}')).to_be_visible()
