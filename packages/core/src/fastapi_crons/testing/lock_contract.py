"""LockContract: what every lock store must do, as tests that the author of a backend inherits."""

from __future__ import annotations

from fastapi_crons.testing._lock_claims import ClaimTests
from fastapi_crons.testing._lock_instances import InstanceTests


class LockContract(ClaimTests, InstanceTests):
    """Inherit from this in a test module, and say how your store is made; the rest is pytest's.

        class TestMyLock(LockContract):
            def make_store(self) -> LockBackend:
                return MyLockBackend("localhost")

    Each call must lead to the same store, as if it were made by another instance. The tests keep to namespaces of their own.
    """
