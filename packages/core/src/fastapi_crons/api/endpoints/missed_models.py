"""The bodies of answers about ticks that were not run."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pydantic import BaseModel, Field

from fastapi_crons.api.models import Instant, MissedModel
from fastapi_crons.clock import utc_datetime
from fastapi_crons.management.fates.explain import Fate
from fastapi_crons.management.history import MissedRecord
from fastapi_crons.management.unhandled import UnhandledTicks


class MissedRecordModel(MissedModel):
    """Successive missed ticks, in one record, and what was done about them since."""

    made_up: int = Field(description="How many were made up for: run again, to completion, by a run that is on record")

    @classmethod
    def of_record(cls, record: MissedRecord, zone: str, *, details: bool) -> MissedRecordModel:
        return cls(**MissedModel.of(record.ticks, zone, details=details).model_dump(), made_up=record.made_up)


class UnhandledModel(BaseModel):
    """Successive ticks of a job that are overdue, and that no instance has run, skipped or recorded so far."""

    job_name: str = Field(description="The job that was not run", examples=["cleanup"])
    first: Instant = Field(description="The oldest of the ticks")
    last: Instant = Field(description="The newest of the ticks")
    count: int = Field(description="How many; where `more` is true, at least so many")
    more: bool = Field(description="Whether counting stopped early")
    fate: Fate = Field(description="What happened to the oldest of them, in a word")
    explanation: str = Field(
        description="Why no instance has handled the oldest of them; without notes for clients that are not shown details",
        examples=[
            "It was due 3 hours ago, and no instance has claimed it: no instance that runs jobs is running. The next one to "
            "start treats it as a late tick."
        ],
    )

    @classmethod
    def of(cls, unhandled: UnhandledTicks) -> UnhandledModel:
        ticks, fate = unhandled.ticks, unhandled.fate
        return cls(
            job_name=unhandled.job,
            first=utc_datetime(ticks.first),
            last=utc_datetime(ticks.last),
            count=ticks.number,
            more=ticks.more,
            fate=fate.fate,
            explanation=fate.text,
        )


class MissedPage(BaseModel):
    """Ticks that were not run: those on record, newest first, and those that no instance has handled."""

    missed: list[MissedRecordModel] = Field(description="Those on record as missed, newest record first")
    next: str | None = Field(description="Pass this as `before` to get the next page; None on the last one")
    unhandled: list[UnhandledModel] = Field(
        description="Those that no instance has handled, longest overdue first, at most `limit`; on the first page only"
    )
    unhandled_jobs: int = Field(description="How many jobs have such ticks")

    @classmethod
    def of(
        cls,
        missed: Sequence[MissedRecord],
        unhandled: tuple[Sequence[UnhandledTicks], int],
        limit: int,
        zone_of: Callable[[str], str],
        *,
        details: bool,
    ) -> MissedPage:
        """A page of at most so many records; that there are more shows that there is a next page.

        `zone_of` says on which clock the sentences about a job are.
        """
        found, jobs = unhandled
        return cls(
            missed=[
                MissedRecordModel.of_record(record, zone_of(record.ticks.job), details=details)
                for record in missed[:limit]
            ],
            next=missed[limit - 1].ticks.id if len(missed) > limit else None,
            unhandled=[UnhandledModel.of(ticks) for ticks in found],
            unhandled_jobs=jobs,
        )
