"""The Redis lock store of FastAPI Crons: registered, and not usable yet."""

from typing import NoReturn

from fastapi_crons.errors import ConfigurationError

__all__ = ["RedisLockBackend"]


class RedisLockBackend:
    """Takes the place of the Redis lock store; making one says that it is yet to come."""

    def __new__(cls, *arguments: object, **named: object) -> NoReturn:
        raise ConfigurationError(
            "this version of fastapi-crons-redis-lock can't keep locks in Redis yet; "
            "use SQLite: pip install fastapi-crons-sqlite"
        )
