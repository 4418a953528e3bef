"""A store that processes share."""

from __future__ import annotations

import pytest

from tests.faults.conftest import Place, place_of


@pytest.fixture
def sqlite(request: pytest.FixtureRequest) -> Place:
    return place_of("SQLite", request)
