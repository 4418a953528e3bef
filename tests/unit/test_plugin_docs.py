"""What the documentation says for authors of plugins is what the code says: hooks, what they are told, and stable names."""

from __future__ import annotations

import inspect
import re
from importlib import import_module
from pathlib import Path

import pytest

from fastapi_crons import CronJob
from fastapi_crons.engine.runs.context import missed_context, run_context
from fastapi_crons.plugins import specs as hookspecs
from fastapi_crons.plugins.markers import PROJECT
from fastapi_crons.run import MissedTicks, Run

pytestmark = pytest.mark.once

DOCS = Path(__file__).parents[2] / "docs" / "plugins"
HOOKS = {
    name: function
    for name, function in inspect.getmembers(hookspecs, inspect.isfunction)
    if hasattr(function, f"{PROJECT}_spec")
}
PAGE = (DOCS / "hooks.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE))


def test_every_hook_is_on_the_page_and_no_other() -> None:
    assert len(HOOKS) == 15
    assert {title for title in SECTIONS if not title.startswith("The context")} == set(HOOKS)
    for hook in HOOKS:
        assert f"[{hook}](#{hook})" in PAGE.partition("## ")[0]


@pytest.mark.parametrize("hook", HOOKS)
def test_the_page_shows_the_signature_of_a_hook_and_says_when_it_is_called(hook: str) -> None:
    # Annotations are text, as they are written in the specification.
    parameters = [f"{name}: {kind}" for name, kind in HOOKS[hook].__annotations__.items() if name != "return"]
    shown = f"`{hook}({', '.join(parameters)}) -> {HOOKS[hook].__annotations__['return']}`"
    paragraphs = [" ".join(text.split()) for text in SECTIONS[hook].split("\n\n")]
    assert shown in paragraphs
    assert "- **Called** " in SECTIONS[hook]
    if HOOKS[hook].__annotations__["return"] != "None":
        assert "- **Returns** " in SECTIONS[hook]
    if "context" in HOOKS[hook].__annotations__:
        assert "- **context**: [of " in SECTIONS[hook]


@pytest.mark.parametrize("hook", HOOKS)
def test_a_specification_says_when_it_is_called_and_what_becomes_of_its_answer(hook: str) -> None:
    text = inspect.getdoc(HOOKS[hook]) or ""
    assert re.search(r"\b[Cc]alled\b", text)
    assert len(text) > 100


def test_every_key_of_a_context_is_on_the_page_and_no_other() -> None:
    job = CronJob(lambda: None, "0 * * * *", "job")
    told = {
        "The context of a run": run_context(job, Run("id", "job", 0, "schedule", 1, "here", 1, "running", 0.0)),
        "The context of ticks": missed_context(job, MissedTicks("id", "job", 0, 0, 1, "overlap", 0.0, "here")),
    }
    for title, context in told.items():
        table = SECTIONS[title].partition("\n\nWhat differs")[0]
        first_cells = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
        assert [key for cell in first_cells for key in re.findall(r"`(\w+)`", cell)] == list(context)


def test_the_stable_names_are_those_that_are_exported() -> None:
    page = (DOCS / "index.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(fastapi_crons[\w.]*)` \| (.*) \|$", page, re.MULTILINE))
    assert set(rows) >= {"fastapi_crons", "fastapi_crons.state", "fastapi_crons.locking", "fastapi_crons.testing"}
    for module, names in rows.items():
        assert sorted(re.findall(r"`(\w+)`", names)) == sorted(import_module(module).__all__), module
