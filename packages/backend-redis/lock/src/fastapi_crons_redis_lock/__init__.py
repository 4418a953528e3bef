"""The Redis lock store of FastAPI Crons: one run per tick for a whole fleet."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastapi_crons_redis_lock.lock import RedisLockBackend

__all__ = ["RedisLockBackend"]


def __getattr__(name: str) -> object:
    # Imported when wanted: the plugin is loaded by every scheduler, whichever store it uses.
    if name == "RedisLockBackend":
        from fastapi_crons_redis_lock.lock import RedisLockBackend

        return RedisLockBackend
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
