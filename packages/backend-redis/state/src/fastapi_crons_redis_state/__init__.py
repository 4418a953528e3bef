"""The Redis state store of FastAPI Crons: job states and the history of runs for a whole fleet."""

from fastapi_crons_redis_state.state import RedisStateBackend

__all__ = ["RedisStateBackend"]
