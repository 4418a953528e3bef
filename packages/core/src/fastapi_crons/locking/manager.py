"""DistributedLockManager: a lock store and its settings, as users hand them to a scheduler."""

from __future__ import annotations

from fastapi_crons.config import CronConfig
from fastapi_crons.locking.base import LockBackend


class DistributedLockManager:
    """A lock store and the settings that it is used with. A started scheduler calls the store; this only names it."""

    def __init__(self, lock_backend: LockBackend, config: CronConfig | None = None) -> None:
        self.backend = lock_backend
        self.config = config or CronConfig()
