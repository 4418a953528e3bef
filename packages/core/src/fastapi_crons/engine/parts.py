"""Parts: what the parts of one started scheduler work with."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi_crons._util.tasks import Background, Supervisor
from fastapi_crons.clock import Clock
from fastapi_crons.config import CronConfig
from fastapi_crons.engine.runs.journal import Journal
from fastapi_crons.engine.runs.recorder import Recorder
from fastapi_crons.engine.runs.runner import Runner
from fastapi_crons.locking.client import LockClient
from fastapi_crons.locking.instance import Instance
from fastapi_crons.locking.leases import LeaseBook
from fastapi_crons.state.base import StateBackend


@dataclass(frozen=True, slots=True)
class Parts:
    """Made once for each start."""

    config: CronConfig
    clock: Clock
    instance: Instance
    runs_ticks: bool
    """Whether ticks are run here; where not, only what somebody asks for."""
    state: StateBackend
    locks: LockClient
    leases: LeaseBook
    recorder: Recorder
    journal: Journal
    runner: Runner
    background: Background
    supervisor: Supervisor
