"""State and lock stores in PostgreSQL, for a fleet: all instances that use the same database share their ticks and history.

Use the classes, or install `fastapi-crons-postgres` and set `CRON_POSTGRES_URL`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastapi_crons_postgres.lock import PostgresLockBackend
    from fastapi_crons_postgres.state import PostgresStateBackend

__all__ = ["PostgresLockBackend", "PostgresStateBackend"]


def __getattr__(name: str) -> Any:
    if name == "PostgresLockBackend":
        from fastapi_crons_postgres.lock import PostgresLockBackend

        return PostgresLockBackend
    if name == "PostgresStateBackend":
        from fastapi_crons_postgres.state import PostgresStateBackend

        return PostgresStateBackend
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
