"""The Redis state store of FastAPI Crons: registered, and not usable yet."""

from typing import NoReturn

from fastapi_crons.errors import ConfigurationError

__all__ = ["RedisStateBackend"]


class RedisStateBackend:
    """Takes the place of the Redis state store; making one says that it is yet to come."""

    def __new__(cls, *arguments: object, **named: object) -> NoReturn:
        raise ConfigurationError(
            "this version of fastapi-crons-redis-state can't keep state in Redis yet; "
            "use SQLite: pip install fastapi-crons-sqlite"
        )
