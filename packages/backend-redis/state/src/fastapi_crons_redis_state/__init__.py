"""The Redis state store of FastAPI Crons: job states and the history of runs for a whole fleet."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastapi_crons_redis_state.state import RedisStateBackend

__all__ = ["RedisStateBackend"]


def __getattr__(name: str) -> object:
    # Imported when wanted: the plugin is loaded by every scheduler, whichever store it uses.
    if name == "RedisStateBackend":
        from fastapi_crons_redis_state.state import RedisStateBackend

        return RedisStateBackend
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
