"""What the pages are to who hears them: each control, table and drawing has a name, and nothing moves for who asks for that."""

from __future__ import annotations

import re

import pytest

from tests.browser.conftest import Open, Site
from tests.browser.test_pages import PAGES, go

pytestmark = pytest.mark.slow

#: Parts of a page that are nothing without a name.
NAMED = "link|button|checkbox|combobox|textbox|searchbox|img|region|navigation|form|table|columnheader|rowheader"
NAMELESS = re.compile(rf"^\s*- (?:{NAMED})(?::| \[|$).*", re.MULTILINE)
#: Drawings that are neither named nor hidden.
DRAWINGS = """() => [...document.querySelectorAll('svg')]
  .filter((svg) => svg.getAttribute('aria-hidden') !== 'true' && !(svg.getAttribute('role') && svg.getAttribute('aria-label')))
  .map((svg) => svg.outerHTML.slice(0, 150))"""
TABLES = "() => [...document.querySelectorAll('table')].filter((table) => !table.caption?.textContent.trim()).length"
#: What moves.
MOVING = """() => [...document.querySelectorAll('*')].filter((each) => {
  const style = getComputedStyle(each);
  return style.animationName !== 'none' || style.transitionDuration.split(', ').some((time) => parseFloat(time) > 0);
}).map((each) => each.outerHTML.slice(0, 100))"""


@pytest.mark.parametrize("page", PAGES)
def test_all_parts_have_names(site: Site, open_page: Open, page: str) -> None:
    shown = open_page(reduced_motion="reduce")
    go(shown, site.operator, page)
    for details in shown.page.locator("main details").all():
        details.evaluate("each => { each.open = true; }")
    heard = shown.page.locator("body").aria_snapshot()
    assert "- main" in heard
    assert NAMELESS.findall(heard) == []
    assert shown.page.evaluate(DRAWINGS) == []
    assert shown.page.evaluate(TABLES) == 0
    assert shown.page.evaluate(MOVING) == []
