"""The Redis lock store of FastAPI Crons: one run per tick for a whole fleet."""

from fastapi_crons_redis_lock.lock import RedisLockBackend

__all__ = ["RedisLockBackend"]
