"""DistributedLockManager: a lock store and the settings that it is used with, as users hand them to a scheduler."""

from __future__ import annotations

from fastapi_crons.config import CronConfig
from fastapi_crons.locking.base import LockBackend


class DistributedLockManager:
    """The leases of one scheduler in one lock store."""

    def __init__(self, lock_backend: LockBackend, config: CronConfig | None = None) -> None:
        self.backend = lock_backend
        self.config = config or CronConfig()
