"""A scheduler in virtual time and its dashboard."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from fastapi import FastAPI
from httpx2 import ASGITransport, AsyncClient

from fastapi_crons import Crons, get_cron_router
from tests.conftest import MakeCrons
from tests.integration.dashboard.browsing import Dashboard

#: A name that has to be escaped in addresses, in HTML, and in attributes.
ODD = 'a:b *%ü<script>"&'


@pytest.fixture
def crons(make_crons: MakeCrons) -> Crons:
    return make_crons(instance_id="worker-001")


@pytest_asyncio.fixture
async def dashboard(crons: Crons) -> AsyncIterator[AsyncClient]:
    """A browser on this machine that asks for the pages."""
    app = FastAPI()
    app.include_router(get_cron_router(crons), prefix="/api")
    url = "http://localhost:8000/api/dashboard"
    async with AsyncClient(transport=ASGITransport(app), base_url=url, headers={"Accept": "text/html"}) as client:
        yield client


@pytest_asyncio.fixture
async def pages(crons: Crons) -> AsyncIterator[Dashboard]:
    """The same, as a person follows its links and sends its forms."""
    async with Dashboard(crons) as pages:
        yield pages
