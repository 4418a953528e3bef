"""The scheduler of a planned deploy: the jobs of the app, with the stores that it is compared with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fastapi_crons.errors import ConfigurationError

if TYPE_CHECKING:
    from fastapi_crons.scheduler import Crons
    from fastapi_crons.state import StateBackend

_SQLITE = "sqlite:///"


def on_other_stores(app: Crons, store: str) -> Crons:
    """A scheduler with the jobs and settings of the app's, on the stores at a URL or in a file. The app's own is left alone.

    Raises `ConfigurationError` for what is neither.
    """
    from fastapi_crons._util.hiding import know_address
    from fastapi_crons.locking import DistributedLockManager
    from fastapi_crons.scheduler import Crons

    know_address(store)  # it may contain a password
    state = _state_at(store)
    lock = state.companion_lock()
    assert lock is not None, "each store that has a URL or a file has a lock of its own"
    crons = Crons(state_backend=state, lock_manager=DistributedLockManager(lock, app.config), config=app.config)
    crons.jobs.extend(app.get_jobs())
    return crons


def _state_at(store: str) -> StateBackend:
    if "://" in store and not store.startswith(_SQLITE):
        from fastapi_crons.state import RedisStateBackend

        try:
            made: StateBackend = RedisStateBackend(store)
        except ValueError as error:
            raise ConfigurationError(f"--against can't be used: {error}") from None
        return made
    from fastapi_crons.state import SQLiteStateBackend

    path = Path(store.removeprefix(_SQLITE))
    if not path.is_file():
        raise ConfigurationError(
            f"--against names {str(path)!r}, and there is no such file; give redis://… or a SQLite file"
        )
    in_file: StateBackend = SQLiteStateBackend(path)
    return in_file
