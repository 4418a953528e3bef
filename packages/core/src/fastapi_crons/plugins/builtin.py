"""The built-in stores, as two plugins: `memory` keeps history, `local` keeps leases, both in this process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from fastapi_crons.plugins.backends import LockBackendSpec, StateBackendSpec
from fastapi_crons.plugins.markers import hookimpl

if TYPE_CHECKING:
    from fastapi_crons.config import CronConfig
    from fastapi_crons.locking.base import LockBackend
    from fastapi_crons.state.base import StateBackend


class _Memory:
    @hookimpl
    def state_backends(self) -> Mapping[str, StateBackendSpec]:
        path = "fastapi_crons.state.memory:MemoryStateBackend"
        return {"memory": StateBackendSpec(path, _memory_state, preference=0)}


class _Local:
    @hookimpl
    def lock_backends(self) -> Mapping[str, LockBackendSpec]:
        return {"local": LockBackendSpec("fastapi_crons.locking.local:LocalLockBackend", _local_lock, preference=0)}


def _memory_state(config: CronConfig) -> StateBackend:
    from fastapi_crons.state.memory import MemoryStateBackend

    return MemoryStateBackend()


def _local_lock(config: CronConfig) -> LockBackend:
    from fastapi_crons.locking.local import LocalLockBackend

    return LocalLockBackend()


#: What the entry points name.
memory, local = _Memory(), _Local()
