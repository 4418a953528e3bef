"""LeaseBook: what is claimed, held and released, and that a lease is trusted only as long as nobody else can have it."""

from __future__ import annotations

from math import inf
from typing import NamedTuple

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from fastapi_crons.locking import ClaimRequest, ClaimResult, Lease, LeaseRef, LeaseTerms, Reach
from fastapi_crons.locking.leases import _REMEMBERED, LeaseBook
from tests.support import examples

BEAT = 1.0


class Time:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


def book_of(time: Time, lease: float = 60.0, instance: float = 10.0, reach: Reach = "fleet") -> LeaseBook:
    return LeaseBook(reach, LeaseTerms(lease, instance), BEAT, time)


def ref(run_id: str) -> LeaseRef:
    return LeaseRef("job", run_id, 1)


def on_record(run_id: str) -> Lease:
    return Lease("job", run_id, 60, "us~1", 1, 1, 1e9)


def request(run_id: str) -> ClaimRequest:
    return ClaimRequest("job", run_id, 60, "* * * * *", "UTC")


def hold(book: LeaseBook, run_id: str, sent: float) -> None:
    """A claim that was sent then is granted, and its run starts."""
    book.claiming([run_id])
    book.answered(sent, [request(run_id)], [ClaimResult("granted", token=1)])
    book.lived(sent)
    book.hold(ref(run_id))


# The trust window


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


# Claimed, held, released


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


# A walk: whatever happens on the way to the store, no lease is trusted that another instance can have by then


class Sent(NamedTuple):
    kind: str
    at: float
    runs: tuple[str, ...] = ()


class Walk(RuleBasedStateMachine):
    """One instance and a store, with requests and answers that take their time, are lost, or overtake each other.

    The store is as bad as it may be: the moment that it may take the instance for dead, another one has all its leases.
    """

    def __init__(self) -> None:
        super().__init__()
        self.time = Time()
        self.terms = LeaseTerms(lease=20, instance=8)
        self.book = LeaseBook("fleet", self.terms, BEAT, self.time)
        self.sent: list[Sent] = []
        self.answers: list[tuple[Sent, tuple[bool, ...]]] = []
        self.number = 0
        #: What the store has on record as ours, by run, and until when; and when it learned last that we live.
        self.record: dict[str, float] = {}
        self.lived = self.time.now

    @rule(seconds=st.one_of(st.sampled_from([0.01, 0.5, 1, 2, 4, 6, 8]), st.floats(0.01, 25)))
    def time_passes(self, seconds: float) -> None:
        self.time.now += seconds
        if self.time.now - self.lived >= self.terms.instance:
            self.record.clear()
        self.record = {run: expires for run, expires in self.record.items() if self.time.now < expires}

    @rule()
    def heartbeat(self) -> None:
        self.sent.append(Sent("beat", self.time.now))

    @rule()
    def renewal(self) -> None:
        self.sent.append(Sent("renew", self.time.now, tuple(lease.run_id for lease in self.book.held())))

    @rule()
    def claim(self) -> None:
        self.number += 1
        run = f"run {self.number}"
        self.book.claiming([run])
        self.sent.append(Sent("claim", self.time.now, (run,)))

    @precondition(lambda self: self.sent)
    @rule(data=st.data(), lost=st.integers(0, 5))
    def arrives(self, data: st.DataObject, lost: int) -> None:
        """A request reaches the store, or is lost before or after."""
        sent = self.sent.pop(data.draw(st.integers(0, len(self.sent) - 1)))
        results: tuple[bool, ...] = ()
        if lost != 0:
            expires = self.time.now + self.terms.lease
            if sent.kind == "renew":
                results = tuple(run in self.record for run in sent.runs)
                self.record.update({run: expires for run in sent.runs if run in self.record})
            else:
                self.lived = self.time.now
                self.record.update(dict.fromkeys(sent.runs, expires))
        if lost > 1:
            self.answers.append((sent, results))
        elif sent.kind == "claim":
            self.book.unanswered(sent.runs)

    @precondition(lambda self: self.answers)
    @rule(data=st.data())
    def is_answered(self, data: st.DataObject) -> None:
        sent, results = self.answers.pop(data.draw(st.integers(0, len(self.answers) - 1)))
        if sent.kind == "renew":
            self.book.confirm(sent.at, [ref(run) for run in sent.runs], results)
            self.book.renewed(sent.at)
        elif sent.kind == "beat":
            self.book.lived(sent.at)
        else:
            hold(self.book, sent.runs[0], sent.at)

    @precondition(lambda self: self.book.held())
    @rule()
    def run_ends(self) -> None:
        lease = self.book.held()[0]
        self.book.releasing(lease)
        self.record.pop(lease.run_id, None)
        self.book.released([lease])

    @rule()
    def doubt(self) -> None:
        self.book.doubt()
        self.book.ask()

    @rule()
    def the_store_answers_at_once(self) -> None:
        """Then nothing is left in doubt, and what it has as ours is trusted."""
        self.book.lived(self.time.now)
        self.lived = self.time.now
        leases = self.book.held()
        self.record.update(dict.fromkeys(self.record, self.time.now + self.terms.lease))
        self.book.confirm(self.time.now, leases, [lease.run_id in self.record for lease in leases])
        self.book.renewed(self.time.now)
        assert not self.book.is_in_doubt
        for lease in leases:
            assert self.book.trusts(lease.run_id) == (lease.run_id in self.record)

    @invariant()
    def no_lease_is_trusted_that_is_another_s(self) -> None:
        for lease in self.book.held():
            assert not self.book.trusts(lease.run_id) or lease.run_id in self.record


TestWalk = Walk.TestCase
TestWalk.settings = settings(max_examples=examples(60), stateful_step_count=60, deadline=None)
