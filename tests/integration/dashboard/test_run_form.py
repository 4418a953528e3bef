"""The form that runs a job: a field for each argument, checked as core checks them."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, SecretStr

from fastapi_crons import Crons, JobContext
from fastapi_crons.testing import VirtualClock
from tests.integration.dashboard.browsing import Dashboard, path
from tests.integration.dashboard.page import Page
from tests.support import runs_of

KEY = SecretStr("s3cret")
Passed = list[dict[str, Any]]


@pytest.fixture
def passed(crons: Crons) -> Passed:
    """The arguments of each run of the job."""
    found: Passed = []

    @crons.cron("0 0 1 1 *", name="job", kwargs={"region": "<b>eu</b>", "password": "hunter2", "extra": [1, "x"]})
    def job(
        context: JobContext,
        region: str,
        password: str,
        limit: Annotated[int, Field(gt=0)] = 10,
        since: date | None = None,
        mode: Literal["fast", "exact"] = "fast",
        dry: bool = False,
        key: SecretStr = KEY,
        query: str = "select 1\nfrom x",
        **rest: Any,
    ) -> None:
        found.append({**{name: value for name, value in locals().items() if name in _NAMES}, **rest})

    return found


_NAMES = ("region", "password", "limit", "since", "mode", "dry", "key", "query")
DEFAULTS = {
    "region": "<b>eu</b>",
    "password": "hunter2",
    "limit": 10,
    "since": None,
    "mode": "fast",
    "dry": False,
    "key": KEY,
    "query": "select 1\nfrom x",
    "extra": [1, "x"],
}


def fields_of(page: Page) -> dict[str, str]:
    """What the form has for each argument; of a choice, what is chosen is not looked at."""
    given = {str(field.get("name")): field.get("value") or "" for field in page.all("input")}
    return {name.partition(":")[2]: value for name, value in given.items() if name.startswith("argument:")}


async def test_there_is_a_field_for_each_argument_with_its_type_and_what_it_is_otherwise(
    crons: Crons, pages: Dashboard, passed: Passed
) -> None:
    await crons.start()
    page = await pages.get(path("job"))
    assert fields_of(page) == {
        "region": "<b>eu</b>",
        "password": "",
        "limit": "10",
        "since": "",
        "key": "",
        "extra": '[1, "x"]',
    }
    for words in ("limit int", "since datetime.date | None", "mode Literal['fast', 'exact'] fast exact", "dry bool"):
        assert words in page.text
    assert "password str (empty: as it is)" in page.text
    assert [field["name"] for field in page.all("textarea")] == ["argument:query"]
    assert "context" not in fields_of(page)
    assert "hunter2" not in page.text
    assert "s3cret" not in page.text


async def test_what_is_left_as_it_is_is_not_passed_and_what_is_changed_is_converted(
    crons: Crons, pages: Dashboard, passed: Passed, clock: VirtualClock
) -> None:
    await crons.start()
    as_they_are = {f"argument:{name}": value for name, value in fields_of(await pages.get(path("job"))).items()}
    as_they_are |= {"argument:mode": "fast", "argument:dry": "false", "argument:query": "select 1\r\nfrom x"}
    await pages.send(path("job", "run"), form="job", **as_they_are)
    await clock.advance(crons, seconds=1)
    changed = {"region": "", "limit": "3", "since": "2026-02-28", "dry": "true", "password": "n", "extra": '{"a": 1}'}
    changed_fields = {f"argument:{name}": value for name, value in changed.items()}
    page = await pages.send(path("job", "run"), form="job", **{**as_they_are, **changed_fields})
    await clock.advance(crons, seconds=1)
    # An argument of no annotation that says more than "anything" is passed as it was typed.
    others = {"region": "", "limit": 3, "since": date(2026, 2, 28), "dry": True, "password": "n", "extra": '{"a": 1}'}
    assert passed == [DEFAULTS, {**DEFAULTS, **others}]
    first, second = await runs_of(crons, "job")
    assert first.arguments_json is None or '"limit"' not in first.arguments_json
    assert '"limit": 3' in (second.arguments_json or "")
    assert "The run has started." in page.text


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("argument:limit", "<b>many</b>", "argument 'limit' can't be '<b>many</b>': Input should be a valid integer"),
        ("argument:limit", "0", "argument 'limit' can't be '0': Input should be greater than 0"),
        ("argument:since", "soon", "argument 'since' can't be 'soon'"),
        ("argument:context", "x", "argument 'context' can't be given: it is filled in by the scheduler"),
        ("timeout", "long", "the time limit can't be 'long'"),
        ("note", "x" * 1_001, "a note has at most 1000 characters"),
    ],
)
async def test_a_wrong_value_is_refused_in_words_and_what_was_typed_stays(
    crons: Crons, pages: Dashboard, passed: Passed, field: str, value: str, words: str
) -> None:
    await crons.start()
    typed = {"argument:region": "us & <i>", "note": "why", "timeout": "5", "force": "1", field: value}
    page = Page(await pages.post(path("job", "run"), form="job", **typed), 422)
    assert f"Refused: {words}" in page.text
    kept = {str(each["name"]): each.get("value") for each in page.all("input") if "name" in each}
    assert {name: kept[name] for name in typed if name in kept} == {
        name: text for name, text in typed.items() if name in kept
    }
    assert "checked" in next(page.all("input", name="force"))
    assert page.actions == [f"/api/dashboard{path('job', 'run')}"]
    assert page.link("job") == f"/api/dashboard{path('job')}"
    assert await runs_of(crons, "job") == []


async def test_a_run_that_is_refused_for_another_reason_keeps_what_was_typed_too(
    crons: Crons, pages: Dashboard, passed: Passed
) -> None:
    await crons.start()
    await crons.stop()
    page = Page(await pages.post(path("job", "run"), form="job", **{"argument:limit": "7"}), 409)
    assert fields_of(page)["limit"] == "7"


async def test_those_who_may_only_look_see_no_arguments(crons: Crons, passed: Passed) -> None:
    await crons.start()
    async with Dashboard(crons, stranger=True) as pages:
        page = await pages.get(path("job"))
        assert fields_of(page) == {}
        assert "<b>eu</b>" not in page.text
