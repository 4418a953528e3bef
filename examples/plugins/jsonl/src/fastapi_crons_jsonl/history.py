"""The history in memory: each record as it is by now, and where its newest line is in the file."""

from __future__ import annotations

import json
import logging
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TypeVar

from fastapi_crons import MissedTicks, Run
from fastapi_crons.state import HistoryLimits, Record
from fastapi_crons_jsonl.lines import record_of

logger = logging.getLogger(__name__)

RecordT = TypeVar("RecordT", Run, MissedTicks)
#: A run and missed ticks can have one id: a run that was vetoed is on record as both.
Key = tuple[type[Record], str]


class History:
    """Runs (without their logs) and missed ticks."""

    def __init__(self) -> None:
        self.records: dict[Key, Record] = {}
        #: Place and length in the file.
        self.lines: dict[Key, tuple[int, int]] = {}
        #: The ids of one kind of record, in order: of each job, and under None of all.
        self.ids: dict[tuple[type[Record], str | None], list[str]] = {}

    def add(self, place: int, line: bytes) -> None:
        """Take in a line; one that is not ours is passed over."""
        try:
            record = record_of(json.loads(line))
        except (ValueError, TypeError, KeyError) as error:
            logger.warning("the line at byte %d is not one of ours, and is passed over: %r", place, error)
            return
        if self.is_closed(record):
            return
        kind, key = type(record), (type(record), record.id)
        if key not in self.records:
            for job in (record.job, None):
                insort(self.ids.setdefault((kind, job), []), record.id)
        self.records[key] = replace(record, log=()) if isinstance(record, Run) else record
        self.lines[key] = place, len(line)

    def is_closed(self, record: Record) -> bool:
        """Whether this is a run that is on record as ended: nothing may change that."""
        known = self.records.get((type(record), record.id))
        return isinstance(known, Run) and known.status != "running"

    def newest(self, kind: type[RecordT], job: str | None, before: str | None = None) -> Iterator[RecordT]:
        """The records of one kind, of a job or of all, newest first."""
        ids = self.ids.get((kind, job), [])
        last = len(ids) if before is None else bisect_left(ids, before)
        for place in range(last - 1, -1, -1):
            record = self.records[kind, ids[place]]
            assert isinstance(record, kind)
            yield record

    def prune(self, limits: HistoryLimits, now: float) -> None:
        """Drop what exceeds the limits; runs that are running are kept."""
        oldest = now - limits.days * 86_400
        failed: Counter[str] = Counter()

        def is_beyond(rank: int, record: Record) -> bool:
            if isinstance(record, MissedTicks):
                return rank >= max(limits.keep, limits.keep_failed) or record.recorded_ts < oldest
            if record.status == "running" or rank < limits.keep_always:
                return False
            if rank >= limits.keep and record.status != "completed":
                failed[record.job] += 1
                return failed[record.job] > limits.keep_failed or record.started_ts < oldest
            return rank >= limits.keep or record.started_ts < oldest

        self.drop(is_beyond)

    def drop(self, is_beyond: Callable[[int, Record], bool]) -> None:
        """Drop the records for which this is true; its argument is how many of the same kind and job are newer."""
        gone: set[Key] = set()
        for (kind, job), ids in self.ids.items():
            ranked = enumerate(reversed(ids) if job is not None else ())
            gone.update((kind, one) for rank, one in ranked if is_beyond(rank, self.records[kind, one]))
        for key in gone:
            del self.records[key], self.lines[key]
        left = {
            (kind, job): [record_id for record_id in ids if (kind, record_id) not in gone]
            for (kind, job), ids in self.ids.items()
        }
        self.ids = {place: ids for place, ids in left.items() if ids}
