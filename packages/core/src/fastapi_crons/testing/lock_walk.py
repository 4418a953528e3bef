"""LockWalk: a random walk that holds a lock store against the rule, for a store in any language."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Coroutine
from dataclasses import replace
from math import inf
from typing import Any, ClassVar, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, run_state_machine_as_test
from hypothesis.stateful import rule as step

from fastapi_crons.clock import SystemClock
from fastapi_crons.job import Overlap
from fastapi_crons.locking import (
    ClaimRequest,
    Definition,
    KnownJob,
    Lease,
    LeaseRef,
    LeaseTerms,
    LockBackend,
    PauseRequest,
    ResumeRequest,
    rule,
)
from fastapi_crons.locking.base import AtStartOf
from fastapi_crons.locking.instance import DRAIN, Instance
from fastapi_crons.locking.restoring import restore
from fastapi_crons.run import MissedReason
from fastapi_crons.testing._walk_jobs import JobElsewhere, jobs_elsewhere

T = TypeVar("T")

TERMS = LeaseTerms(100, 30)
SCHEDULES = {"one": "* * * * *", "two": "Every(seconds=5, after='end')"}
JOBS = tuple(SCHEDULES)
#: The owners of the instances, and of one that is never there.
OWNERS = ("a", "b", "c")
GONE = "gone"
START = 1_800_000_000
owners, jobs, places = st.sampled_from(OWNERS), st.sampled_from(JOBS), st.integers(0, 1_000)
others = st.sampled_from([*[None] * 9, "0 * * * *"])
digests = st.sampled_from([None, None, "", "5cd9b1e0"])


class WalkClock(SystemClock):
    """A clock that a walk sets."""

    def __init__(self) -> None:
        self.time = float(START)

    def now(self) -> float:
        return self.time


class LockWalk:
    """Inherit from this in a test module, and say how your store is made; the rest is pytest's and hypothesis'.

        class TestMyWalk(LockWalk):
            def make_store(self) -> LockBackend:
                return MyLockBackend("localhost")

    Several instances do at random what instances do, on the store, and by `fastapi_crons.locking.rule` on plain records: all
    answers must be the same, and after each step what is on record. Where they are not, hypothesis looks for the shortest walk
    that shows it. Each walk has a namespace of its own.
    """

    #: How many walks there are, and the most steps of each.
    walks: ClassVar[int] = 25
    steps: ClassVar[int] = 40

    def make_store(self) -> LockBackend:
        """A new, unopened backend of the store that is to be tested."""
        raise NotImplementedError

    def set_time(self, store: LockBackend, now: float) -> None:
        """Set the clock of a store that has one of its own. Called before each call; others take the clock given to `open`."""

    def test_a_random_walk_is_answered_as_the_rule_says(self) -> None:
        machine = type("Walk", (_Walk,), {"tests": self})
        chosen = settings(
            max_examples=self.walks,
            stateful_step_count=self.steps,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        run_state_machine_as_test(machine, settings=chosen)


def _in_milliseconds(known: KnownJob) -> KnownJob:
    """A job without the last digits of sums of instants, and without what a store need not keep."""
    leases = sorted(lease._replace(expires=round(lease.expires, 3), cancelled_by=None) for lease in known.leases)
    return known._replace(since=round(known.since, 3), leases=tuple(leases))


class _Walk(RuleBasedStateMachine):
    """The steps. `records`, `beats` and `registered` are what must be on record."""

    tests: LockWalk

    @initialize()
    def begin(self) -> None:
        self.loop, self.clock = asyncio.new_event_loop(), WalkClock()
        self.asked = 0
        self.stores: dict[str, LockBackend] = {}
        self.open_stores()

    def open_stores(self) -> None:
        """Open an empty store for all instances."""
        self.records: dict[str, rule.JobRecord] = {}
        #: When an instance was last known to be alive; which have sent a heartbeat; which of them were silent for long.
        self.beats: dict[str, float] = {}
        self.known: set[str] = set()
        self.silent: set[str] = set()
        #: Jobs as they were on record once, and may be restored to.
        self.remembered: list[KnownJob] = []
        namespace, here = f"walk-{secrets.token_hex(6)}", Instance.of_this_process()
        for owner in OWNERS:
            store = self.tests.make_store()
            if store.reach == "process" and self.stores:
                continue
            instance = replace(here, id=owner, owner=owner, host=owner, boot="")
            self.tests.set_time(store, self.clock.time)
            self.do(store.open(instance, namespace, TERMS, self.clock))
            self.stores[owner] = store
        self.shared = len(self.stores) > 1
        for owner in self.stores:
            self.beat(owner)
        for job in JOBS:
            self.register("a", job, None, True)

    def close_stores(self) -> None:
        for store in self.stores.values():
            self.do(store.leave())
            self.do(store.close())
        self.stores = {}

    def teardown(self) -> None:
        if hasattr(self, "loop"):
            self.close_stores()
            self.loop.close()

    def do(self, call: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(call)

    def at(self, owner: str) -> tuple[LockBackend, str]:
        """The store of an instance, and its owner; a store for one process has one."""
        owner = owner if owner in self.stores else "a"
        self.tests.set_time(self.stores[owner], self.clock.time)
        return self.stores[owner], owner

    def as_living(self, owner: str) -> tuple[LockBackend, str]:
        """The store of an instance for a call that counts as a heartbeat. One that the store does not know sends one before."""
        store, owner = self.at(owner)
        if self.shared and owner not in self.known:
            self.beat(owner)
        self.beats[owner] = self.clock.time
        return store, owner

    def alive(self, me: str) -> rule.Alive:
        def lives(owner: str, expires: float) -> bool:
            beat, now = self.beats.get(owner), self.clock.time
            return owner == me or (beat is not None and now < expires and now - beat < TERMS.instance)

        return lives

    def new_id(self) -> str:
        self.asked += 1
        return f"id-{self.asked:04}"

    def leases(self) -> list[Lease]:
        return [lease for record in self.records.values() for lease in (record.leases or {}).values()]

    def lease_at(self, place: int) -> Lease | None:
        leases = self.leases()
        return leases[place % len(leases)] if leases else None

    @step(seconds=st.floats(-20, 40))
    def time_passes(self, seconds: float) -> None:
        self.clock.time = round(self.clock.time + seconds, 3)

    @step(owner=owners, job=jobs, hours=st.floats(1.1, 3))
    def the_clock_is_wrong_for_a_while(self, owner: str, job: str, hours: float) -> None:
        right = self.clock.time
        self.clock.time = round(right + hours * 3_600, 3)
        self.claim(owner, job, 0, None, "allow", False, None, False)
        self.clock.time = right
        for each in self.stores:
            self.beat(each)

    @step(owner=owners)
    def beat(self, owner: str) -> None:
        store, owner = self.at(owner)
        beat = self.do(store.beat())
        if not self.shared:
            return
        self.beats[owner] = self.clock.time
        lives = self.alive(owner)
        dead = {lease.run_id for lease in self.leases() if not lives(lease.instance, lease.expires)}
        found = {lease.run_id for lease in beat.dead}
        assert found <= dead
        if any(not lives(lease.instance, inf) for lease in self.leases()):
            assert found == dead
        if owner in self.known or owner not in self.silent:
            assert beat.unknown is (owner not in self.known)
        own = {lease.run_id: lease for lease in self.leases() if lease.instance == owner}
        assert {lease.run_id for lease in beat.own} == own.keys()
        assert {run_id for run_id, _ in beat.cancelled} == {run_id for run_id, lease in own.items() if lease.cancelled}
        self.known.add(owner)
        living = {each for each in self.beats if lives(each, inf)}
        assert {each.instance.owner for each in beat.instances} == living & self.known
        # A store may forget the dead who left nothing.
        kept = living | {lease.instance for lease in self.leases()}
        self.silent = (self.silent | (self.known - kept)) - kept
        self.beats = {each: at for each, at in self.beats.items() if each in kept}
        self.known &= self.beats.keys()

    @step(owner=owners, asked=st.lists(owners, min_size=1, max_size=2, unique=True))
    def drain(self, owner: str, asked: list[str]) -> None:
        if not self.shared:
            return
        store, owner = self.at(owner)
        found = self.do(store.drain([*asked, "no such instance"]))
        assert found <= self.known & set(asked)
        jobs = {each.instance.owner: each.jobs for each in self.do(store.instances())}
        # A store that passes no requests on finds none.
        assert not found or jobs.keys() & set(asked) <= found
        assert all(jobs.get(each, DRAIN) == DRAIN for each in found)

    @step(owner=owners)
    def leave(self, owner: str) -> None:
        if self.shared:
            self.beats.pop(owner, None)
            self.known.discard(owner)
            self.silent.discard(owner)
            self.do(self.at(owner)[0].leave())

    @step(
        owner=owners,
        job=jobs,
        other=others,
        enabled=st.sampled_from([True, True, True, False]),
        withdrawn=st.sampled_from([False, False, True]),
        at_start=st.sampled_from(["", "", "fleet", "deploy"]),
        arguments=digests,
    )
    def register(
        self,
        owner: str,
        job: str,
        other: str | None,
        enabled: bool,
        withdrawn: bool = False,
        at_start: AtStartOf = "",
        arguments: str | None = None,
    ) -> None:
        (store, owner), record = self.as_living(owner), self.records.get(job)
        last_handled = record.last_handled if record else 0
        schedule = other or SCHEDULES[job]
        definition = Definition(
            job, schedule, "UTC", f"m:{owner}", last_handled, enabled, self.new_id(), (), withdrawn, at_start
        )._replace(arguments=arguments)
        expected = rule.register(self.records, definition, owner, self.clock.time, TERMS.lease, self.alive(owner))
        assert self.do(store.register([definition])) == [expected]

    @step(
        owner=owners,
        job=jobs,
        offset=st.one_of(st.none(), st.integers(-20, 3)),
        other=others,
        overlap=st.sampled_from(["skip", "queue", "allow"]),
        force=st.booleans(),
        missed=st.sampled_from([None, None, "misfire_grace_time"]),
        again=st.booleans(),
        counted=st.sampled_from([None, None, 0, -1]),
        arguments=digests,
        run_again=st.sampled_from([False, False, True]),
    )
    def claim(
        self,
        owner: str,
        job: str,
        offset: int | None,
        other: str | None,
        overlap: Overlap,
        force: bool,
        missed: MissedReason | None,
        again: bool,
        counted: int | None = None,
        arguments: str | None = None,
        run_again: bool = False,
    ) -> None:
        tick = None if offset is None else int(self.clock.time) + offset
        missed = None if tick is None else missed
        schedule = other or SCHEDULES[job]
        request = ClaimRequest(job, self.new_id(), tick, schedule, "UTC", overlap, force, missed, arguments=arguments)
        if counted is not None and tick is not None and job in self.records:
            request = request._replace(after=self.records[job].last_handled + counted)
        if run_again and missed is None:
            request = request._replace(again=True)
        for _ in range(1 + again):
            self.ask(owner, request)

    @step(owner=owners, place=places)
    def recover(self, owner: str, place: int) -> None:
        lease = self.lease_at(place)
        if lease is not None:
            run_id, replaces = self.new_id(), lease.run_id
            schedule = SCHEDULES[lease.job]
            self.ask(owner, ClaimRequest(lease.job, run_id, lease.tick, schedule, "UTC", replaces=replaces, attempt=2))

    def ask(self, owner: str, request: ClaimRequest) -> None:
        (store, owner), now = self.as_living(owner), self.clock.time
        expected = rule.claim(self.records, request, owner, now, TERMS.lease, self.alive(owner))
        assert self.do(store.claim([request])) == [expected]

    @step(place=places, right=st.booleans(), renew=st.booleans(), until_now=st.booleans())
    def renew_or_release(self, place: int, right: bool, renew: bool, until_now: bool) -> None:
        lease = self.lease_at(place)
        if lease is not None:
            ref = LeaseRef(lease.job, lease.run_id, lease.token if right else lease.token - 1, until_now)
            store, _ = self.at(lease.instance)
            if renew:
                assert rule.renew(self.records, ref, self.clock.time, TERMS.lease) is right
                assert self.do(store.renew([ref])) == [right]
            else:
                assert rule.release(self.records, ref, self.clock.time) is right
                assert self.do(store.release([ref])) == [right]

    @step(owner=owners, place=places)
    def cancel(self, owner: str, place: int) -> None:
        lease = self.lease_at(place)
        if lease is not None and self.shared:
            found = {lease.run_id} if rule.cancel(self.records, lease.run_id, "ops") else set()
            assert self.do(self.at(owner)[0].cancel([lease.run_id, "no such run"], "ops")) == found

    @step(owner=owners, job=jobs)
    def pause(self, owner: str, job: str) -> None:
        request = PauseRequest(job, "ops", None)
        expected = rule.pause(self.records, request, self.clock.time)
        assert self.do(self.at(owner)[0].pause([request])) == [expected]

    @step(owner=owners, job=jobs, catch_up=st.booleans(), again=st.booleans())
    def resume(self, owner: str, job: str, catch_up: bool, again: bool) -> None:
        (store, owner), request = self.at(owner), ResumeRequest(job, self.new_id(), catch_up)
        for _ in range(1 + again):
            expected = rule.resume(self.records, request, owner, self.clock.time, TERMS.lease)
            assert self.do(store.resume([request])) == [expected]

    @step(owner=owners, asked=jobs_elsewhere(jobs, others, digests))
    def jobs_of_another_store_are_restored(self, owner: str, asked: list[JobElsewhere]) -> None:
        holders = (*OWNERS, GONE) if self.shared else ("a",)
        tokens = {job: record.token for job, record in self.records.items()}
        now = self.clock.time
        self.restore(
            owner,
            [each.known(SCHEDULES[each.job], now, tokens.get(each.job, 0), holders, self.new_id) for each in asked],
        )

    @step(owner=owners, again=st.booleans())
    def jobs_are_restored_to_what_they_were(self, owner: str, again: bool) -> None:
        for _ in range(1 + again):
            self.restore(owner, self.remembered)
        self.remembered = [record.known(job) for job, record in self.records.items()]

    def restore(self, owner: str, known: list[KnownJob]) -> None:
        store, _ = self.at(owner)
        # By default it is a row of steps that the walk takes anyway.
        if type(store).restore is not LockBackend.restore:
            for each in known:
                restore(self.records, each, self.clock.time)
            self.do(store.restore(known))

    @step(really=st.integers(0, 9))
    def the_store_loses_all(self, really: int) -> None:
        if really == 0:
            self.close_stores()
            self.open_stores()

    @step()
    def parts_of_the_records_are_asked_for(self) -> None:
        store, _ = self.at("a")
        ticks = [self.records[job].last_handled if job in self.records else None for job in JOBS]
        credible = [tick if tick is None or rule.is_credible(tick, self.clock.time) else None for tick in ticks]
        assert self.do(store.last_handled(JOBS)) in (ticks, credible)
        ids = [f"id-{number:04}" for number in range(1, self.asked + 1)]
        assert self.do(store.leased(ids)) == {lease.run_id for lease in self.leases()}
        paused = {job: record.pause for job, record in self.records.items() if record.pause is not None}
        assert self.do(store.pauses()) == paused

    @invariant()
    def what_is_on_record_is_the_same(self) -> None:
        if getattr(self, "stores", None):
            known = {found.job: _in_milliseconds(found) for found in self.do(self.at("a")[0].known())}
            assert known == {job: _in_milliseconds(record.known(job)) for job, record in self.records.items()}
