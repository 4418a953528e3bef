"""Lock stores: who may run which tick."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fastapi_crons._elsewhere import class_elsewhere
from fastapi_crons.locking.base import (
    Beat,
    ClaimRequest,
    ClaimResult,
    Definition,
    KnownJob,
    Lease,
    LeaseRef,
    LeaseTerms,
    LiveInstance,
    LockBackend,
    Pause,
    PauseRequest,
    Reach,
    Registered,
    Replaced,
    Resumed,
    ResumeRequest,
)

if TYPE_CHECKING:
    from fastapi_crons.clock import Clock
    from fastapi_crons.locking.instance import Instance
    from fastapi_crons.locking.local import LocalLockBackend
    from fastapi_crons.locking.manager import DistributedLockManager
    from fastapi_crons.locking.transactional import LockTransaction, TransactionalLockBackend, without_waiting

__all__ = [
    "Beat",
    "ClaimRequest",
    "ClaimResult",
    "Clock",
    "Definition",
    "DistributedLockManager",
    "Registered",
    "Instance",
    "KnownJob",
    "Lease",
    "LeaseRef",
    "LeaseTerms",
    "LiveInstance",
    "LocalLockBackend",
    "LockBackend",
    "LockTransaction",
    "Pause",
    "PauseRequest",
    "Reach",
    "Replaced",
    "ResumeRequest",
    "Resumed",
    "TransactionalLockBackend",
    "without_waiting",
]


#: Imported when wanted, and where from: every plugin that brings a lock imports this package.
_LATER = {
    "Clock": "fastapi_crons.clock",
    "DistributedLockManager": "fastapi_crons.locking.manager",
    "Instance": "fastapi_crons.locking.instance",
    "LocalLockBackend": "fastapi_crons.locking.local",
    "LockTransaction": "fastapi_crons.locking.transactional",
    "TransactionalLockBackend": "fastapi_crons.locking.transactional",
    "without_waiting": "fastapi_crons.locking.transactional",
}


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(import_module(_LATER[name]), name)
    return class_elsewhere(__name__, name)
