"""Pages used by keys alone, by a hand that clicks twice, and by one that types while they change."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import Open, Site
from tests.browser.jobs import QUICK, TWICE, WAITS
from tests.browser.test_pages import PAGES, go
from tests.browser.watched import Watched

pytestmark = pytest.mark.slow

#: What has the focus: its number in the order of the page, and whether the focus can be seen. None where it has left the page.
FOCUSED = """() => {
  const here = document.activeElement;
  if (!here || here === document.body) return null;
  const style = getComputedStyle(here), box = here.getBoundingClientRect();
  const outlined = style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) > 0;
  const seen = box.width > 1 && box.right > 0 && box.bottom > 0 && box.left < innerWidth && box.top < innerHeight;
  const number = [...document.querySelectorAll('*')].indexOf(here);
  return [number, seen && (outlined || style.boxShadow !== 'none'), here.outerHTML.slice(0, 150)];
}"""
#: The numbers of all that can be reached by Tab.
REACHABLE = """() => [...document.querySelectorAll('*')].flatMap((each, number) =>
  each.matches('a[href], button, input:not([type=hidden]), select, textarea, summary, [tabindex]')
    && each.tabIndex >= 0 && !each.disabled && each.checkVisibility() ? [number] : [])"""


@pytest.fixture
def shown(site: Site, open_page: Open) -> Watched:
    opened = open_page()
    opened.page.goto(site.operator)
    return opened


def row(page: Page, job: str) -> Locator:
    return page.get_by_role("row").filter(has=page.get_by_role("link", name=job, exact=True))


def tab_to(page: Page, target: Locator) -> None:
    for _ in range(300):
        page.keyboard.press("Tab")
        if target.evaluate("each => each === document.activeElement"):
            return
    pytest.fail(f"Tab does not lead to {target}")


def open_job(page: Page, job: str) -> None:
    tab_to(page, page.get_by_role("link", name=job, exact=True))
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text(job)


def by_tab(page: Page) -> tuple[list[int], dict[str, bool]]:
    """The numbers of what Tab leads to, one after the other; and of each such place whether it and its focus are seen."""
    order: list[int] = []
    seen: dict[str, bool] = {}
    page.keyboard.press("Tab")
    # A field for a time has several places within itself.
    while place := page.evaluate(FOCUSED):
        number, is_seen, words = place
        order += [number] if order[-1:] != [number] else []
        seen[words] = seen.get(words) or is_seen
        page.keyboard.press("Tab")
    return order, seen


@pytest.mark.parametrize("page", PAGES)
def test_tab_leads_to_everything_in_the_order_of_the_page_and_the_focus_is_seen(
    site: Site, open_page: Open, page: str
) -> None:
    shown, order, seen = open_page(), list[int](), dict[str, bool]()
    for _ in range(3):
        go(shown, site.operator, page)
        # What happens meanwhile would change the numbers. What the page had asked for by then may still come.
        shown.page.evaluate("document.getElementById('live')?.remove()")
        before = shown.page.evaluate(REACHABLE)
        order, seen = by_tab(shown.page)
        if before == shown.page.evaluate(REACHABLE):
            break
    assert order == shown.page.evaluate(REACHABLE)
    assert [words for words, is_seen in seen.items() if not is_seen] == []


def test_a_link_leads_past_what_all_pages_have(shown: Watched) -> None:
    page = shown.page
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#content")).to_be_focused()
    page.keyboard.press("Tab")
    assert page.evaluate("document.querySelector('main').contains(document.activeElement)")


def test_a_job_is_paused_with_a_note_and_resumed_by_keys(shown: Watched) -> None:
    page = shown.page
    open_job(page, WAITS)
    tab_to(page, page.locator("summary", has_text="Pause"))
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.type("by keys")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("main q")).to_have_text("by keys")
    expect(page.locator("#said")).to_contain_text("Paused on all instances")
    expect(page.locator("#content")).to_be_focused()
    tab_to(page, page.locator("summary", has_text="Resume"))
    page.keyboard.press("Enter")
    tab_to(page, page.get_by_role("button", name="Resume"))
    page.keyboard.press("Enter")
    expect(page.locator("main q")).to_have_count(0)


def test_a_run_is_started_and_cancelled_by_keys(shown: Watched) -> None:
    page = shown.page
    open_job(page, WAITS)
    tab_to(page, page.locator("summary", has_text="Run now"))
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.type("by keys")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_contain_text("running")
    tab_to(page, page.get_by_role("button", name="Cancel"))
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_contain_text("cancelled")
    expect(page.locator("#content")).to_be_focused()


def test_the_focus_stays_on_the_button_that_was_pressed(shown: Watched) -> None:
    button = row(shown.page, QUICK).get_by_role("button")
    tab_to(shown.page, button.nth(1))
    shown.page.keyboard.press("Enter")
    expect(button.nth(1)).to_have_text("Resume")
    expect(button.nth(1)).to_be_focused()
    shown.page.keyboard.press("Enter")
    expect(button.nth(1)).to_have_text("Pause")
    expect(button.nth(1)).to_be_focused()


def test_a_key_that_is_held_down_presses_once(shown: Watched) -> None:
    page, button = shown.page, row(shown.page, QUICK).get_by_role("button").nth(1)
    button.focus()
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url) if request.method == "POST" else None)
    page.keyboard.down("Enter")
    expect(button).to_have_text("Resume")
    for _ in range(5):
        page.keyboard.down("Enter")
        page.wait_for_timeout(50)
    page.keyboard.up("Enter")
    assert len(sent) == 1
    expect(button).to_have_text("Resume")
    button.click()
    expect(button).to_have_text("Pause")


def test_two_clicks_run_a_job_once(shown: Watched) -> None:
    page = shown.page
    row(page, TWICE).get_by_role("button").first.dblclick()
    expect(row(page, TWICE)).to_contain_text("completed")
    row(page, TWICE).get_by_role("link", name=TWICE, exact=True).click()
    expect(page.get_by_role("region", name="Runs", exact=True)).to_contain_text("1 run, newest first")
    page.get_by_text("Run now", exact=True).click()
    page.get_by_role("button", name="Run", exact=True).dblclick()
    expect(page.get_by_role("heading", level=1)).to_contain_text("completed")
    page.go_back()
    expect(page.get_by_role("region", name="Runs", exact=True)).to_contain_text("2 runs, newest first")


def test_two_clicks_pause_a_job_and_do_not_resume_it(shown: Watched) -> None:
    button = row(shown.page, TWICE).get_by_role("button").nth(1)
    button.dblclick()
    expect(button).to_have_text("Resume")
    expect(button).to_be_focused()
    shown.page.reload()
    button.dblclick()
    expect(button).to_have_text("Pause")
    shown.page.reload()
    expect(button).to_have_text("Pause")


def test_two_clicks_cancel_a_run(shown: Watched) -> None:
    page = shown.page
    page.get_by_role("link", name=WAITS, exact=True).click()
    page.get_by_text("Run now", exact=True).click()
    page.get_by_role("button", name="Run", exact=True).click()
    page.get_by_role("button", name="Cancel").dblclick()
    expect(page.get_by_role("heading", level=1)).to_contain_text("cancelled")


def test_two_clicks_without_script_start_one_run(site: Site, open_page: Open) -> None:
    shown = open_page(java_script_enabled=False)
    shown.expected = (409,)  # where the browser sends both, the second is told that the job is running
    page = shown.page
    page.goto(f"{site.operator}/jobs/{WAITS}")
    page.get_by_text("Run now", exact=True).click()
    page.get_by_role("button", name="Run", exact=True).dblclick()
    expect(page.get_by_role("heading", level=1)).to_have_text(re.compile("^(Refused|Run .*running)"))
    page.goto(f"{site.operator}/jobs/{WAITS}?status=running")
    runs = page.get_by_role("region", name="Runs", exact=True)
    expect(runs.locator("caption")).to_have_text("1 run, newest first")
    runs.get_by_role("link", name="running").click()
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Run ")


@pytest.mark.parametrize("path", ["", f"/jobs/{QUICK}"])
def test_what_is_typed_and_chosen_stays_when_the_page_changes(
    shown: Watched, site: Site, open_page: Open, path: str
) -> None:
    page = shown.page
    page.goto(site.operator + path)
    status = page.get_by_role("combobox", name="Status" if path else "State")
    status.select_option("running")
    chosen = page.get_by_role("checkbox", name="Run it although" if path else f"Choose {WAITS}")
    for summary in page.locator(".actions summary").all():
        summary.click()
    chosen.check()
    note = page.get_by_role("textbox", name="Note").last
    note.press_sequentially("the other ")
    other = open_page()
    other.page.goto(site.operator)
    with page.expect_response(lambda answer: answer.request.headers.get("hx-request") == "true"):
        row(other.page, QUICK).get_by_role("button", name="Run").click()
    page.wait_for_timeout(300)
    expect(note).to_be_focused()
    page.keyboard.type("side is down")
    expect(note).to_have_value("the other side is down")
    expect(chosen).to_be_checked()
    expect(status).to_have_value("running")
