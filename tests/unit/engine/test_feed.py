"""Who listens to events: so many at a time, in the whole process."""

from __future__ import annotations

import pytest

from fastapi_crons.engine.events import Feed
from fastapi_crons.errors import TooManyListenersError
from fastapi_crons.state import MemoryStateBackend


async def test_the_listeners_of_all_schedulers_of_a_process_are_counted_until_their_connections_end() -> None:
    one, other = (Feed(MemoryStateBackend(), 2) for _ in range(2))
    with one.listen(), other.listen():
        one.quiesce()  # the first is disconnected by us; its connection is still there
        with pytest.raises(TooManyListenersError, match="2 clients"), other.listen():
            pass
    with other.listen(), other.listen():
        pass
    await one.shutdown(1)
    await other.shutdown(1)
