"""Records that travel by position: scripts in other languages, of older and newer versions, take them apart by these lists.

A new field is appended, has a default, and is added here: nothing else in these lists ever changes.
"""

from __future__ import annotations

import inspect
from types import ModuleType

import pytest

from fastapi_crons.locking import base as locking
from fastapi_crons.locking.rule import LIMITS
from fastapi_crons.state import base as state
from fastapi_crons.state.figures import Figures

FIELDS = {
    locking.Lease: "job run_id tick instance token attempt expires after missed schedule timezone cancelled cancelled_by",
    locking.Definition: "job schedule timezone function last_handled enabled nonce held withdrawn at_start start arguments",
    locking.Replaced: "schedule timezone last_handled reason token start",
    locking.Registered: "last_handled replaced other_function reset_from start other_arguments",
    locking.ClaimRequest: "job run_id tick schedule timezone overlap force missed replaces attempt after arguments again",
    locking.ClaimResult: "outcome last_handled token holder skipped reset_from orphaned",
    locking.Pause: "since actor note",
    locking.KnownJob: "job schedule timezone function enabled last_handled since pause leases arguments registrars token",
    locking.PauseRequest: "job actor note",
    locking.ResumeRequest: "job nonce catch_up",
    locking.Resumed: "pause schedule timezone after last_handled token start",
    locking.LeaseRef: "job run_id token until_now",
    locking.LiveInstance: "instance heartbeat_ts running jobs",
    locking.Beat: "dead cancelled instances own unknown",
    locking.LeaseTerms: "lease instance",
    state.Signal: "kind job run_id actor",
    state.HistoryLimits: "keep days keep_failed keep_always figures_days",
    state.JobState: "job status instance last_run_ts last_success_ts last_success_run last_success_took failures",
    state.RunQuery: "jobs statuses since until before limit triggers under_way_since",
    state.MissedQuery: "jobs since until before limit",
    Figures: "job day runs failed missed longest durations",
}
#: How many fields each had at 3.0: what was appended since has a default.
FIRST = {record: len(fields.split()) for record, fields in FIELDS.items()} | {
    locking.Lease: 12,
    locking.Definition: 8,
    locking.Registered: 4,
    locking.ClaimRequest: 10,
    locking.KnownJob: 9,
    locking.LeaseRef: 3,
    locking.Replaced: 5,
    locking.Resumed: 6,
    state.HistoryLimits: 2,
    state.JobState: 4,
    state.RunQuery: 0,
    state.MissedQuery: 0,
    Figures: 2,
}


@pytest.mark.parametrize("record", FIELDS, ids=lambda record: record.__name__)
def test_the_fields_of_a_positional_record_are_frozen(record: type[tuple[object, ...]]) -> None:
    fields = list(inspect.signature(record).parameters.values())
    assert [field.name for field in fields] == FIELDS[record].split()
    assert all(field.default is not field.empty for field in fields[FIRST[record] :])


@pytest.mark.parametrize("module", [locking, state])
def test_every_named_tuple_of_a_contract_is_in_the_list(module: ModuleType) -> None:
    found = {kind for _, kind in inspect.getmembers(module, inspect.isclass) if kind.__module__ == module.__name__}
    assert {kind for kind in found if issubclass(kind, tuple)} == {
        kind for kind in FIELDS if kind.__module__ == module.__name__
    }


def test_the_limits_that_other_languages_are_given_are_whole_numbers() -> None:
    assert all(type(limit) is int for limit in LIMITS.values())
