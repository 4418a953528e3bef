"""The bodies of the management API's responses about the scheduler, its instances and its health."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from fastapi_crons.api.models import Instant
from fastapi_crons.clock import utc_datetime
from fastapi_crons.engine.health import Health
from fastapi_crons.locking.base import LiveInstance
from fastapi_crons.management.views import JobStatus, SchedulerView


class HealthModel(BaseModel):
    """Whether the scheduler does its work, and what should be looked at."""

    status: Literal["ok", "degraded", "unhealthy"] = Field(
        description="`unhealthy`: it does not do its work; `degraded`: it does, but something should be looked at"
    )
    findings: list[str] = Field(
        description="One sentence each; without error texts for clients that are not shown details"
    )

    @classmethod
    def of(cls, health: Health, *, details: bool) -> HealthModel:
        return cls(status=health.status, findings=list(health.findings if details else health.summaries))


class InstanceModel(BaseModel):
    """A running instance."""

    instance_id: str = Field(description="Its name", examples=["worker-001"])
    host: str = Field(description="The machine or container that it runs on", examples=["web-1"])
    pid: int = Field(description="Its process there")
    version: str = Field(description="Of fastapi-crons-core")
    started: Instant = Field(description="When it started")
    heartbeat: Instant = Field(description="Its last heartbeat")
    running: int = Field(description="How many runs it had at that time")
    runs_jobs: bool = Field(description="False for one that runs no ticks")
    draining: bool = Field(description="Whether it claims nothing more, until its process ends")

    @classmethod
    def of(cls, found: LiveInstance) -> InstanceModel:
        instance = found.instance
        return cls(
            instance_id=instance.id,
            host=instance.host,
            pid=instance.pid,
            version=instance.version,
            started=utc_datetime(instance.started_ts),
            heartbeat=utc_datetime(found.heartbeat_ts),
            running=found.running,
            runs_jobs=found.runs_ticks,
            draining=found.is_draining,
        )


class SchedulerModel(BaseModel):
    """The scheduler of the answering process, the instances that share its jobs, and the jobs in figures."""

    instance_id: str | None = Field(description="The answering instance", examples=["worker-001"])
    health: HealthModel = Field(description="Of the answering instance")
    version: str = Field(description="Of fastapi-crons-core")
    namespace: str = Field(description="Separates its jobs from others in the same store", examples=["default"])
    timezone: str = Field(description="Of jobs that have none of their own")
    backend: str = Field(description="The state store", examples=["SQLiteStateBackend"])
    locking: str = Field(description="How far ticks are shared, and by what", examples=["Distributed (Redis)"])
    jobs: int = Field(description="How many jobs are registered here")
    paused: int = Field(description="How many of them are paused")
    statuses: dict[JobStatus, int] = Field(
        description="How many jobs have which status", examples=[{"completed": 10, "running": 1, "failed": 1}]
    )
    instances: list[InstanceModel] = Field(description="The running instances, by name")

    @classmethod
    def of(cls, view: SchedulerView, *, details: bool) -> SchedulerModel:
        return cls(
            instance_id=view.instance_id,
            health=HealthModel.of(view.health, details=details),
            version=view.version,
            namespace=view.namespace,
            timezone=view.timezone,
            backend=view.state_backend,
            locking=view.locking,
            jobs=view.jobs,
            paused=view.paused,
            statuses=view.statuses,
            instances=[InstanceModel.of(found) for found in view.instances],
        )
