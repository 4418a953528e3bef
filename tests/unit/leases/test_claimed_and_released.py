"""LeaseBook: what is claimed, held, released, and left over."""

from __future__ import annotations

import pytest

from fastapi_crons.locking import ClaimResult, LeaseRef
from fastapi_crons.locking.leases import _REMEMBERED
from tests.unit.leases.book import BEAT, Time, book_of, hold, on_record, ref, request


def test_what_is_not_known_is_refused_given_up_released_and_dropped_without_effect(time: Time) -> None:
    book = book_of(time)
    book.claiming(["run"])
    book.unanswered(["run"])
    book.unanswered(["run"])
    book.answered(100, [request("run")], [ClaimResult("busy", holder="other")])
    book.drop("run")
    book.released([ref("run")])
    assert (len(book), book.held(), book.trusts("run"), book.has_ended("run")) == (0, [], False, False)


def test_a_lease_is_known_from_its_claim_to_its_release_and_a_stray_after_that(time: Time) -> None:
    book = book_of(time)

    def is_stray() -> bool:
        assert book.strays([on_record("run")]) == []
        time.now += 0.51 * BEAT
        return book.strays([on_record("run")]) == [on_record("run")]

    assert is_stray()
    book.claiming(["run"])
    assert not is_stray()
    book.answered(time.now, [request("run")], [ClaimResult("granted", token=1)])
    assert not is_stray()
    book.hold(ref("run"))
    assert (book.held(), len(book)) == ([ref("run")], 1)
    assert not is_stray()
    book.releasing(ref("run"))
    assert (book.held(), len(book)) == ([], 1)
    assert not is_stray(), "its release is on its way"
    book.released([ref("run")])
    assert len(book) == 0
    assert is_stray()


def test_what_is_seen_for_a_moment_only_is_no_stray(time: Time) -> None:
    book = book_of(time)
    assert book.strays([on_record("run")]) == []
    time.now += 0.5 * BEAT
    assert book.strays([on_record("run")]) == []
    assert book.strays([]) == []
    time.now += 0.5 * BEAT
    assert book.strays([on_record("run")]) == [], "it was gone meanwhile"


@pytest.mark.parametrize(
    "result",
    [
        ClaimResult("busy", holder="other"),
        ClaimResult("stale", 60),
        ClaimResult("unknown"),
        ClaimResult("not_in_force"),
    ],
)
def test_a_claim_that_is_refused_is_over(time: Time, result: ClaimResult) -> None:
    book = book_of(time)
    book.claiming(["run"])
    book.answered(100, [request("run")], [result])
    assert book.strays([on_record("run")]) == []
    time.now += BEAT
    assert book.strays([on_record("run")])


def test_a_claim_whose_answer_is_no_longer_waited_for_may_leave_a_stray(time: Time) -> None:
    book = book_of(time)
    book.claiming(["run"])
    book.unanswered(["run"])
    assert book.strays([on_record("run")]) == []
    time.now += BEAT
    assert book.strays([on_record("run")])


def test_the_lease_of_skipped_ticks_is_known_until_it_is_released(time: Time) -> None:
    book = book_of(time)
    book.claiming(["skipped"])
    book.answered(100, [request("skipped")], [ClaimResult("busy", 0, 7, "other", skipped=True)])
    time.now += BEAT
    book.strays([on_record("skipped")])
    time.now += BEAT
    assert book.strays([on_record("skipped")]) == []
    book.releasing(LeaseRef("job", "skipped", 7))
    book.released([LeaseRef("job", "skipped", 7)])
    assert (len(book), book.held()) == (0, [])
    book.strays([on_record("skipped")])
    time.now += BEAT
    assert book.strays([on_record("skipped")]), "the store has brought it back"


def test_a_lease_that_was_dropped_is_neither_held_nor_being_released(time: Time) -> None:
    book = book_of(time)
    hold(book, "run", 100)
    book.lose("run")
    book.drop("run")
    assert (len(book), book.held(), book.is_lost("run"), book.trusts("run")) == (0, [], False, False)
    book.lose("run")  # its run may be left behind at a stop, and go on
    assert not book.is_lost("run")


def test_what_ended_here_is_remembered_for_thousands_of_runs_and_then_forgotten(time: Time) -> None:
    book = book_of(time)
    for number in range(3 * _REMEMBERED):
        book.ended(f"run {number}")
    last = 3 * _REMEMBERED - 1
    assert book.has_ended(f"run {last}")
    assert book.has_ended(f"run {last - _REMEMBERED + 1}")
    assert not book.has_ended(f"run {last - _REMEMBERED}"), "two sets of so many at most"
    assert not book.has_ended("another")
