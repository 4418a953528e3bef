"""SQLite stores for FastAPI Crons: job states and history, and a lock for all processes of one host."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastapi_crons_sqlite.lock import SQLiteLockBackend
    from fastapi_crons_sqlite.settings import SQLiteSettings
    from fastapi_crons_sqlite.state import SQLiteStateBackend

__all__ = ["SQLiteLockBackend", "SQLiteSettings", "SQLiteStateBackend"]


def __getattr__(name: str) -> object:
    # Imported when wanted: the plugin is loaded by every scheduler, whichever store it uses.
    if name == "SQLiteStateBackend":
        from fastapi_crons_sqlite.state import SQLiteStateBackend

        return SQLiteStateBackend
    if name == "SQLiteLockBackend":
        from fastapi_crons_sqlite.lock import SQLiteLockBackend

        return SQLiteLockBackend
    if name == "SQLiteSettings":
        from fastapi_crons_sqlite.settings import SQLiteSettings

        return SQLiteSettings
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
