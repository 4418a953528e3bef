"""The rule of lock stores: what is registered, paused, renewed, released and cancelled, and what is on record then."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from fastapi_crons.locking import (
    ClaimRequest,
    Definition,
    KnownJob,
    LeaseRef,
    Pause,
    PauseRequest,
    Registered,
    Replaced,
    Resumed,
    ResumeRequest,
)
from fastapi_crons.locking import rule as lock_rule
from fastapi_crons.locking.rule import LIMITS, JobRecord
from tests.unit.locking.records import (
    AFTER_SINCE,
    HOURLY,
    NOW,
    SECOND,
    START,
    TERM,
    TOKEN,
    given,
    lease,
    recorded,
)

OURS = Definition("job", *HOURLY, "m:f", nonce="n1")
EDITED = OURS._replace(schedule="*/5 * * * *")


def register(record: JobRecord, definition: Definition = OURS, owner: str = "a") -> Registered:
    return lock_rule.register({"job": record}, definition, owner, NOW, TERM)


# Registered


def test_a_job_that_is_new_has_no_past() -> None:
    records: dict[str, JobRecord] = {}
    assert lock_rule.register(records, OURS, "a", NOW, TERM) == Registered(SECOND)
    assert records == {"job": JobRecord(*HOURLY, "m:f", True, ("a",), SECOND, NOW, registered_at=NOW)}


@pytest.mark.parametrize(
    ("known", "resumed"), [(START, START), (SECOND + 3_600, SECOND + 3_600), (SECOND + 3_601, SECOND)]
)
def test_a_store_that_lost_its_records_resumes_from_what_is_known_and_waits_for_more(known: int, resumed: int) -> None:
    records: dict[str, JobRecord] = {}
    held = lease(token=9)
    definition = OURS._replace(last_handled=known, held=(held,))
    assert lock_rule.register(records, definition, "a", NOW, TERM) == Registered(resumed)
    assert records["job"] == JobRecord(
        *HOURLY, "m:f", True, ("a",), resumed, NOW, 9, NOW + LIMITS["QUARANTINE"], NOW, None, {"r1": held}
    )


def test_a_definition_that_is_in_force_changes_only_when_it_was_registered() -> None:
    record = recorded(lease(), registrars=("z", "a"))
    before = replace(record)
    assert register(record) == Registered(START)
    assert record == replace(before, registered_at=NOW)


def test_the_instances_that_registered_a_definition_last_are_remembered() -> None:
    first = tuple(f"i{number}" for number in range(LIMITS["MAX_REGISTRARS"]))
    record = recorded(registrars=first)
    register(record)
    assert record.registrars == (*first[1:], "a")
    record = recorded()
    register(record, owner="b")
    assert record.registrars == ("a", "b")


def test_another_function_of_the_name_is_told_and_on_record() -> None:
    record = recorded()
    assert register(record, OURS._replace(function="other:f")) == Registered(START, None, "m:f")
    assert record.function == "other:f"


@pytest.mark.parametrize(("known", "last"), [(START + 50, START + 50), (START - 50, START), (SECOND + 3_601, START)])
def test_the_newest_tick_that_can_be_right_is_the_last_handled_one(known: int, last: int) -> None:
    record = recorded()
    assert register(record, OURS._replace(last_handled=known)) == Registered(last)
    assert record.last_handled == last


def test_a_last_handled_tick_that_a_wrong_clock_set_is_reset_to_now() -> None:
    ahead = SECOND + 3_601
    record = recorded(last_handled=ahead)
    assert register(record) == Registered(SECOND, reset_from=ahead)
    assert record.last_handled == SECOND
    assert register(recorded(last_handled=ahead - 1)) == Registered(ahead - 1)


@pytest.mark.parametrize(("ahead", "credible"), [(3_600, True), (3_601, False)])
def test_a_last_handled_tick_may_be_an_hour_ahead(ahead: int, credible: bool) -> None:
    assert lock_rule.is_credible(START + ahead, START) is credible


def test_leases_that_the_store_lost_are_restored_unless_it_has_granted_a_later_one() -> None:
    ours = lease("kept", token=7)
    record = recorded(ours)
    lost, old = lease("lost", token=8), lease("old", token=8)
    register(record, OURS._replace(held=(lost, old)))
    assert (record.leases, record.token) == ({"kept": ours, "lost": lost}, 8)


@pytest.mark.parametrize(
    ("definition", "changes", "reason"),
    [
        (EDITED, {}, "schedule_changed"),
        (OURS._replace(timezone="Europe/Paris"), {}, "schedule_changed"),
        (OURS._replace(enabled=False), {}, "disabled"),
        (EDITED._replace(enabled=False), {}, "schedule_changed"),
        (OURS, {"enabled": False}, "disabled"),
        (EDITED, {"enabled": False}, "disabled"),
        (EDITED, {"pause": Pause(START, "ops")}, "paused"),
        (OURS._replace(enabled=False), {"pause": Pause(START, "ops")}, "disabled"),
    ],
)
def test_what_a_replaced_definition_had_due_is_missed_for_the_reason_that_kept_it_from_running(
    definition: Definition, changes: dict[str, Any], reason: Any
) -> None:
    record = recorded(**changes)
    before = replace(record)
    assert register(record, definition, "b") == Registered(SECOND, Replaced(*HOURLY, START, reason, TOKEN, AFTER_SINCE))
    missed = given(ClaimRequest("job", "n1", SECOND, *HOURLY, missed=reason), START)
    assert record == replace(
        before,
        schedule=definition.schedule,
        timezone=definition.timezone,
        enabled=definition.enabled,
        registrars=("b",),
        last_handled=SECOND,
        since=NOW,
        token=TOKEN,
        registered_at=NOW,
        leases={"n1": missed},
    )
    assert register(record, definition, "b") == Registered(SECOND, Replaced(*HOURLY, START, reason, TOKEN)), "again"


def test_other_arguments_are_another_definition_with_the_same_ticks() -> None:
    record = recorded(arguments="", registrars=("a", "c"))
    before = replace(record)
    edited = OURS._replace(arguments="5cd9b1e0")
    assert register(record, edited) == Registered(START, other_arguments=True)
    assert record == replace(before, arguments="5cd9b1e0", registrars=("a",), registered_at=NOW)
    assert register(record, edited) == Registered(START)
    assert register(record, edited, "b") == Registered(START)
    assert record.registrars == ("a", "b")


def test_arguments_that_are_edited_with_the_schedule_come_into_force_with_it() -> None:
    record = recorded(arguments="")
    assert register(record, EDITED._replace(arguments="5cd9b1e0")).replaced is not None
    assert record.arguments == "5cd9b1e0"


@pytest.mark.parametrize(("known", "said"), [(None, ""), (None, "5cd9b1e0"), ("", None), ("5cd9b1e0", None)])
def test_arguments_that_are_not_known_yet_or_not_said_are_no_edit(known: str | None, said: str | None) -> None:
    record = recorded(arguments=known)
    assert register(record, OURS._replace(arguments=said), "b") == Registered(START)
    assert (record.arguments, record.registrars) == (known if said is None else said, ("a", "b"))


@pytest.mark.parametrize(
    ("at_start", "lives", "starts"), [("fleet", True, False), ("fleet", False, True), ("deploy", False, False)]
)
def test_a_job_that_is_due_at_starts_does_not_start_again_for_its_arguments(
    at_start: Any, lives: bool, starts: bool
) -> None:
    records = {"job": recorded(arguments="", since=START - 1.0)}
    definition = OURS._replace(arguments="5cd9b1e0", at_start=at_start)
    answer = lock_rule.register(records, definition, "b", NOW, TERM, lambda owner, expires: lives)
    assert answer == Registered(START, start=SECOND + 1 if starts else START, other_arguments=True)


@pytest.mark.parametrize(
    ("nonce", "last", "then"), [("", START, SECOND), ("n1", SECOND, SECOND), ("n1", SECOND + 1, SECOND + 1)]
)
def test_a_replaced_definition_without_ticks_to_record_needs_no_lease(nonce: str, last: int, then: int) -> None:
    record = recorded(last_handled=last)
    assert register(record, EDITED._replace(nonce=nonce)) == Registered(
        then, Replaced(*HOURLY, last, start=AFTER_SINCE)
    )
    assert (record.leases, record.token, record.last_handled) == (None, 7, then)


def test_a_nonce_that_is_the_id_of_a_run_is_no_repeated_registration() -> None:
    assert register(recorded(lease("n1"))) == Registered(START)


# Paused and resumed


def test_a_pause_is_begun_once_and_keeps_who_began_it() -> None:
    record = recorded()
    assert lock_rule.pause({"job": record}, PauseRequest("job", "ops", "why"), NOW) == Pause(NOW, "ops", "why")
    assert record.pause == Pause(NOW, "ops", "why")
    assert lock_rule.pause({"job": record}, PauseRequest("job", "dev"), NOW + 1) == Pause(NOW, "ops", "why")
    assert lock_rule.pause({"job": record}, PauseRequest("other"), NOW) is None


PAUSE = Pause(START + 5, "ops", "why")


def resume(record: JobRecord, **changes: Any) -> Resumed | None:
    return lock_rule.resume({"job": record}, ResumeRequest("job", "n1")._replace(**changes), "b", NOW, TERM)


def test_the_ticks_of_a_pause_that_ends_are_missed() -> None:
    record = recorded(pause=PAUSE)
    assert resume(record) == Resumed(PAUSE, *HOURLY, START, SECOND, TOKEN, AFTER_SINCE)
    missed = given(ClaimRequest("job", "n1", SECOND, *HOURLY, missed="paused"), START)
    assert (record.pause, record.last_handled, record.leases) == (None, SECOND, {"n1": missed})
    assert resume(record) == Resumed(Pause(0.0), *HOURLY, START, SECOND, TOKEN, AFTER_SINCE), "the same is asked again"
    assert resume(record, nonce="n2") is None
    assert resume(record, job="other") is None


@pytest.mark.parametrize(
    ("record", "catch_up"),
    [
        (recorded(pause=PAUSE), True),
        (recorded(pause=PAUSE, enabled=False), False),
        (recorded(pause=PAUSE, last_handled=SECOND), False),
        (recorded(pause=PAUSE, last_handled=SECOND + 1), False),
    ],
)
def test_a_pause_that_kept_no_tick_from_running_ends_without_a_lease(record: JobRecord, catch_up: bool) -> None:
    last = record.last_handled
    assert resume(record, catch_up=catch_up) == Resumed(PAUSE, *HOURLY, last, last, 0, AFTER_SINCE)
    assert (record.pause, record.last_handled, record.leases) == (None, last, None)


# Leases


@pytest.mark.parametrize(("run_id", "token"), [("r1", 6), ("r1", 8), ("r2", 7)])
@pytest.mark.parametrize("do", [lock_rule.release, lambda records, ref: lock_rule.renew(records, ref, NOW, TERM)])
def test_only_who_has_the_token_can_renew_or_release_a_lease(do: Callable[..., bool], run_id: str, token: int) -> None:
    record = recorded(lease())
    assert do({"job": record}, LeaseRef("job", run_id, token)) is False
    assert do({"job": recorded()}, LeaseRef("job", run_id, token)) is False
    assert do({"other": record}, LeaseRef("job", "r1", 7)) is False
    assert record == recorded(lease())


def test_a_lease_that_is_released_is_off_the_record() -> None:
    record = recorded(lease(), lease("other"))
    assert lock_rule.release({"job": record}, LeaseRef("job", "r1", 7)) is True
    assert record.leases == {"other": lease("other")}


@pytest.mark.parametrize(("expires", "then"), [(NOW + 60, NOW + TERM), (NOW + 500, NOW + 500)])
def test_a_lease_is_renewed_for_a_full_term_and_never_shortened(expires: float, then: float) -> None:
    record = recorded(lease(expires=expires), lease("other"))
    assert lock_rule.renew({"job": record}, LeaseRef("job", "r1", 7), NOW, TERM) is True
    assert record.leases == {"r1": lease(expires=then), "other": lease("other")}


def test_a_run_that_is_to_be_cancelled_is_found_in_whatever_job_it_is() -> None:
    records = {
        "idle": recorded(),
        "other": recorded(lease("x")),
        "job": recorded(lease("missed", missed="paused"), lease()),
    }
    assert lock_rule.cancel(records, "r1", "ops") is True
    assert (records["job"].leases or {})["r1"] == lease(cancelled=True, cancelled_by="ops")
    assert lock_rule.cancel(records, "missed", "ops") is False
    assert lock_rule.cancel(records, "r9", "ops") is False


def test_a_job_is_known_with_all_its_leases() -> None:
    record = recorded(lease(), lease("r2"), pause=PAUSE)
    basics = ("job", *HOURLY, "m:f", True, START, START - 10.5)
    registrars = record.registrars
    assert registrars
    assert record.known("job") == KnownJob(*basics, PAUSE, (lease(), lease("r2")), None, registrars, record.token)
    record = replace(recorded(), arguments="0badcafe")
    assert record.known("job") == KnownJob(*basics, arguments="0badcafe", registrars=registrars, token=record.token)
