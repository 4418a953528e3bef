"""An instance of a version that knows no drains."""

from __future__ import annotations

from fastapi_crons.locking import Beat, LockBackend
from fastapi_crons_sqlite.lock import SQLiteLockBackend


class LockOfOlderVersion(SQLiteLockBackend):
    """Its heartbeats overwrite what others have asked of it, as those of 3.0.0."""

    def clone(self) -> LockBackend:
        return LockOfOlderVersion(self.path)

    async def beat(self, running: int = 0, jobs: str = "", leases: int = 0) -> Beat:
        beat = await super().beat(running, jobs, leases)
        (own,) = (each._replace(jobs=jobs) for each in beat.instances if each.instance == self.instance)
        await self.transact(lambda transaction: transaction.save_instance(own))
        others = [each for each in beat.instances if each.instance != self.instance]
        return beat._replace(instances=[*others, own])
