"""How pages are compared with what they are about: what is told apart, and what is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.system.conftest import ROOT
from tests.system.pages.pages import PageRun, agrees, blocks, check_languages


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ("in 15 h", "in 43 min"),
        ("2026-03-02 02:30:00+01:00  in 15 h", "2027-07-05 02:30:00+02:00  in 3 h"),
        ("next at 2026-03-01 12:05:00", "next at 2027-07-05 23:10:00"),
        ("1 passed in 0.31s", "1 passed in 12.04s"),
        ("host a, pid 4711, heartbeat 1 s ago", "host a, pid 2, heartbeat 0 s ago"),
        ("a\n...\nz", "a\nFailed: 0\nz"),
        ("a\n...\nz", 'a\n{"error":null}\nz'),
    ],
)
def test_what_varies_agrees(shown: str, printed: str) -> None:
    assert agrees(shown, printed)


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ("2 jobs", "3 jobs"),
        ("1 passed in 0.31s", "2 passed in 0.31s"),
        ("HTTP/1.1 200", "HTTP/1.1 503"),
        ("2026-03-02 09:00:00+01:00", "2026-03-02 10:00:00+01:00"),
        ("a\n...\nz", "a\n1 failed\nz"),
        ("a\n...\nz", "a\nImportError: no module\nz"),
    ],
)
def test_what_is_wrong_does_not_agree(shown: str, printed: str) -> None:
    assert not agrees(shown, printed)


@pytest.mark.parametrize("language", ["pyhton", "", "sh"])
def test_a_block_that_nobody_would_follow_is_refused(language: str) -> None:
    page = Path("page.md")
    page.write_text(f"```{language}\nx\n```\n")
    with pytest.raises(AssertionError, match=r"page\.md, line 1"):
        check_languages(page)


@pytest.mark.parametrize(
    "command",
    [
        'pip install "fastapi-crons[reddis]"',
        'pip install "fastapi-crons<3"',
        "pip install --uppgrade fastapi-crons",
        "pip install ./packages/cores",
        "pip install fastapi-corns",
        "pip install -r nowhere.txt",
    ],
)
def test_what_could_not_be_installed_is_refused(command: str) -> None:
    with pytest.raises(AssertionError, match=r"page\.md, line 1"):
        _follow(command)


def test_what_can_be_installed_is_accepted() -> None:
    _follow('pip install -U "fastapi-crons[redis]>=3" uvicorn\npip install -q -e ./packages/core "uvicorn"')


def test_a_page_with_a_program_that_is_not_here_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)
    with pytest.raises(pytest.skip.Exception, match="curl"):
        _follow("curl -s http://127.0.0.1:8000/api/crons")


def test_blocks_in_lists_and_directives_are_found() -> None:
    assert {block.language for block in blocks(ROOT / "docs/architecture.md")} == {"{image}"}
    assert "console" in {block.language for block in blocks(ROOT / "docs/moving/crontab.md")}


def _follow(commands: str) -> None:
    page = Path("page.md")
    page.write_text(f"```bash\n{commands}\n```\n")
    with PageRun(page) as run:
        run.run()
