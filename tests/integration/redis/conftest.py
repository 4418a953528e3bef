"""A Redis server, and a state store in a namespace of its own."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from fastapi_crons.state import HistoryLimits
from fastapi_crons_redis import RedisStateBackend
from tests.faults.redis_server import RedisServer
from tests.integration.redis.history import on


@pytest.fixture
def namespace() -> str:
    return f"state-{secrets.token_hex(6)}"


@pytest_asyncio.fixture
async def state(redis_server: RedisServer, namespace: str) -> AsyncIterator[RedisStateBackend]:
    backend = on(redis_server.url)
    await backend.open(namespace, HistoryLimits(5, 30))
    yield backend
    await backend.close()
