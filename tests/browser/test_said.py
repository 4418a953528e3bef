"""What a button did, or why it was refused, is in view wherever on the page the button is."""

from __future__ import annotations

import pytest
from playwright.sync_api import Locator, expect

from tests.browser.conftest import Open, Site
from tests.browser.jobs import QUICK, WAITS

pytestmark = pytest.mark.slow

#: Whether nothing lies over its middle.
UNCOVERED = """it => {
  const box = it.getBoundingClientRect();
  return it.contains(document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2));
}"""


def in_view(notice: Locator) -> None:
    expect(notice).to_be_in_viewport(ratio=1)
    assert notice.evaluate(UNCOVERED)


@pytest.mark.parametrize("width", [360, 1280])
def test_what_a_button_did_and_why_it_was_refused_is_in_view(site: Site, open_page: Open, width: int) -> None:
    shown = open_page(viewport={"width": width, "height": 500})
    shown.expected = (409,)
    page = shown.page
    page.goto(site.operator)
    notice, run = page.get_by_role("status").locator("p"), page.get_by_role("button", name=f"Run {WAITS}")
    run.click()
    expect(notice).to_contain_text("The run has started.")
    assert page.evaluate("scrollY") > 300
    in_view(notice)
    run.click()
    expect(notice).to_contain_text("Refused: ")
    in_view(notice)
    assert shown.accessible() == []
    notice.get_by_role("link", name="The run that is in the way").click()
    page.get_by_role("button", name="Cancel").click()
    expect(notice).to_contain_text("is being cancelled")
    notice.get_by_role("button", name="Close").click()
    expect(notice).to_have_count(0)


def test_of_many_jobs_those_that_refused_stay_chosen(site: Site, open_page: Open) -> None:
    shown = open_page()
    shown.expected = (409,)
    page = shown.page
    page.goto(site.operator)
    page.get_by_role("button", name=f"Run {WAITS}").click()
    notice = page.get_by_role("status").locator("p")
    expect(notice).to_contain_text("The run has started.")
    for name in (WAITS, QUICK):
        page.get_by_role("checkbox", name=f"Choose {name}").check()
    page.get_by_role("group", name="With the chosen jobs").get_by_role("button", name="Run").click()
    expect(notice).to_contain_text("1 of 2 jobs was run; refused: ")
    expect(page.get_by_role("checkbox", name=f"Choose {QUICK}")).not_to_be_checked()
    expect(page.get_by_role("checkbox", name=f"Choose {WAITS}")).to_be_checked()
    page.get_by_role("link", name=WAITS, exact=True).click()
    page.get_by_role("link", name="running").first.click()
    page.get_by_role("button", name="Cancel").click()
    expect(notice).to_contain_text("is being cancelled")
