"""LockContract: what every lock store must do, as tests that the author of a backend inherits."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from fastapi_crons.clock import SystemClock
from fastapi_crons.locking import ClaimResult, KnownJob, LeaseRef, LockBackend, Pause, PauseRequest, Registered
from fastapi_crons.locking.instance import DRAIN, DRAINING
from fastapi_crons.locking.record import QUARANTINE
from fastapi_crons.testing._contract import on_a_shared_store, on_a_store, skip_unless
from fastapi_crons.testing._lock_claims import SCHEDULE, ClaimTests, define, request


class LockContract(ClaimTests):
    """Inherit from this in a test module, and say how your store is made; the rest is pytest's.

        class TestMyLock(LockContract):
            def make_store(self) -> LockBackend:
                return MyLockBackend("localhost")

    Each call must lead to the same store, as if it were made by another instance. The tests keep to namespaces of their own.
    """

    @on_a_shared_store
    async def test_one_of_several_instances_gets_a_tick(self, lock: LockBackend) -> None:
        stores = [lock, await self.another(), await self.another(elsewhere=True)]
        lasts: list[int] = []
        for store in stores:
            lasts = [
                answer.last_handled for answer in await store.register([define(f"job-{each}") for each in range(50)])
            ]
        answers: list[list[ClaimResult]] = await asyncio.gather(
            *(
                store.claim(
                    [
                        request(f"{number}-{each}", last + 1, job=f"job-{each}")._replace(overlap="allow")
                        for each, last in enumerate(lasts)
                    ]
                )
                for number, store in enumerate(stores)
            )
        )
        for of_one_job in zip(*answers, strict=True):
            assert sorted(answer.outcome for answer in of_one_job) == ["granted", "stale", "stale"]

    @on_a_shared_store
    async def test_the_first_instance_of_a_fleet_is_a_start_and_one_that_joins_others_is_none(
        self, lock: LockBackend
    ) -> None:
        fleet, deploy = define()._replace(at_start="fleet"), define("deployed")._replace(at_start="deploy")
        (first, first_deploy) = await lock.register([fleet, deploy])
        assert (first.start, first_deploy.start) == (first.last_handled + 1, first_deploy.last_handled + 1)
        other = await self.another()
        assert (await other.register([fleet]))[0].start == first.start
        await asyncio.sleep(1)
        for number, each in enumerate([fleet, deploy]):
            (granted,) = await lock.claim([request(f"r{number}", first.start, job=each.job)])
            assert granted.outcome == "granted"
            assert await lock.release([LeaseRef(each.job, f"r{number}", granted.token)]) == [True]
        await self.dies(other)
        await lock.leave()
        later = await self.another()
        (again, same) = await later.register([fleet, deploy])
        assert again.start > again.last_handled >= first.start
        assert same.start == first_deploy.start <= same.last_handled
        (joined,) = await (await self.another()).register([fleet])
        assert joined.start == again.start
        assert (await later.register([define("plain")]))[0].start == 0

    @on_a_shared_store
    async def test_living_instances_are_known_with_what_their_heartbeats_said(self, lock: LockBackend) -> None:
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

    @on_a_shared_store
    async def test_a_request_to_drain_stays_until_the_instance_says_that_it_drains(self, lock: LockBackend) -> None:
        other = await self.another()
        await lock.beat(0, "digest")
        await other.beat(0, "digest")
        (me, its) = (instance.owner for _, instance in self.opened)
        if not (found := await lock.drain([its, "nobody"])):
            pytest.skip("this store passes no requests to drain on")
        assert found == {its}

        async def jobs(store: LockBackend) -> dict[str, str]:
            return {found.instance.owner: found.jobs for found in (await store.beat(0, "digest")).instances}

        assert await jobs(lock) == {me: "digest", its: DRAIN}
        assert await jobs(other) == {me: "digest", its: DRAIN}
        await other.beat(0, DRAINING)
        assert await lock.drain([its]) == {its}
        assert {found.instance.owner: found.jobs for found in await lock.instances()} == {me: "digest", its: DRAINING}

    @on_a_store
    async def test_jobs_of_another_store_are_on_record_as_they_were_there(self, lock: LockBackend) -> None:
        now = int(SystemClock().now())
        first = KnownJob("job", SCHEDULE, "UTC", "module:function", True, now - 60, now - 500.5, token=now * 1000 + 5)
        off = KnownJob(
            "öff", SCHEDULE, "", "module:other", False, now - 90, now - 5, Pause(now - 9, "ops", "why"), (), "a"
        )
        await lock.restore([first._replace(pause=Pause(now - 5, "copy")), off])
        await lock.restore([first])
        found = {known.job: known for known in await lock.known()}
        assert found.keys() == {"job", "öff"}
        for known in (first, off):
            seen = found[known.job]
            assert (*seen[:6], seen.pause and seen.pause[1:], seen.arguments) == (
                *known[:6],
                known.pause and known.pause[1:],
                known.arguments,
            )
        assert await lock.last_handled(["job", "öff"]) == [now - 60, now - 90]
        (registered,) = await lock.register([define()])
        assert (registered.last_handled, registered.replaced) == (now - 60, None)
        assert [each.outcome for each in await lock.claim([request("r1", now - 60)])] == ["stale"]
        if type(lock).restore is LockBackend.restore:
            return
        assert (found["job"], found["öff"]) == (first, off)
        (granted,) = await lock.claim([request("r2", now - 30)])
        assert (granted.outcome, granted.last_handled) == ("granted", now - 60)
        assert granted.token > first.token

    @on_a_shared_store
    async def test_leases_of_another_store_are_recovered_as_those_of_dead_instances(self, lock: LockBackend) -> None:
        skip_unless(type(lock).restore is not LockBackend.restore, "the store restores no leases")
        last = (await lock.register([define()]))[0].last_handled
        dead, target = await self.another(), await self.another(namespace=f"{self.namespace}-copy")
        await dead.claim([request("r1", last + 1)])
        await dead.cancel(["r1"], "ops")
        await self.dies(dead)
        (known,) = await lock.known()
        for _ in range(2):
            await target.restore([known])
        (found,) = await target.known()
        # Stores keep fractions of seconds as far as they matter.
        assert [lease._replace(expires=0) for lease in found.leases] == [
            each._replace(expires=0) for each in known.leases
        ]
        assert found._replace(leases=(), since=0) == known._replace(leases=(), since=0)
        (lease,) = (await target.beat()).dead
        assert lease[:4] == ("job", "r1", last + 1, known.leases[0].instance)
        assert lease.cancelled
        (granted,) = await target.claim([request("again", last + 1)._replace(replaces="r1", attempt=2)])
        assert (granted.outcome, granted.last_handled) == ("granted", last)
        await target.restore([known])
        before = known.leases[0]._replace(cancelled=False, cancelled_by=None)
        await target.restore([known._replace(leases=(before,))])
        assert [lease.cancelled for lease in (await target.known())[0].leases] == [False]
        await target.restore([known._replace(leases=())])
        assert await target.leased(["r1", "again"]) == set()
        await target.restore([])

    @on_a_shared_store
    async def test_what_a_dead_instance_left_is_recovered_once(self, lock: LockBackend) -> None:
        dead, third = await self.another(), await self.another()
        last = (await dead.register([define()]))[0].last_handled
        (granted,) = await dead.claim([request("r1", last + 1)])
        assert [lease.run_id for lease in (await lock.beat()).dead] == []
        await self.dies(dead)
        (lease,) = (await lock.beat()).dead
        assert (await lock.known(["job"]))[0].leases == (lease,)
        assert lease[:3] == ("job", "r1", last + 1)
        assert (lease.token, lease.attempt, lease.after, lease.missed) == (granted.token, 1, last, None)
        assert (lease.schedule, lease.timezone, lease.cancelled) == (SCHEDULE, "UTC", False)
        again = [request(f"again-{number}", last + 1)._replace(replaces="r1", attempt=2) for number in range(2)]
        answers = [*await lock.claim(again[:1]), *await third.claim(again[1:])]
        assert [answer.outcome for answer in answers] == ["granted", "stale"]
        assert answers[0].token > granted.token
        assert answers[0].last_handled == last
        assert await lock.release([LeaseRef("job", "r1", granted.token)]) == [False]
        assert list((await third.beat()).dead) == []

    @on_a_shared_store
    async def test_an_instance_of_another_host_is_dead_once_it_is_silent_for_too_long(self, lock: LockBackend) -> None:
        silent = await self.another(elsewhere=True, timeout=0.5)
        judge = await self.another(elsewhere=True, timeout=0.5)
        last = (await silent.register([define()]))[0].last_handled
        (granted,) = await silent.claim([request("r1", last + 1)])
        assert granted.outcome == "granted"
        await silent.beat()
        assert list((await judge.beat()).dead) == []
        await asyncio.sleep(0.6)
        (lease,) = (await judge.beat()).dead
        assert lease.run_id == "r1"
        # No instance has recovered it, so it may still be running.
        await silent.beat()
        assert list((await judge.beat()).dead) == []
        assert await silent.renew([LeaseRef("job", "r1", granted.token)]) == [True]

    @on_a_shared_store
    async def test_a_claim_and_a_registration_count_as_heartbeats(self, lock: LockBackend) -> None:
        busy = await self.another(elsewhere=True, timeout=0.8)
        judge = await self.another(elsewhere=True, timeout=0.8)
        last = (await busy.register([define()]))[0].last_handled
        (granted,) = await busy.claim([request("r1", last + 1)])
        assert granted.outcome == "granted"
        for ask in (lambda: busy.claim([request("r2", last + 1)]), lambda: busy.register([define()])):
            await asyncio.sleep(0.5)
            await ask()
            assert list((await judge.beat()).dead) == []
        await asyncio.sleep(0.9)
        assert [lease.run_id for lease in (await judge.beat()).dead] == ["r1"]

    @on_a_shared_store
    async def test_an_instance_learns_what_the_store_knows_of_it(self, lock: LockBackend) -> None:
        assert not (await lock.beat()).unknown
        await lock.leave()
        assert (await lock.beat()).unknown
        last = (await lock.register([define()]))[0].last_handled
        await lock.claim([request("r1", last + 1)])
        assert [lease.run_id for lease in (await lock.beat(leases=0)).own] == ["r1"]
        assert list((await lock.beat(leases=1)).own) == []

    @on_a_store
    async def test_a_store_that_lost_its_records_waits_for_what_other_instances_know(self, lock: LockBackend) -> None:
        now = int(SystemClock().now())
        (answer,) = await lock.register([define(last_handled=now - 60)])
        assert answer.last_handled == now - 60, "what was due since then is not lost with the records"
        (early,) = await lock.claim([request("r1", now)])
        assert early.outcome == "early"
        assert abs(early.last_handled - now) < 3
        (manual,) = await lock.claim([request("r2", None)])
        assert manual.outcome == "granted"
        await lock.release([LeaseRef("job", "r2", manual.token)])
        (again,) = await lock.register([define(last_handled=now - 5)])
        assert again.last_handled == now - 5
        (stale,) = await lock.claim([request("r3", now - 5)])
        assert stale.outcome == "stale"
        await asyncio.sleep(QUARANTINE)
        (granted,) = await lock.claim([request("r4", now)])
        assert (granted.outcome, granted.last_handled) == ("granted", now - 5)

    @on_a_store
    async def test_a_holder_that_lost_trust_in_its_lease_may_rerun_its_own_tick(self, lock: LockBackend) -> None:
        last = (await lock.register([define()]))[0].last_handled
        (granted,) = await lock.claim([request("r1", last + 1)])
        (again,) = await lock.claim([request("r2", last + 1)._replace(replaces="r1", attempt=2)])
        assert (again.outcome, again.last_handled) == ("granted", last)
        assert again.token > granted.token
        assert await lock.leased(["r1", "r2"]) == {"r2"}

    @on_a_shared_store
    async def test_the_holder_of_a_run_learns_that_it_is_to_be_cancelled(self, lock: LockBackend) -> None:
        holder = await self.another()
        last = (await holder.register([define()]))[0].last_handled
        (granted,) = await holder.claim([request("r1", last + 1)])
        assert await lock.cancel(["r1", "no such run"], "ops") == {"r1"}
        assert list((await lock.beat()).cancelled) == []
        assert [lease.cancelled for found in await lock.known() for lease in found.leases] == [True]
        assert [tuple(found) for found in (await holder.beat()).cancelled] == [("r1", "ops")]
        assert await holder.release([LeaseRef("job", "r1", granted.token)]) == [True]
        assert list((await holder.beat()).cancelled) == []

    @on_a_shared_store
    async def test_a_definition_is_orphaned_when_no_living_instance_registered_it(self, lock: LockBackend) -> None:
        newer = await self.another()
        last = (await lock.register([define()]))[0].last_handled
        await newer.register([define(schedule="0 * * * *")])
        (refused,) = await lock.claim([request("r1", last + 1)])
        assert (refused.outcome, refused.orphaned) == ("not_in_force", False)
        await newer.leave()
        (refused,) = await lock.claim([request("r2", last + 1)])
        assert (refused.outcome, refused.orphaned) == ("not_in_force", True)

    @on_a_shared_store
    async def test_other_arguments_are_another_definition_with_the_same_ticks(self, lock: LockBackend) -> None:
        newer, third = await self.another(), await self.another()
        ours, theirs = define()._replace(arguments="", nonce="n1"), define()._replace(arguments="5cd9b1e0", nonce="n2")
        last = (await lock.register([ours]))[0].last_handled
        (edited,) = await newer.register([theirs])
        assert edited == Registered(last, other_arguments=True), "nothing is handled by an edit"
        (joined,) = await third.register([theirs])
        assert not joined.other_arguments
        (refused,) = await lock.claim([request("r1", last + 1)._replace(arguments="")])
        assert (refused.outcome, refused.orphaned) == ("not_in_force", False)
        (granted,) = await newer.claim([request("r2", last + 1)._replace(arguments="5cd9b1e0")])
        assert (granted.outcome, granted.last_handled) == ("granted", last)
        for store in (newer, third):
            await store.leave()
        (refused,) = await lock.claim([request("r3", None)._replace(arguments="", force=True)])
        assert (refused.outcome, refused.orphaned) == ("not_in_force", True)
        assert await lock.register([ours]) == [Registered(last + 1, other_arguments=True)]

    @on_a_shared_store
    async def test_arguments_that_an_earlier_version_does_not_say_are_no_edit(self, lock: LockBackend) -> None:
        newer, earlier = await self.another(), await self.another()
        last = (await earlier.register([define()]))[0].last_handled
        told = define()._replace(arguments="5cd9b1e0")
        assert await newer.register([told]) == [Registered(last)]
        (granted,) = await earlier.claim([request("r1", last + 1)])
        assert granted.outcome == "granted"
        assert await earlier.register([define()]) == [Registered(last + 1)]
        (refused,) = await lock.claim([request("r2", None)._replace(arguments="", force=True)])
        assert refused.outcome == "not_in_force", "what was said stays on record"
        await newer.leave()
        (refused,) = await lock.claim([request("r3", None)._replace(arguments="", force=True)])
        assert (refused.outcome, refused.orphaned) == ("not_in_force", False), "those that said none registered it, too"

    @on_a_shared_store
    async def test_a_definition_is_orphaned_when_all_that_registered_it_have_withdrawn_it(
        self, lock: LockBackend
    ) -> None:
        newer, third = await self.another(), await self.another()
        last = (await lock.register([define()]))[0].last_handled
        for store in (newer, third):
            await store.register([define(schedule="0 * * * *")])
        for number, store in enumerate((newer, third)):
            (refused,) = await lock.claim([request(f"r{number}", last + 1)])
            assert (refused.outcome, refused.orphaned) == ("not_in_force", False)
            gone, never = await store.register(
                [define(name, schedule="0 * * * *")._replace(withdrawn=True) for name in ("job", "never")]
            )
            assert (gone.replaced, never) == (None, Registered(0))
        (refused,) = await lock.claim([request("r2", last + 1)])
        assert (refused.outcome, refused.orphaned) == ("not_in_force", True)
        (known,) = await lock.known()
        assert (known.job, known.schedule) == ("job", "0 * * * *"), "the record stays"

    @on_a_shared_store
    async def test_namespaces_share_a_store_and_nothing_else(self, lock: LockBackend) -> None:
        staging = await self.another(namespace=f"{self.namespace}.staging")
        for number, store in enumerate((lock, staging)):
            last = (await store.register([define()]))[0].last_handled
            (granted,) = await store.claim([request(f"r{number}", last + 1)])
            assert granted.outcome == "granted"
        await lock.pause([PauseRequest("job")])
        assert await staging.pauses() == {}
        for store, run_id in ((lock, "r0"), (staging, "r1")):
            (found,) = await store.known()
            assert (found.job, *(lease[:2] for lease in found.leases)) == ("job", ("job", run_id))
        assert len(await staging.instances()) == 1
        assert await staging.cancel(["r0"], None) == set()
        assert list((await staging.beat()).dead) == []

    @on_a_shared_store
    async def test_jobs_that_no_instance_registers_any_more_are_forgotten(self, lock: LockBackend) -> None:
        other = await self.another()
        kept = (await lock.register([define("kept"), define("both")]))[0]
        held = (await other.register([define("both"), define("gone"), define("held")]))[2]
        (granted,) = await other.claim([request("r1", held.last_handled + 1, job="held")])
        assert granted.outcome == "granted"
        assert await lock.forget(0) == []
        await other.leave()
        assert await lock.forget(1_000) == []
        await asyncio.sleep(1.1)
        assert await lock.forget(1) == ["gone"]
        assert await lock.last_handled(["gone", "kept", "held"]) == [None, kept.last_handled, held.last_handled + 1]
