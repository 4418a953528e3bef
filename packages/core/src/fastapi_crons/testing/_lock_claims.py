"""The contract of lock stores, as far as one instance meets it: claims, leases, pauses, what is on record."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from fastapi_crons.clock import SystemClock
from fastapi_crons.locking import (
    ClaimRequest,
    Definition,
    Lease,
    LeaseRef,
    LeaseTerms,
    LockBackend,
    PauseRequest,
    ResumeRequest,
)
from fastapi_crons.locking.instance import Instance
from fastapi_crons.testing._contract import Contract, on_a_store

SCHEDULE = "* * * * *"
AFTER_END = "Every(seconds=45, after='end')"


def request(run_id: str, tick: int | None, *, job: str = "job", schedule: str = SCHEDULE) -> ClaimRequest:
    """A claim of a tick, or with None that of a manual run."""
    return ClaimRequest(job, run_id, tick, schedule, "UTC")


def define(job: str = "job", schedule: str = SCHEDULE, last_handled: int = 0) -> Definition:
    """A definition as an instance registers it."""
    return Definition(job, schedule, "UTC", "module:function", last_handled)


class LockStoreTests(Contract[LockBackend]):
    """Opens the store as several instances."""

    opened: list[tuple[LockBackend, Instance]]

    async def another(
        self, *, elsewhere: bool = False, namespace: str | None = None, timeout: float = 30
    ) -> LockBackend:
        """The store as another instance opens it: in this process, or on a host where only its heartbeat can judge it."""
        store, instance = self.make_store(), Instance.of_this_process()
        if elsewhere:
            instance = replace(instance, host="elsewhere", boot="")
        instance.lives_here(alive=True)
        await store.open(instance, namespace or self.namespace, LeaseTerms(300, timeout), SystemClock())
        self.opened.append((store, instance))
        await store.beat()
        return store

    async def dies(self, store: LockBackend) -> None:
        """The end of an instance that had no time to leave."""
        (found,) = [pair for pair in self.opened if pair[0] is store]
        found[1].lives_here(alive=False)
        self.opened.remove(found)
        await store.close()

    async def close_all(self) -> None:
        for store, instance in self.opened:
            await store.leave()
            await store.close()
            instance.lives_here(alive=False)


class ClaimTests(LockStoreTests):
    """One instance and its store."""

    @on_a_store
    async def test_a_tick_is_claimed_once_and_the_job_is_busy_until_released(self, lock: LockBackend) -> None:
        last = (await lock.register([define()]))[0].last_handled
        assert abs(last - SystemClock().now()) < 3
        (granted,) = await lock.claim([request("r1", last + 1)])
        assert (granted.outcome, granted.last_handled) == ("granted", last)
        stale, busy = await lock.claim([request("r2", last + 1), request("manual", None)])
        assert (stale.outcome, busy.outcome, busy.holder) == ("stale", "busy", "r1")
        assert await lock.leased(["r1", "r2"]) == {"r1"}
        assert await lock.release([LeaseRef("job", "r1", granted.token + 1)]) == [False]
        assert await lock.renew([LeaseRef("job", "r1", granted.token), LeaseRef("job", "r2", 1)]) == [True, False]
        assert await lock.release([LeaseRef("job", "r1", granted.token)]) == [True]
        (again,) = await lock.claim([request("manual", None)])
        assert again.outcome == "granted"
        assert again.token > granted.token

    @on_a_store
    async def test_a_claim_that_is_asked_again_gets_the_same_answer(self, lock: LockBackend) -> None:
        last = (await lock.register([define()]))[0].last_handled
        first = await lock.claim([request("r1", last + 1)])
        assert await lock.claim([request("r1", last + 1)]) == first

    @on_a_store
    async def test_a_paused_job_grants_no_tick_until_it_is_resumed(self, lock: LockBackend) -> None:
        last = (await lock.register([define(), define("other")]))[0].last_handled
        assert await lock.pause([PauseRequest("nope")]) == [None]
        (pause,) = await lock.pause([PauseRequest("job", "ops", "why")])
        assert pause is not None
        assert abs(pause.since - SystemClock().now()) < 3
        assert set(await lock.pauses()) == {"job"}
        assert (await lock.pauses())["job"][1:] == ("ops", "why")
        answers = await lock.claim([request("r1", last + 1), request("r2", last + 1, job="other"), request("r3", None)])
        assert [answer.outcome for answer in answers] == ["paused", "granted", "granted"]
        await lock.release([LeaseRef("job", "r3", answers[2].token)])
        (resumed, none) = await lock.resume([ResumeRequest("job", "n1", catch_up=True), ResumeRequest("other", "n2")])
        assert resumed is not None
        assert resumed.pause[1:] == pause[1:]
        assert abs(resumed.pause.since - pause.since) < 0.01
        assert (resumed.after, resumed.last_handled, resumed.token, none) == (last, last, 0, None)
        assert await lock.pauses() == {}
        (granted,) = await lock.claim([request("r4", last + 1)])
        assert (granted.outcome, granted.last_handled) == ("granted", last)

    @on_a_store
    async def test_a_tick_can_be_counted_from_the_end_of_the_last_run(self, lock: LockBackend) -> None:
        job, other_job = define("job", AFTER_END), define("other", AFTER_END)
        last = (await lock.register([job, other_job]))[0].last_handled
        (other,) = await lock.claim([request("o1", None, job="other", schedule=AFTER_END)])
        (granted,) = await lock.claim([request("r1", last + 1, schedule=AFTER_END)._replace(after=last)])
        assert granted.outcome == "granted"
        await asyncio.sleep(2)
        counted = request("r2", last + 2, schedule=AFTER_END)
        counted = counted._replace(after=last + 1, missed="misfire_grace_time")
        (before,) = await lock.claim([counted])
        assert (before.outcome, before.holder, before.skipped) == ("busy", "r1", False)
        refs = [LeaseRef("job", "r1", granted.token, True), LeaseRef("other", "o1", other.token)]
        assert await lock.release(refs) == [True, True]
        ended, untouched = await lock.last_handled(["job", "other"])
        assert ended is not None
        assert last + 2 <= ended <= SystemClock().now() + 1
        assert untouched == last
        await asyncio.sleep(1)
        (stale,) = await lock.claim([request("r3", ended + 1, schedule=AFTER_END)._replace(after=last + 1)])
        assert (stale.outcome, stale.last_handled) == ("stale", ended)
        assert await lock.release([LeaseRef("job", "r1", granted.token, True)]) == [False]
        assert await lock.last_handled(["job"]) == [ended]

    @on_a_store
    async def test_nothing_is_due_that_is_counted_from_the_end_of_a_run_that_goes_on(self, lock: LockBackend) -> None:
        last = (await lock.register([define("job", AFTER_END)]))[0].last_handled
        (granted,) = await lock.claim([request("r1", last + 1, schedule=AFTER_END)._replace(after=last)])
        await lock.pause([PauseRequest("job")])
        await asyncio.sleep(2)
        (resumed,) = await lock.resume([ResumeRequest("job", "n1")])
        assert resumed is not None
        assert (resumed.after, resumed.last_handled, resumed.token) == (last + 1, last + 1, 0)
        (edited,) = await lock.register([define()._replace(nonce="n2")])
        assert edited.replaced is not None
        assert (edited.replaced.last_handled, edited.replaced.token) == (last + 1, 0)
        # The new schedule has ticks of its own, which the end of that run does not handle.
        await asyncio.sleep(1)
        assert await lock.release([LeaseRef("job", "r1", granted.token, True)]) == [True]
        assert await lock.last_handled(["job"]) == [edited.last_handled]

    @on_a_store
    async def test_a_skipped_tick_leaves_a_lease_until_it_is_on_record(self, lock: LockBackend) -> None:
        last = (await lock.register([define()]))[0].last_handled
        (granted,) = await lock.claim([request("r1", last + 1)])
        assert granted.outcome == "granted"
        (again,) = await lock.register([define(last_handled=last - 10)])
        assert again.last_handled == last + 1
        (forced,) = await lock.claim([request("forced", None)._replace(force=True)])
        assert (forced.outcome, forced.holder) == ("granted", "r1")
        (missed,) = await lock.claim([request("r2", last + 1)._replace(missed="misfire_grace_time")])
        assert missed.outcome == "stale"
        assert await lock.leased(["r1", "forced", "r2"]) == {"r1", "forced"}
        await asyncio.sleep(1)
        (skipped,) = await lock.claim([request("r3", last + 2)])
        assert (skipped.outcome, skipped.skipped, skipped.last_handled) == ("busy", True, last + 1)
        assert skipped.holder in ("r1", "forced")
        assert await lock.leased(["r3"]) == {"r3"}
        assert await lock.release([LeaseRef("job", "r3", skipped.token)]) == [True]

    @on_a_store
    async def test_a_store_that_lost_its_records_restores_leases(self, lock: LockBackend) -> None:
        now = SystemClock().now()
        token = int(now * 1000)
        owner = self.opened[0][1].owner
        held = Lease("job", "r1", int(now) - 5, owner, token, 1, now + 300, int(now) - 65, None, SCHEDULE, "UTC")
        (answer,) = await lock.register([define(last_handled=int(now) - 5)._replace(held=(held,))])
        assert await lock.leased(["r1"]) == {"r1"}
        (stale,) = await lock.claim([request("r2", int(now) - 5)])
        assert stale.outcome == "stale"
        assert await lock.renew([LeaseRef("job", "r1", token)]) == [True]
        assert await lock.release([LeaseRef("job", "r1", token)]) == [True]
        (granted,) = await lock.claim([request("r3", None)])
        assert granted.token > token
        assert answer.last_handled >= int(now) - 5

    @on_a_store
    async def test_unknown_jobs_other_schedules_and_the_future_are_refused(self, lock: LockBackend) -> None:
        last = (await lock.register([define()]))[0].last_handled
        answers = await lock.claim(
            [
                request("r1", last, job="unknown"),
                request("r2", last + 1, schedule="0 * * * *"),
                request("r3", last + 60),
            ]
        )
        assert [answer.outcome for answer in answers] == ["unknown", "not_in_force", "early"]
        assert await lock.last_handled(["job", "unknown"]) == [last, None]

    @on_a_store
    async def test_what_is_on_record_of_jobs_is_known_with_all_their_leases(self, lock: LockBackend) -> None:
        assert await lock.known() == []
        off = define("off", "0 * * * *")._replace(enabled=False, function="module:other", arguments="0badcafe")
        last = (await lock.register([define(), define("plain"), off]))[0].last_handled
        (run, forced) = await lock.claim([request("r1", last + 1), request("r2", None)._replace(force=True)])
        (missed,) = await lock.claim([request("r3", last + 1, job="plain")._replace(missed="max_catch_up")])
        await lock.pause([PauseRequest("job", "ops", "why")])
        known = {found.job: found for found in await lock.known()}
        assert set(known) == {"job", "plain", "off"}
        assert known["job"][1:6] == (SCHEDULE, "UTC", "module:function", True, last + 1)
        assert known["off"][1:6] == ("0 * * * *", "UTC", "module:other", False, last)
        assert all(abs(found.since - SystemClock().now()) < 3 for found in known.values())
        assert known["job"].pause is not None
        assert known["job"].pause[1:] == ("ops", "why")
        assert (known["plain"].pause, known["off"].pause, known["off"].leases) == (None, None, ())
        owner = self.opened[0][1].owner
        assert {found.registrars for found in known.values()} == {(owner,)}
        assert (known["job"].arguments, known["off"].arguments) == (None, "0badcafe")
        assert {lease.run_id: lease._replace(expires=0) for lease in known["job"].leases} == {
            "r1": Lease("job", "r1", last + 1, owner, run.token, 1, 0, last, None, SCHEDULE, "UTC"),
            "r2": Lease("job", "r2", None, owner, forced.token, 1, 0, last + 1, None, SCHEDULE, "UTC"),
        }
        assert all(abs(lease.expires - SystemClock().now() - 300) < 3 for lease in known["job"].leases)
        (lease,) = known["plain"].leases
        assert (lease.job, lease.run_id, lease.token, lease.missed) == ("plain", "r3", missed.token, "max_catch_up")
        assert await lock.known(["plain", "unknown"]) == [known["plain"]]
        assert await lock.known([]) == []

    @on_a_store
    async def test_a_batch_of_thousands_is_decided_in_order(self, lock: LockBackend) -> None:
        registered = await lock.register([define(f"job-{number}") for number in range(3_000)])
        results = await lock.claim(
            [
                request(f"r{number}", answer.last_handled + 1, job=f"job-{number}")
                for number, answer in enumerate(registered)
            ]
        )
        assert {result.outcome for result in results} == {"granted"}
        names = [f"job-{number}" for number in range(3_000)]
        assert await lock.last_handled(names) == [answer.last_handled + 1 for answer in registered]
        assert {lease.run_id for found in await lock.known() for lease in found.leases} == {
            f"r{number}" for number in range(3_000)
        }
        assert {found.job for found in await lock.known(names)} == set(names)
        refs = [LeaseRef(f"job-{number}", f"r{number}", result.token) for number, result in enumerate(results)]
        assert await lock.renew(refs) == [True] * 3_000
        assert await lock.release(refs) == [True] * 3_000

    @on_a_store
    async def test_a_new_schedule_comes_into_force_and_names_the_old_one(self, lock: LockBackend) -> None:
        last = (await lock.register([define()]))[0].last_handled
        (changed,) = await lock.register([define(schedule="0 * * * *")])
        assert changed.replaced is not None
        assert changed.replaced[:4] == (SCHEDULE, "UTC", last, "schedule_changed")
        (raised,) = await lock.register([define(schedule="0 * * * *", last_handled=last + 500)])
        assert raised.last_handled == last + 500

    @on_a_store
    async def test_names_of_any_kind_are_kept_apart(self, lock: LockBackend) -> None:
        names = ["a:b", "a", "a*", "{a}", "a b", "ä\u2009🚀", "%41", "a\\b", '"quoted"', "'", "x" * 200]
        lasts = [answer.last_handled for answer in await lock.register([define(name) for name in names])]
        results = await lock.claim(
            [request(f"r{name}", last + 1, job=name) for name, last in zip(names, lasts, strict=True)]
        )
        assert {result.outcome for result in results} == {"granted"}
        assert await lock.leased([f"r{name}" for name in names]) == {f"r{name}" for name in names}
        assert {found.job: found.leases[0].run_id for found in await lock.known()} == {
            name: f"r{name}" for name in names
        }
