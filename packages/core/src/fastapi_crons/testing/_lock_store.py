"""The lock store that its contract's tests work with, as one instance and as several."""

from __future__ import annotations

from dataclasses import replace

from fastapi_crons.clock import SystemClock
from fastapi_crons.locking import ClaimRequest, Definition, LeaseTerms, LockBackend
from fastapi_crons.locking.instance import Instance
from fastapi_crons.testing._contract import Contract

SCHEDULE = "* * * * *"


def request(run_id: str, tick: int | None, *, job: str = "job", schedule: str = SCHEDULE) -> ClaimRequest:
    """A claim of a tick, or with None that of a manual run."""
    return ClaimRequest(job, run_id, tick, schedule, "UTC")


def define(job: str = "job", schedule: str = SCHEDULE, mark: int = 0) -> Definition:
    """A definition as an instance registers it."""
    return Definition(job, schedule, "UTC", "module:function", mark)


class LockStoreTests(Contract[LockBackend]):
    """Opens the store as often as a test wants."""

    opened: list[tuple[LockBackend, Instance]]

    async def another(
        self, *, elsewhere: bool = False, namespace: str | None = None, timeout: float = 30
    ) -> LockBackend:
        """The store as another instance opens it: of this process, or of a host that can only be judged by its heartbeat."""
        store, instance = self.make_store(), Instance.of_this_process()
        if elsewhere:
            instance = replace(instance, host="elsewhere", boot="")
        instance.lives_here(alive=True)
        await store.open(instance, namespace or self.namespace, LeaseTerms(300, timeout), SystemClock())
        self.opened.append((store, instance))
        await store.beat()
        return store

    async def dies(self, store: LockBackend) -> None:
        """The end of an instance that could not say good-bye."""
        (found,) = [pair for pair in self.opened if pair[0] is store]
        found[1].lives_here(alive=False)
        self.opened.remove(found)
        await store.close()

    async def close_all(self) -> None:
        for store, instance in self.opened:
            await store.leave()
            await store.close()
            instance.lives_here(alive=False)
