"""LeaseBook: a lease is trusted only as long as no other instance can have it, and doubted until the store has spoken."""

from __future__ import annotations

from math import inf

import pytest

from fastapi_crons.locking import ClaimResult, LeaseRef, Reach
from tests.unit.leases.book import BEAT, Time, book_of, hold, on_record, ref, request


def test_leases_are_trusted_until_shortly_before_the_store_may_take_us_for_dead(time: Time) -> None:
    book = book_of(time)
    hold(book, "run", 100)
    assert book.trusted_until == 100 + 10 - 1 - 1  # a margin of a second, and a second to ask
    book.lived(104)
    assert book.trusted_until == 112
    book.lived(103)  # an answer that was overtaken
    assert book.trusted_until == 112
    time.now = 111.99
    assert book.trusts("run")
    time.now = 112
    assert not book.trusts("run")


def test_leases_are_trusted_until_shortly_before_they_expire(time: Time) -> None:
    book = book_of(time, lease=20, instance=60)
    hold(book, "run", 100)
    book.lived(115)
    assert book.trusted_until == 118
    book.renewed(110)
    assert book.trusted_until == 128


def test_short_terms_have_a_margin_and_a_time_to_ask_that_fit_them(time: Time) -> None:
    book = book_of(time, lease=2, instance=4)
    assert book.asked_before == 0.5
    assert book.trusted_until == 100 + 2 - 0.2 - 0.5
    assert book_of(time, lease=4, instance=2).trusted_until == 100 + 2 - 0.2 - 0.5


@pytest.mark.parametrize("reach", ["process", "host"])
def test_where_the_process_is_the_evidence_its_leases_are_trusted_while_it_lives(time: Time, reach: Reach) -> None:
    book = book_of(time, reach=reach)
    book.hold(ref("run"))
    time.now += 1e6
    book.doubt()
    assert (book.trusted_until, book.trusts("run"), book.is_in_doubt) == (inf, True, False)


def test_a_lease_of_before_the_end_of_trust_stays_in_doubt_until_the_store_has_said_whose_it_is(time: Time) -> None:
    book = book_of(time)
    hold(book, "old", 100)
    time.now = 109
    book.lived(109)  # a heartbeat says that we live, and nothing of leases
    hold(book, "new", 109)
    assert (book.trusts("old"), book.trusts("new"), book.is_open("old"), book.is_open("new")) == (
        False,
        True,
        True,
        False,
    )
    assert book.is_in_doubt
    book.confirm(109, [ref("old")], [True])
    book.renewed(109)
    assert (book.trusts("old"), book.is_open("old"), book.is_in_doubt) == (True, False, False)


def test_an_answer_to_what_was_asked_before_the_end_of_trust_gives_no_trust_back(time: Time) -> None:
    book = book_of(time)
    hold(book, "run", 100)
    time.now = 108
    book.doubt()
    book.confirm(107.9, [ref("run")], [True])
    book.renewed(107.9)
    book.lived(108)
    assert book.is_in_doubt
    assert not book.trusts("run")
    book.confirm(108, [ref("run")], [True])
    book.renewed(108)
    assert book.trusts("run")
    assert not book.is_in_doubt


def test_a_grant_that_is_older_than_the_end_of_trust_is_in_doubt_from_the_start(time: Time) -> None:
    book = book_of(time)
    book.claiming(["run"])
    book.answered(100, [request("run")], [ClaimResult("granted", token=1)])
    book.lived(100)
    time.now = 160  # suspended
    book.lived(160)
    book.hold(ref("run"))
    assert book.is_open("run")


def test_the_store_is_asked_once_for_each_time_that_leases_are_in_doubt(time: Time) -> None:
    book = book_of(time)
    assert not book.ask()
    time.now = 107.9
    hold(book, "run", 100)
    book.doubt()
    assert (book.is_in_doubt, book.ask()) == (False, False)
    time.now = 108
    book.doubt()
    assert [book.ask(), book.ask(), book.is_in_doubt] == [True, False, True]
    book.lived(111)
    time.now = 120
    book.doubt()
    assert not book.ask(), "there was no answer to the first question yet"
    book.renewed(120)
    book.lived(120)
    time.now = 129
    book.doubt()
    assert book.ask()


def test_without_leases_there_is_nothing_to_ask(time: Time) -> None:
    book = book_of(time)
    time.now = 200
    book.doubt()
    assert not book.ask()
    hold(book, "run", 100)
    assert book.ask()


def test_after_a_long_silence_others_get_one_heartbeat_to_come_back(time: Time) -> None:
    book = book_of(time)
    assert not book.is_just_back
    time.now = 109.9
    book.lived(109.9)
    assert not book.is_just_back
    time.now = 119.9
    book.lived(119.9)
    assert book.is_just_back
    time.now = 120.9
    assert not book.is_just_back


def test_a_lease_that_the_store_refuses_is_open_until_it_is_had_back_or_lost(time: Time) -> None:
    book = book_of(time)
    hold(book, "back", 100)
    hold(book, "lost", 100)
    hold(book, "ours", 100)
    leases = [ref("back"), ref("lost"), ref("ours"), ref("over by now")]
    assert book.confirm(101, leases, [False, False, True, False]) == leases[:2]
    assert [book.is_open(each) for each in ("back", "lost", "ours")] == [True, True, False]
    time.now = 109
    book.doubt()
    assert book.is_open("ours")
    assert book.confirm(109, [ref("back")], [True]) == []
    book.lived(109)
    book.lose("lost")
    assert book.is_lost("lost")
    assert not book.is_lost("back")
    assert (book.trusts("back"), book.is_open("lost")) == (True, False)
    assert book.confirm(109, [ref("lost")], [False]) == [], "that is known already"


def test_once_a_stop_has_begun_no_answer_is_worth_waiting_for(time: Time) -> None:
    book = book_of(time)
    hold(book, "run", 100)
    time.now = 120
    assert book.is_open("run")
    book.stop()
    assert not book.is_open("run")
    assert not book.trusts("run")


def test_a_lease_that_the_store_refused_after_the_end_of_trust_stays_in_doubt(time: Time) -> None:
    book = book_of(time)
    hold(book, "run", 100)
    time.now = 109
    book.doubt()
    assert book.confirm(109, [ref("run")], [False]) == [ref("run")]
    book.renewed(109)
    book.lived(109)
    assert (book.is_in_doubt, book.trusts("run"), book.is_open("run")) == (False, False, True)


def test_an_answer_that_was_overtaken_takes_no_trust_away(time: Time) -> None:
    book = book_of(time)
    hold(book, "run", 100)
    time.now = 109
    book.lived(109)
    assert book.confirm(109, [ref("run")], [True]) == []
    assert book.confirm(107, [ref("run")], [True]) == []
    assert book.trusts("run")


@pytest.mark.parametrize("given_up", [False, True])
def test_a_held_lease_that_is_claimed_again_is_in_doubt_until_the_store_has_said_that_it_is_ours(
    time: Time, given_up: bool
) -> None:
    book = book_of(time)
    hold(book, "run", 100)
    time.now = 109
    book.lived(109)
    book.claiming(["run"])
    if given_up:
        book.unanswered(["run"])
    assert not book.trusts("run")
    assert book.confirm(110, [ref("run")], [True]) == []
    assert book.trusts("run")
    time.now = 118
    book.lived(118)
    assert not book.trusts("run"), "trust has ended again"


def test_each_end_of_trust_is_doubted_once(time: Time) -> None:
    book = book_of(time)
    hold(book, "run", 100)
    time.now = 108
    book.doubt()
    assert book.ask()
    book.confirm(108, [ref("run")], [True])
    book.renewed(108)  # the answer to the heartbeat is still on its way
    book.doubt()
    assert (book.is_in_doubt, book.ask()) == (False, False)


@pytest.mark.parametrize("ours", [False, True])
def test_what_the_store_says_of_leases_that_are_not_held_is_forgotten(time: Time, ours: bool) -> None:
    book = book_of(time)
    assert book.confirm(100, [ref("over by now")], [ours]) == []
    assert not book.trusts("over by now")
    book.strays([on_record("over by now")])
    time.now += BEAT
    assert book.strays([on_record("over by now")])


def test_a_lease_may_be_dropped_while_its_confirmation_is_written_down(
    time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    book = book_of(time)
    hold(book, "run", 100)

    class Held(dict[str, LeaseRef]):
        def __contains__(self, run_id: object) -> bool:
            book.drop("run")  # as the event loop may, while the heartbeat's thread is here
            return super().__contains__(run_id)

    monkeypatch.setattr(book, "_held", Held(run=ref("run")))
    assert book.confirm(101, [ref("run")], [False]) == []
    assert not book.trusts("run")


def test_an_answer_for_more_or_fewer_leases_than_were_asked_for_is_an_error(time: Time) -> None:
    book = book_of(time)
    with pytest.raises(ValueError, match="shorter"):
        book.answered(100, [request("one"), request("two")], [ClaimResult("granted", token=1)])
    with pytest.raises(ValueError, match="shorter"):
        book.confirm(100, [ref("one"), ref("two")], [True])
