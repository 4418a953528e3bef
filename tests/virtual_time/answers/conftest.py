"""A scheduler to answer."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from fastapi_crons.testing import VirtualClock
from tests.virtual_time.answers.scheduler import Fixture


@pytest_asyncio.fixture
async def made(clock: VirtualClock) -> AsyncIterator[Fixture]:
    fixture = Fixture(clock)
    yield fixture
    fixture.finish.set()
    await fixture.crons.stop()
