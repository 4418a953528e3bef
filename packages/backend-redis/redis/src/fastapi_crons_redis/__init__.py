"""The Redis stores of FastAPI Crons: one run per tick, job states and the history of runs for a whole fleet."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastapi_crons_redis.lock import RedisLockBackend
    from fastapi_crons_redis.state import RedisStateBackend

__all__ = ["RedisLockBackend", "RedisStateBackend"]


def __getattr__(name: str) -> object:
    # Imported when wanted: every scheduler loads the plugins in this package, whichever stores it uses.
    if name == "RedisLockBackend":
        from fastapi_crons_redis.lock import RedisLockBackend

        return RedisLockBackend
    if name == "RedisStateBackend":
        from fastapi_crons_redis.state import RedisStateBackend

        return RedisStateBackend
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
