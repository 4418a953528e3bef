"""The time of a lease book."""

from __future__ import annotations

import pytest

from tests.unit.leases.book import Time


@pytest.fixture
def time() -> Time:
    return Time()
