"""What stands between a fleet and its Redis server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.proxy import Proxy
from tests.faults.redis_server import RedisServer


@pytest.fixture
def proxy(own_redis: RedisServer) -> Iterator[Proxy]:
    """A proxy in front of the private server."""
    with Proxy(own_redis.port) as running:
        yield running
