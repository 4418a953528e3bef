"""LeaseBook: whatever happens on the way to the store, no lease is trusted that another instance can have by then."""

from __future__ import annotations

from typing import NamedTuple

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from fastapi_crons.locking import LeaseTerms
from fastapi_crons.locking.leases import LeaseBook
from tests.support import examples
from tests.unit.leases.book import BEAT, Time, hold, ref


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
