"""Lock stores: who may run which tick."""

from typing import TYPE_CHECKING, Any

from fastapi_crons._imports import backend_class
from fastapi_crons.locking.base import (
    Beat,
    ClaimRequest,
    ClaimResult,
    Definition,
    Enrolment,
    KnownJob,
    Lease,
    LeaseRef,
    LeaseTerms,
    LiveInstance,
    LockBackend,
    Pause,
    PauseRequest,
    Reach,
    Replaced,
    Resumed,
    ResumeRequest,
)

if TYPE_CHECKING:
    from fastapi_crons.locking.local import LocalLockBackend
    from fastapi_crons.locking.manager import DistributedLockManager

__all__ = [
    "Beat",
    "ClaimRequest",
    "ClaimResult",
    "Definition",
    "DistributedLockManager",
    "Enrolment",
    "KnownJob",
    "Lease",
    "LeaseRef",
    "LeaseTerms",
    "LiveInstance",
    "LocalLockBackend",
    "LockBackend",
    "Pause",
    "PauseRequest",
    "Reach",
    "Replaced",
    "ResumeRequest",
    "Resumed",
]


def __getattr__(name: str) -> Any:
    # Imported when wanted: every plugin that brings a lock imports this package.
    if name == "LocalLockBackend":
        from fastapi_crons.locking.local import LocalLockBackend

        return LocalLockBackend
    if name == "DistributedLockManager":
        from fastapi_crons.locking.manager import DistributedLockManager

        return DistributedLockManager
    # A class that only its distribution knows.
    return backend_class(__name__, "lock_backends", name)
