"""The options of a job, as the management API shows them."""

from __future__ import annotations

from pydantic import BaseModel, Field

from fastapi_crons.job import CronJob, Overlap, Place


class OptionsModel(BaseModel):
    """What a job was told in code, with the scheduler's settings for what it was not told. Durations are seconds."""

    function: str | None = Field(
        description="What it calls; None for clients that are not shown details", examples=["shop.jobs:cleanup"]
    )
    run_in: Place = Field(description="Where the function runs: event loop, thread, or a process of its own")
    overlap: Overlap = Field(description="What becomes of a tick while the job is still running")
    timeout: float | None = Field(description="How long each attempt may take; None for no limit", examples=[300.0])
    max_retries: int = Field(description="How often a failed run is retried", examples=[3])
    retry_delay: float = Field(description="Before the first retry; doubled for each further one", examples=[1.0])
    retry_on: list[str] | None = Field(
        description="Names of the exceptions that are retried; None for clients that are not shown details",
        examples=[["Exception"]],
    )
    coalesce: bool = Field(description="Whether one run stands for all late ticks")
    misfire_grace_time: float | None = Field(description="How late a tick may start; None for no limit")
    jitter: float = Field(description="Each tick starts up to this many seconds late")
    store_result: bool = Field(description="Whether the function's result is stored")

    @classmethod
    def of(cls, job: CronJob, *, details: bool) -> OptionsModel:
        return cls(
            function=job.function_name if details else None,
            run_in=job.run_in,
            overlap=job.overlap,
            timeout=job.timeout,
            max_retries=job.max_retries,
            retry_delay=job.retry_delay,
            retry_on=[kind.__name__ for kind in job.retry_on] if details else None,
            coalesce=job.coalesce,
            misfire_grace_time=job.misfire_grace_time,
            jitter=job.jitter,
            store_result=job.store_result,
        )
