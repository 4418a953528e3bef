"""LockContract: what every lock store must do, as tests that the author of a backend inherits."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TypeVar

from fastapi_crons.clock import SystemClock
from fastapi_crons.instance import Instance
from fastapi_crons.locking import (
    ClaimRequest,
    ClaimResult,
    Definition,
    Lease,
    LeaseRef,
    LeaseTerms,
    LockBackend,
    PauseRequest,
    ResumeRequest,
)
from fastapi_crons.locking.records import QUARANTINE

ContractT = TypeVar("ContractT", bound="LockContract")
SCHEDULE = "* * * * *"


def request(run_id: str, tick: int | None, *, job: str = "job", schedule: str = SCHEDULE) -> ClaimRequest:
    """A claim of a tick, or with None that of a manual run."""
    return ClaimRequest(job, run_id, tick, schedule, "UTC")


def define(job: str = "job", schedule: str = SCHEDULE, mark: int = 0) -> Definition:
    """A definition as an instance registers it."""
    return Definition(job, schedule, "UTC", "module:function", mark)


def _on_a_store(test: Callable[[ContractT, LockBackend], Awaitable[None]]) -> Callable[[ContractT], None]:
    """Run a test with an open store, on an event loop of its own."""

    def run(self: ContractT) -> None:
        async def whole() -> None:
            self.opened = []
            self.namespace = f"contract-{secrets.token_hex(6)}"
            try:
                await test(self, await self.another())
            finally:
                for store, instance in self.opened:
                    await store.leave()
                    await store.close()
                    instance.lives_here(alive=False)

        asyncio.run(whole())

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


class LockContract:
    """Inherit from this in a test module, and say how your store is made; the rest is pytest's.

        class TestMyLock(LockContract):
            def make_store(self) -> LockBackend:
                return MyLockBackend("localhost")

    Each call must lead to the same store, as if it were made by another instance. The tests keep to namespaces of their own.
    """

    #: What a test has opened, and the namespace that it does so in.
    opened: list[tuple[LockBackend, Instance]]
    namespace: str

    def make_store(self) -> LockBackend:
        """A new, unopened backend of the store that is to be tested."""
        raise NotImplementedError

    async def another(
        self, *, elsewhere: bool = False, namespace: str | None = None, timeout: float = 30
    ) -> LockBackend:
        """The store as another instance opens it: of this process, or of a host that can only be judged by its heartbeat."""
        store, instance = self.make_store(), Instance.of_this_process()
        if elsewhere:
            instance = replace(instance, host="elsewhere", boot="")
        instance.lives_here(alive=True)
        await store.open(instance, namespace or self.namespace, LeaseTerms(300, timeout), SystemClock())
        self.opened.append((store, instance))
        await store.beat()
        return store

    async def dies(self, store: LockBackend) -> None:
        """The end of an instance that could not say good-bye."""
        (found,) = [pair for pair in self.opened if pair[0] is store]
        found[1].lives_here(alive=False)
        self.opened.remove(found)
        await store.close()

    def shared(self) -> bool:
        """Whether several instances can have this store."""
        return self.make_store().reach != "process"

    @_on_a_store
    async def test_a_tick_is_claimed_once_and_the_job_is_busy_until_released(self, lock: LockBackend) -> None:
        mark = (await lock.enrol([define()]))[0].mark
        assert abs(mark - SystemClock().now()) < 3
        (granted,) = await lock.claim([request("r1", mark + 1)])
        assert (granted.outcome, granted.mark) == ("granted", mark)
        stale, busy = await lock.claim([request("r2", mark + 1), request("manual", None)])
        assert (stale.outcome, busy.outcome, busy.holder) == ("stale", "busy", "r1")
        assert await lock.leased(["r1", "r2"]) == {"r1"}
        assert await lock.release([LeaseRef("job", "r1", granted.token + 1)]) == [False]
        assert await lock.renew([LeaseRef("job", "r1", granted.token), LeaseRef("job", "r2", 1)]) == [True, False]
        assert await lock.release([LeaseRef("job", "r1", granted.token)]) == [True]
        (again,) = await lock.claim([request("manual", None)])
        assert again.outcome == "granted"
        assert again.token > granted.token

    @_on_a_store
    async def test_a_claim_that_is_asked_again_gets_the_same_answer(self, lock: LockBackend) -> None:
        mark = (await lock.enrol([define()]))[0].mark
        first = await lock.claim([request("r1", mark + 1)])
        assert await lock.claim([request("r1", mark + 1)]) == first

    @_on_a_store
    async def test_a_paused_job_grants_no_tick_until_it_is_resumed(self, lock: LockBackend) -> None:
        mark = (await lock.enrol([define(), define("other")]))[0].mark
        assert await lock.pause([PauseRequest("nope")]) == [None]
        (pause,) = await lock.pause([PauseRequest("job", "ops", "why")])
        assert pause is not None
        assert abs(pause.since - SystemClock().now()) < 3
        assert set(await lock.pauses()) == {"job"}
        assert (await lock.pauses())["job"][1:] == ("ops", "why")
        answers = await lock.claim([request("r1", mark + 1), request("r2", mark + 1, job="other"), request("r3", None)])
        assert [answer.outcome for answer in answers] == ["paused", "granted", "granted"]
        await lock.release([LeaseRef("job", "r3", answers[2].token)])
        (resumed, none) = await lock.resume([ResumeRequest("job", "n1", catch_up=True), ResumeRequest("other", "n2")])
        assert resumed is not None
        assert resumed.pause[1:] == pause[1:]
        assert abs(resumed.pause.since - pause.since) < 0.01
        assert (resumed.after, resumed.mark, resumed.token, none) == (mark, mark, 0, None)
        assert await lock.pauses() == {}
        (granted,) = await lock.claim([request("r4", mark + 1)])
        assert (granted.outcome, granted.mark) == ("granted", mark)

    @_on_a_store
    async def test_a_skipped_tick_leaves_a_lease_until_it_is_on_record(self, lock: LockBackend) -> None:
        mark = (await lock.enrol([define()]))[0].mark
        (granted,) = await lock.claim([request("r1", mark + 1)])
        assert granted.outcome == "granted"
        (again,) = await lock.enrol([define(mark=mark - 10)])
        assert again.mark == mark + 1
        (forced,) = await lock.claim([request("forced", None)._replace(force=True)])
        assert (forced.outcome, forced.holder) == ("granted", "r1")
        (let_go,) = await lock.claim([request("r2", mark + 1)._replace(let_go="misfire_grace_time")])
        assert let_go.outcome == "stale"
        assert await lock.leased(["r1", "forced", "r2"]) == {"r1", "forced"}
        await asyncio.sleep(1)
        (skipped,) = await lock.claim([request("r3", mark + 2)])
        assert (skipped.outcome, skipped.skipped, skipped.mark) == ("busy", True, mark + 1)
        assert skipped.holder in ("r1", "forced")
        assert await lock.leased(["r3"]) == {"r3"}
        assert await lock.release([LeaseRef("job", "r3", skipped.token)]) == [True]

    @_on_a_store
    async def test_a_store_that_lost_its_records_takes_leases_back(self, lock: LockBackend) -> None:
        now = SystemClock().now()
        token = int(now * 1000)
        owner = self.opened[0][1].owner
        held = Lease("job", "r1", int(now) - 5, owner, token, 1, now + 300, int(now) - 65, None, SCHEDULE, "UTC")
        (enrolment,) = await lock.enrol([define(mark=int(now) - 5)._replace(held=(held,))])
        assert await lock.leased(["r1"]) == {"r1"}
        (stale,) = await lock.claim([request("r2", int(now) - 5)])
        assert stale.outcome == "stale"
        assert await lock.renew([LeaseRef("job", "r1", token)]) == [True]
        assert await lock.release([LeaseRef("job", "r1", token)]) == [True]
        (granted,) = await lock.claim([request("r3", None)])
        assert granted.token > token
        assert enrolment.mark >= int(now) - 5

    @_on_a_store
    async def test_unknown_jobs_other_schedules_and_the_future_are_refused(self, lock: LockBackend) -> None:
        mark = (await lock.enrol([define()]))[0].mark
        answers = await lock.claim(
            [
                request("r1", mark, job="unknown"),
                request("r2", mark + 1, schedule="0 * * * *"),
                request("r3", mark + 60),
            ]
        )
        assert [answer.outcome for answer in answers] == ["unknown", "not_in_force", "early"]
        assert await lock.marks(["job", "unknown"]) == [mark, None]

    @_on_a_store
    async def test_what_is_on_record_of_jobs_is_known_with_all_their_leases(self, lock: LockBackend) -> None:
        assert await lock.known() == []
        off = define("off", "0 * * * *")._replace(enabled=False, function="module:other")
        mark = (await lock.enrol([define(), define("plain"), off]))[0].mark
        (run, forced) = await lock.claim([request("r1", mark + 1), request("r2", None)._replace(force=True)])
        (let_go,) = await lock.claim([request("r3", mark + 1, job="plain")._replace(let_go="max_catch_up")])
        await lock.pause([PauseRequest("job", "ops", "why")])
        known = {found.job: found for found in await lock.known()}
        assert set(known) == {"job", "plain", "off"}
        assert known["job"][1:6] == (SCHEDULE, "UTC", "module:function", True, mark + 1)
        assert known["off"][1:6] == ("0 * * * *", "UTC", "module:other", False, mark)
        assert all(abs(found.since - SystemClock().now()) < 3 for found in known.values())
        assert known["job"].pause is not None
        assert known["job"].pause[1:] == ("ops", "why")
        assert (known["plain"].pause, known["off"].pause, known["off"].leases) == (None, None, ())
        owner = self.opened[0][1].owner
        assert {lease.run_id: lease._replace(expires=0) for lease in known["job"].leases} == {
            "r1": Lease("job", "r1", mark + 1, owner, run.token, 1, 0, mark, None, SCHEDULE, "UTC"),
            "r2": Lease("job", "r2", None, owner, forced.token, 1, 0, mark + 1, None, SCHEDULE, "UTC"),
        }
        assert all(abs(lease.expires - SystemClock().now() - 300) < 3 for lease in known["job"].leases)
        (lease,) = known["plain"].leases
        assert (lease.job, lease.run_id, lease.token, lease.let_go) == ("plain", "r3", let_go.token, "max_catch_up")
        assert await lock.known(["plain", "unknown"]) == [known["plain"]]
        assert await lock.known([]) == []

    @_on_a_store
    async def test_a_batch_of_thousands_is_decided_in_order(self, lock: LockBackend) -> None:
        enrolments = await lock.enrol([define(f"job-{number}") for number in range(3_000)])
        results = await lock.claim(
            [
                request(f"r{number}", enrolment.mark + 1, job=f"job-{number}")
                for number, enrolment in enumerate(enrolments)
            ]
        )
        assert {result.outcome for result in results} == {"granted"}
        names = [f"job-{number}" for number in range(3_000)]
        assert await lock.marks(names) == [enrolment.mark + 1 for enrolment in enrolments]
        assert {lease.run_id for found in await lock.known() for lease in found.leases} == {
            f"r{number}" for number in range(3_000)
        }
        assert {found.job for found in await lock.known(names)} == set(names)
        refs = [LeaseRef(f"job-{number}", f"r{number}", result.token) for number, result in enumerate(results)]
        assert await lock.renew(refs) == [True] * 3_000
        assert await lock.release(refs) == [True] * 3_000

    @_on_a_store
    async def test_a_new_schedule_comes_into_force_and_names_the_old_one(self, lock: LockBackend) -> None:
        mark = (await lock.enrol([define()]))[0].mark
        (changed,) = await lock.enrol([define(schedule="0 * * * *")])
        assert changed.replaced is not None
        assert changed.replaced[:4] == (SCHEDULE, "UTC", mark, "schedule_changed")
        (raised,) = await lock.enrol([define(schedule="0 * * * *", mark=mark + 500)])
        assert raised.mark == mark + 500

    @_on_a_store
    async def test_names_of_any_kind_are_kept_apart(self, lock: LockBackend) -> None:
        names = ["a:b", "a", "a*", "{a}", "a b", "ä\u2009🚀", "%41", "a\\b", '"quoted"', "'", "x" * 200]
        marks = [enrolment.mark for enrolment in await lock.enrol([define(name) for name in names])]
        results = await lock.claim(
            [request(f"r{name}", mark + 1, job=name) for name, mark in zip(names, marks, strict=True)]
        )
        assert {result.outcome for result in results} == {"granted"}
        assert await lock.leased([f"r{name}" for name in names]) == {f"r{name}" for name in names}
        assert {found.job: found.leases[0].run_id for found in await lock.known()} == {
            name: f"r{name}" for name in names
        }

    @_on_a_store
    async def test_of_several_instances_that_want_a_tick_one_gets_it(self, lock: LockBackend) -> None:
        if not self.shared():
            return
        stores = [lock, await self.another(), await self.another(elsewhere=True)]
        marks: list[int] = []
        for store in stores:
            marks = [enrolment.mark for enrolment in await store.enrol([define(f"job-{each}") for each in range(50)])]
        answers: list[list[ClaimResult]] = await asyncio.gather(
            *(
                store.claim(
                    [
                        request(f"{number}-{each}", mark + 1, job=f"job-{each}")._replace(overlap="allow")
                        for each, mark in enumerate(marks)
                    ]
                )
                for number, store in enumerate(stores)
            )
        )
        for of_one_job in zip(*answers, strict=True):
            assert sorted(answer.outcome for answer in of_one_job) == ["granted", "stale", "stale"]

    @_on_a_store
    async def test_the_instances_that_live_are_known_with_what_they_say_of_themselves(self, lock: LockBackend) -> None:
        if not self.shared():
            return
        other = await self.another(elsewhere=True)
        await other.beat(3, "digest")
        beat = await lock.beat(1, "digest")
        about = [replace(found.instance, started_ts=0) for found in beat.instances]
        assert sorted(about, key=str) == sorted((replace(each, started_ts=0) for _, each in self.opened), key=str)
        seen = {found.instance.owner: found for found in await lock.instances()}
        assert {found.running for found in seen.values()} == {1, 3}
        assert {found.jobs for found in seen.values()} == {"digest"}
        assert all(abs(found.heartbeat_ts - SystemClock().now()) < 3 for found in seen.values())
        await other.leave()
        assert [found.instance.owner for found in await lock.instances()] == [self.opened[0][1].owner]

    @_on_a_store
    async def test_what_an_instance_that_died_has_left_behind_is_taken_over_once(self, lock: LockBackend) -> None:
        if not self.shared():
            return
        dead, third = await self.another(), await self.another()
        mark = (await dead.enrol([define()]))[0].mark
        (granted,) = await dead.claim([request("r1", mark + 1)])
        assert [lease.run_id for lease in (await lock.beat()).dead] == []
        await self.dies(dead)
        (lease,) = (await lock.beat()).dead
        assert (await lock.known(["job"]))[0].leases == (lease,)
        assert lease[:3] == ("job", "r1", mark + 1)
        assert (lease.token, lease.attempt, lease.after, lease.let_go) == (granted.token, 1, mark, None)
        assert (lease.schedule, lease.timezone, lease.cancelled) == (SCHEDULE, "UTC", False)
        again = [request(f"again-{number}", mark + 1)._replace(replaces="r1", attempt=2) for number in range(2)]
        answers = [*await lock.claim(again[:1]), *await third.claim(again[1:])]
        assert [answer.outcome for answer in answers] == ["granted", "stale"]
        assert answers[0].token > granted.token
        assert answers[0].mark == mark
        assert await lock.release([LeaseRef("job", "r1", granted.token)]) == [False]
        assert list((await third.beat()).dead) == []

    @_on_a_store
    async def test_an_instance_of_another_host_is_dead_once_it_is_silent_for_too_long(self, lock: LockBackend) -> None:
        if not self.shared():
            return
        silent = await self.another(elsewhere=True, timeout=0.5)
        judge = await self.another(elsewhere=True, timeout=0.5)
        mark = (await silent.enrol([define()]))[0].mark
        (granted,) = await silent.claim([request("r1", mark + 1)])
        assert granted.outcome == "granted"
        await silent.beat()
        assert list((await judge.beat()).dead) == []
        await asyncio.sleep(0.6)
        (lease,) = (await judge.beat()).dead
        assert lease.run_id == "r1"
        # Nobody has taken it over, so it may still go on.
        await silent.beat()
        assert list((await judge.beat()).dead) == []
        assert await silent.renew([LeaseRef("job", "r1", granted.token)]) == [True]

    @_on_a_store
    async def test_who_claims_or_registers_lives(self, lock: LockBackend) -> None:
        if not self.shared():
            return
        busy = await self.another(elsewhere=True, timeout=0.8)
        judge = await self.another(elsewhere=True, timeout=0.8)
        mark = (await busy.enrol([define()]))[0].mark
        (granted,) = await busy.claim([request("r1", mark + 1)])
        assert granted.outcome == "granted"
        for ask in (lambda: busy.claim([request("r2", mark + 1)]), lambda: busy.enrol([define()])):
            await asyncio.sleep(0.5)
            await ask()
            assert list((await judge.beat()).dead) == []
        await asyncio.sleep(0.9)
        assert [lease.run_id for lease in (await judge.beat()).dead] == ["r1"]

    @_on_a_store
    async def test_an_instance_learns_what_the_store_knows_of_it(self, lock: LockBackend) -> None:
        if not self.shared():
            return
        assert not (await lock.beat()).unknown
        await lock.leave()
        assert (await lock.beat()).unknown
        mark = (await lock.enrol([define()]))[0].mark
        await lock.claim([request("r1", mark + 1)])
        assert [lease.run_id for lease in (await lock.beat(leases=0)).own] == ["r1"]
        assert list((await lock.beat(leases=1)).own) == []

    @_on_a_store
    async def test_a_store_that_lost_its_records_grants_nothing_before_others_had_their_say(
        self, lock: LockBackend
    ) -> None:
        now = int(SystemClock().now())
        (enrolment,) = await lock.enrol([define(mark=now - 60)])
        assert enrolment.mark == now - 60, "what was due since then is not lost with the records"
        (early,) = await lock.claim([request("r1", now)])
        assert early.outcome == "early"
        assert abs(early.mark - now) < 3
        (manual,) = await lock.claim([request("r2", None)])
        assert manual.outcome == "granted"
        await lock.release([LeaseRef("job", "r2", manual.token)])
        (again,) = await lock.enrol([define(mark=now - 5)])
        assert again.mark == now - 5
        (stale,) = await lock.claim([request("r3", now - 5)])
        assert stale.outcome == "stale"
        await asyncio.sleep(QUARANTINE)
        (granted,) = await lock.claim([request("r4", now)])
        assert (granted.outcome, granted.mark) == ("granted", now - 5)

    @_on_a_store
    async def test_a_holder_that_gave_its_lease_up_may_take_its_own_tick_again(self, lock: LockBackend) -> None:
        mark = (await lock.enrol([define()]))[0].mark
        (granted,) = await lock.claim([request("r1", mark + 1)])
        (again,) = await lock.claim([request("r2", mark + 1)._replace(replaces="r1", attempt=2)])
        assert (again.outcome, again.mark) == ("granted", mark)
        assert again.token > granted.token
        assert await lock.leased(["r1", "r2"]) == {"r2"}

    @_on_a_store
    async def test_the_holder_of_a_run_learns_that_it_is_to_be_cancelled(self, lock: LockBackend) -> None:
        if not self.shared():
            return
        holder = await self.another()
        mark = (await holder.enrol([define()]))[0].mark
        (granted,) = await holder.claim([request("r1", mark + 1)])
        assert await lock.cancel(["r1", "no such run"], "ops") == {"r1"}
        assert list((await lock.beat()).cancelled) == []
        assert [lease.cancelled for found in await lock.known() for lease in found.leases] == [True]
        assert [tuple(found) for found in (await holder.beat()).cancelled] == [("r1", "ops")]
        assert await holder.release([LeaseRef("job", "r1", granted.token)]) == [True]
        assert list((await holder.beat()).cancelled) == []

    @_on_a_store
    async def test_a_definition_is_orphaned_when_nobody_lives_who_registered_it(self, lock: LockBackend) -> None:
        if not self.shared():
            return
        newer = await self.another()
        mark = (await lock.enrol([define()]))[0].mark
        await newer.enrol([define(schedule="0 * * * *")])
        (refused,) = await lock.claim([request("r1", mark + 1)])
        assert (refused.outcome, refused.orphaned) == ("not_in_force", False)
        await newer.leave()
        (refused,) = await lock.claim([request("r2", mark + 1)])
        assert (refused.outcome, refused.orphaned) == ("not_in_force", True)

    @_on_a_store
    async def test_namespaces_share_a_store_and_nothing_else(self, lock: LockBackend) -> None:
        if not self.shared():
            return
        staging = await self.another(namespace=f"{self.namespace}.staging")
        for number, store in enumerate((lock, staging)):
            mark = (await store.enrol([define()]))[0].mark
            (granted,) = await store.claim([request(f"r{number}", mark + 1)])
            assert granted.outcome == "granted"
        await lock.pause([PauseRequest("job")])
        assert await staging.pauses() == {}
        for store, run_id in ((lock, "r0"), (staging, "r1")):
            (found,) = await store.known()
            assert (found.job, *(lease[:2] for lease in found.leases)) == ("job", ("job", run_id))
        assert len(await staging.instances()) == 1
        assert await staging.cancel(["r0"], None) == set()
        assert list((await staging.beat()).dead) == []

    @_on_a_store
    async def test_jobs_that_nobody_registers_any_more_are_forgotten(self, lock: LockBackend) -> None:
        if not self.shared():
            return
        other = await self.another()
        kept = (await lock.enrol([define("kept"), define("both")]))[0]
        held = (await other.enrol([define("both"), define("gone"), define("held")]))[2]
        (granted,) = await other.claim([request("r1", held.mark + 1, job="held")])
        assert granted.outcome == "granted"
        assert await lock.forget(0) == []
        await other.leave()
        assert await lock.forget(1_000) == []
        await asyncio.sleep(1.1)
        assert await lock.forget(1) == ["gone"]
        assert await lock.marks(["gone", "kept", "held"]) == [None, kept.mark, held.mark + 1]
