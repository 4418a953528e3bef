"""The scheduler of a planned deploy: the jobs of the app, with the stores that it is compared with."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastapi_crons.scheduler import Crons


def on_other_stores(app: Crons, store: str) -> Crons:
    """A scheduler with the jobs and settings of the app's, on the stores at another place. The app's own is left alone.

    Raises `ConfigurationError` for what is no place of stores, and for a file that is not there.
    """
    from fastapi_crons.errors import ConfigurationError
    from fastapi_crons.locking import DistributedLockManager
    from fastapi_crons.scheduler import Crons
    from fastapi_crons_cli.commands.store.places import place_of

    place = place_of(store, app.plugins, app.config)
    # As all that is not there it would read as empty: all jobs would be new, and nothing in doubt.
    file = getattr(place.state, "path", None)
    if isinstance(file, str) and not os.path.exists(file):
        raise ConfigurationError(f"--against names the file {file!r}, and there is no such file")
    crons = Crons(
        state_backend=place.state, lock_manager=DistributedLockManager(place.lock, app.config), config=app.config
    )
    crons.jobs.extend(app.get_jobs())
    return crons
