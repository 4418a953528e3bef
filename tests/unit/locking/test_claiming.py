"""The rule of claims, request by request: what is answered, and what is on record then."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fastapi_crons.job import Overlap
from fastapi_crons.locking import (
    ClaimRequest,
    ClaimResult,
    Lease,
    Pause,
)
from fastapi_crons.locking import rule as lock_rule
from fastapi_crons.locking.rule import JobRecord
from tests.unit.locking.records import (
    NOW,
    SECOND,
    START,
    TERM,
    TOKEN,
    given,
    lease,
    recorded,
    want,
)


def ask(record: JobRecord, request: ClaimRequest, *, alive: str = "ab") -> ClaimResult:
    """Instance `b` claims, while these instances are alive."""
    return lock_rule.claim(
        {"job": record}, request, "b", NOW, TERM, lambda owner, until: owner in alive and until > NOW
    )


# Claimed


def test_a_job_without_a_record_is_unknown() -> None:
    assert ask(recorded(), want(job="other")) == ClaimResult("unknown")


def test_a_tick_is_granted_with_a_lease_that_answers_for_all_since_the_last_handled_one() -> None:
    record, request = recorded(), want(attempt=2)
    before = replace(record)
    assert ask(record, request) == ClaimResult("granted", START, TOKEN)
    assert record == replace(before, last_handled=SECOND, token=TOKEN, leases={"r2": given(request, START)})
    assert ask(record, request, alive="") == ClaimResult("granted", START, TOKEN), "the same is asked again"


def test_tokens_grow_whatever_the_clock_shows() -> None:
    record = recorded(token=TOKEN + 5)
    assert ask(record, want()).token == record.token == TOKEN + 6


@pytest.mark.parametrize(
    ("tick", "answer"),
    [
        (START, ClaimResult("stale", START)),
        (START + 1, ClaimResult("granted", START, TOKEN)),
        (SECOND + 1, ClaimResult("granted", START, TOKEN)),
        (SECOND + 2, ClaimResult("early", SECOND)),
    ],
)
def test_a_tick_is_granted_once_and_not_before_its_time(tick: int, answer: ClaimResult) -> None:
    record = recorded()
    assert ask(record, want(tick)) == answer
    assert record.last_handled == (tick if answer.token else START)


def test_a_tick_may_be_a_whole_second_early() -> None:
    assert lock_rule.claim({"job": recorded()}, want(SECOND + 1), "b", SECOND, TERM, lambda *_: True).token


def test_a_claim_resets_a_last_handled_tick_that_a_wrong_clock_set() -> None:
    ahead = SECOND + 3_601
    record = recorded(last_handled=ahead)
    assert ask(record, want()) == ClaimResult("granted", SECOND - 1, TOKEN, reset_from=ahead)
    record = recorded(lease(), last_handled=ahead)
    assert ask(record, want()) == ClaimResult("busy", SECOND - 1, TOKEN, "r1", True, ahead)


@pytest.mark.parametrize(
    ("settled_at", "outcome"),
    [(NOW, "granted"), (NOW + 0.5, "early"), (NOW + 3_600, "early"), (NOW + 3_600.5, "granted")],
)
def test_a_store_that_lost_its_records_grants_nothing_for_a_while(settled_at: float, outcome: str) -> None:
    record = recorded(settled_at=settled_at)
    answer = ask(record, want())
    assert answer == (ClaimResult("early", SECOND) if outcome == "early" else ClaimResult("granted", START, TOKEN))
    assert record.last_handled == (START if outcome == "early" else SECOND)


@pytest.mark.parametrize(
    ("request_", "changes"),
    [
        (want(schedule="* * * * *"), {}),
        (want(timezone="Europe/Paris"), {}),
        (want(), {"enabled": False}),
        (want(None, schedule="* * * * *"), {}),
        (want(arguments=""), {"arguments": "5cd9b1e0"}),
        (want(None, arguments="5cd9b1e0"), {"arguments": ""}),
    ],
)
def test_what_is_not_in_force_is_refused_and_orphaned_where_nobody_lives_who_registered_what_is(
    request_: ClaimRequest, changes: dict[str, Any]
) -> None:
    assert ask(recorded(**changes), request_, alive="a") == ClaimResult("not_in_force")
    assert ask(recorded(**changes), request_, alive="b") == ClaimResult("not_in_force", orphaned=True)


@pytest.mark.parametrize("changes", [{"enabled": False}, {"pause": Pause(START)}, {"settled_at": NOW + 1}])
def test_a_run_by_hand_is_granted_whatever_keeps_ticks_from_running_and_handles_none(changes: dict[str, Any]) -> None:
    record, request = recorded(**changes), want(None)
    assert ask(record, request) == ClaimResult("granted", START, TOKEN)
    assert (record.last_handled, record.leases) == (START, {"r2": given(request, START)})


def test_the_ticks_of_a_job_that_is_paused_are_left() -> None:
    record = recorded(pause=Pause(START))
    assert ask(record, want()) == ClaimResult("paused")
    assert (record.last_handled, record.leases) == (START, None)


BUSY = ClaimResult("busy", START, holder="r1")
GRANTED = ClaimResult("granted", START, TOKEN)


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        (want(overlap="queue"), BUSY),
        (want(overlap="skip"), ClaimResult("busy", START, TOKEN, "r1", skipped=True)),
        (want(overlap="allow"), GRANTED),
        (want(missed="misfire_grace_time"), GRANTED),
        (want(None), BUSY),
        (want(None, overlap="queue"), BUSY),
        (want(None, overlap="allow"), GRANTED),
        (want(None, force=True), GRANTED._replace(holder="r1")),
    ],
)
def test_what_overlap_and_force_make_of_a_job_that_is_running(request_: ClaimRequest, answer: ClaimResult) -> None:
    running = lease()
    record = recorded(lease("missed", missed="paused"), lease("dead", "z"), running, lease("second"))
    before = dict(record.leases or {})
    assert ask(record, request_) == answer
    if answer.skipped:
        request_ = request_._replace(missed="overlap")
    assert record.leases == {**before, **({"r2": given(request_, START)} if answer.token else {})}
    assert record.last_handled == (SECOND if answer.token and request_.tick is not None else START)
    if answer.skipped:
        assert ask(record, want()) == ClaimResult("busy", START, TOKEN, skipped=True), "the same is asked again"


@pytest.mark.parametrize("held", [lease(missed="paused"), lease(instance="z"), lease(expires=NOW)])
def test_neither_missed_ticks_nor_the_dead_make_a_job_busy(held: Lease) -> None:
    assert ask(recorded(held), want()) == GRANTED
    assert ask(recorded(held), want(None, force=True)) == GRANTED


# Recovered


def rerun(**changes: Any) -> ClaimRequest:
    return want(START, replaces="r1", attempt=2)._replace(**changes)


@pytest.mark.parametrize("holder", ["z", "b"])
def test_the_run_of_an_instance_that_is_dead_or_ones_own_is_recovered_with_its_ticks(holder: str) -> None:
    record = recorded(lease(instance=holder))
    assert ask(record, rerun()) == ClaimResult("granted", START - 60, TOKEN)
    assert (record.last_handled, record.leases) == (START, {"r2": given(rerun(), START - 60)})


@pytest.mark.parametrize(
    ("record", "request_"),
    [
        (recorded(), rerun()),
        (recorded(lease()), rerun()),
        (recorded(lease(instance="z")), rerun(replaces="another")),
        (recorded(lease("", "z")), rerun(replaces="none")),
    ],
)
def test_what_lives_or_is_gone_is_not_recovered(record: JobRecord, request_: ClaimRequest) -> None:
    before = dict(record.leases or {})
    assert ask(record, request_) == ClaimResult("stale", START)
    assert (record.leases or {}) == before


@pytest.mark.parametrize(("overlap", "answer"), [("skip", "busy"), ("queue", "busy"), ("allow", "granted")])
def test_a_run_is_recovered_while_another_one_runs_only_where_they_may_overlap(overlap: Overlap, answer: str) -> None:
    record = recorded(lease(instance="b"), lease("other"))
    assert ask(record, rerun(overlap=overlap)) == (
        ClaimResult("busy", START, holder="other") if answer == "busy" else ClaimResult("granted", START - 60, TOKEN)
    )
    assert set(record.leases or {}) == ({"r1", "other"} if answer == "busy" else {"other", "r2"})


@pytest.mark.parametrize(
    ("record", "asks"),
    [
        (recorded(), False),
        (recorded(lease()), True),
        (recorded(schedule="* * * * *"), True),
        (recorded(timezone="Europe/Paris"), True),
        (recorded(enabled=False), True),
        (recorded(arguments="5cd9b1e0"), True),
        (recorded(arguments=""), False),
        (recorded(arguments=None), False),
    ],
)
def test_a_store_loads_its_instances_where_the_answer_may_depend_on_who_lives(record: JobRecord, asks: bool) -> None:
    assert lock_rule.asks_who_is_alive({"job": record}, want(arguments="")) is asks
    assert lock_rule.asks_who_is_alive({"other": record}, want(arguments="")) is False


@pytest.mark.parametrize(("known", "said"), [(None, "5cd9b1e0"), ("5cd9b1e0", None), ("5cd9b1e0", "5cd9b1e0")])
def test_arguments_that_are_not_known_or_not_said_are_in_force(known: str | None, said: str | None) -> None:
    assert ask(recorded(arguments=known), want(arguments=said)) == ClaimResult("granted", START, TOKEN)


# Again


def test_a_tick_that_is_run_again_leaves_the_last_handled_one_and_answers_for_none() -> None:
    record, request = recorded(), want(START - 7200, again=True)
    before = replace(record)
    assert ask(record, request) == ClaimResult("granted", START - 7200, TOKEN)
    assert record == replace(before, token=TOKEN, leases={"r2": given(request, START - 7200)})
    assert record.leases is not None
    assert record.leases["r2"].again


@pytest.mark.parametrize("changes", [{"pause": Pause(NOW - 5)}, {"enabled": False}], ids=["paused", "disabled"])
def test_ticks_of_jobs_that_claim_none_can_be_run_again(changes: dict[str, Any]) -> None:
    assert ask(recorded(**changes), want(START, again=True)).outcome == "granted"


@pytest.mark.parametrize("alive", ["ab", "b"], ids=["alive", "dead"])
@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("overlap", ["skip", "queue", "allow"])
def test_a_tick_is_not_run_again_while_a_run_has_a_lease_of_it(overlap: Overlap, force: bool, alive: str) -> None:
    busy = ClaimResult("busy", START, holder="r1")
    for tick in (START - 59, START):
        request = want(tick, again=True, overlap=overlap, force=force)
        assert ask(recorded(lease()), request, alive=alive) == busy


@pytest.mark.parametrize("tick", [START - 60, START + 1])
def test_a_tick_is_run_again_beside_runs_of_other_ticks_where_runs_may_overlap(tick: int) -> None:
    assert ask(recorded(lease()), want(tick, again=True)).outcome == "busy"
    assert ask(recorded(lease()), want(tick, again=True), alive="b").outcome == "granted"
    assert ask(recorded(lease()), want(tick, again=True, overlap="allow")).outcome == "granted"
    manual = lease(tick=None, after=START)
    assert ask(recorded(manual), want(tick, again=True, overlap="allow")).outcome == "granted"
    missed = lease(missed="overlap")
    assert ask(recorded(missed), want(START, again=True)).outcome == "granted"


def test_ticks_of_a_job_are_run_again_one_at_a_time() -> None:
    running = lease(tick=START - 7200, after=START - 7200)
    assert ask(recorded(running), want(START, again=True, overlap="allow")).outcome == "busy"
    assert ask(recorded(running), want(overlap="allow")).outcome == "granted", "ticks that are due don't wait for it"


@pytest.mark.parametrize("overlap", ["skip", "queue"])
def test_a_tick_that_is_due_is_not_skipped_for_one_that_is_run_again(overlap: Overlap) -> None:
    record = recorded(lease(tick=START - 7200, after=START - 7200))
    assert ask(record, want(overlap=overlap)) == ClaimResult("busy", START, holder="r1")
    assert record.last_handled == START
