"""The files that pages load: light, each from where the list says, and shipped with its licence."""

from __future__ import annotations

import gzip

import pytest

from fastapi_crons_dashboard.serving.assets import ASSETS
from tests.vendored import DASHBOARD, Vendored, digest, vendored

STATIC = DASHBOARD / "src/fastapi_crons_dashboard/static"
OURS = {"dashboard.css", "dashboard.js", "icon.svg"}


@pytest.mark.parametrize("listed", vendored(), ids=lambda listed: listed["file"])
def test_a_file_of_others_is_the_one_that_is_listed(listed: Vendored) -> None:
    assert digest((DASHBOARD / listed["file"]).read_bytes()) == listed["sha256"]


def test_each_file_is_ours_or_listed_and_comes_with_its_licence() -> None:
    listed = {each["file"]: each for each in vendored()}
    there = {path.relative_to(DASHBOARD).as_posix() for path in STATIC.iterdir() if path.name not in OURS}
    licences = {path.relative_to(DASHBOARD).as_posix() for path in (DASHBOARD / "licenses").iterdir()}
    assert there | licences == set(listed)
    assert {listed[file]["package"] for file in there} == {listed[file]["package"] for file in licences}


def test_all_files_of_a_page_are_less_than_60_kilobytes_compressed() -> None:
    assert ASSETS.keys() == {path.name for path in STATIC.iterdir()}
    assert sum(len(gzip.compress(asset.content, 9)) for asset in ASSETS.values()) < 60_000
