"""The Redis lock decides as the rule says, and gets along with servers of every kind."""

from __future__ import annotations

import asyncio
import json
import os
import platform
from dataclasses import replace
from typing import Any

import pytest
import redis.asyncio
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from fastapi_crons import CronConfig, Crons
from fastapi_crons.clock import SystemClock
from fastapi_crons.errors import ConfigurationError, StoreUnusableError
from fastapi_crons.job import Overlap
from fastapi_crons.locking import (
    ClaimRequest,
    Definition,
    DistributedLockManager,
    KnownJob,
    LeaseRef,
    LeaseTerms,
    PauseRequest,
    ResumeRequest,
)
from fastapi_crons.locking import (
    rule as lock_rule,
)
from fastapi_crons.locking.instance import Instance
from fastapi_crons.locking.rule import JobRecord
from fastapi_crons.management.management import Management
from fastapi_crons.run import MissedReason
from fastapi_crons.state import MemoryStateBackend
from fastapi_crons_redis import RedisLockBackend
from fastapi_crons_redis.scripts import LOCK_KEYS
from tests.faults.redis_server import RedisServer, needs_redis

pytestmark = needs_redis

TERMS = LeaseTerms(100, 30)
OWNERS = ("a", "b", "c")
JOBS = ("one", "two")
owners, jobs = st.sampled_from(OWNERS), st.sampled_from(JOBS)
schedules = st.sampled_from([*["* * * * *"] * 9, "0 * * * *"])
START = 1_800_000_000


class SettableClock(RedisLockBackend):
    """A lock store whose server has the time that the test gives it."""

    def set_time(self, now: float) -> None:
        stamp = json.dumps([str(int(now)), str(round(now % 1 * 1_000_000))])
        self._script = self._script_of_server.replace("redis.call('TIME')", f"cjson.decode('{stamp}')")

    @property
    def _script_of_server(self) -> str:
        if not hasattr(self, "_original"):
            self._original = self._script
        return self._original


def in_milliseconds(known: KnownJob) -> KnownJob:
    """What is known of a job, without the last digits of sums of instants."""
    leases = sorted(lease._replace(expires=round(lease.expires, 3)) for lease in known.leases)
    return known._replace(since=round(known.since, 3), leases=tuple(leases))


class AgreesWithTheRule(RuleBasedStateMachine):
    """Three instances do at random what instances do, on the server and on the pure records: the answers are the same."""

    server: RedisServer

    @initialize()
    def begin(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.client = redis.asyncio.from_url(self.server.url)
        self.now = float(START)
        self.records: dict[str, JobRecord] = {}
        #: When an instance was last known to live, and which have said who they are.
        self.beats: dict[str, float] = {}
        self.known: set[str] = set()
        self.stores: dict[str, SettableClock] = {}
        self.asked = 0
        self.do(self.client.flushall())
        here = Instance.of_this_process()
        for owner in OWNERS:
            store = self.stores[owner] = SettableClock(self.client)
            store.set_time(self.now)
            instance = replace(here, id=owner, owner=owner, host=owner, boot="")
            self.do(store.open(instance, "default", TERMS, SystemClock()))
            self.beat(owner)
        for job in JOBS:
            self.register("a", job, "* * * * *", True)

    def teardown(self) -> None:
        if hasattr(self, "loop"):
            self.do(self.client.aclose())
            self.loop.close()

    def do(self, call: Any) -> Any:
        return self.loop.run_until_complete(call)

    def at(self, owner: str) -> SettableClock:
        self.stores[owner].set_time(self.now)
        return self.stores[owner]

    def alive(self, me: str) -> Any:
        def lives(owner: str, expires: float) -> bool:
            if owner == me:
                return True
            beat = self.beats.get(owner)
            return beat is not None and self.now < expires and self.now - beat < TERMS.instance

        return lives

    def new_id(self) -> str:
        self.asked += 1
        return f"id-{self.asked:04}"

    @rule(seconds=st.floats(-20, 40))
    def time_passes(self, seconds: float) -> None:
        self.now = round(self.now + seconds, 3)

    @rule(owner=owners)
    def beat(self, owner: str) -> None:
        self.beats[owner] = self.now
        own = [lease for lease in self.leases() if lease.instance == owner]
        beat = self.do(self.at(owner).beat())
        lives = self.alive(owner)
        dead = {lease.run_id for lease in self.leases() if not lives(lease.instance, lease.expires)}
        found = {lease.run_id for lease in beat.dead}
        assert found <= dead
        assert beat.unknown is (owner not in self.known)
        assert len(beat.own) == len(own)
        self.known.add(owner)
        suspects = {lease.instance for lease in self.leases() if not lives(lease.instance, float("inf"))}
        if suspects:
            assert found == dead
        living = {each for each in self.beats if lives(each, 1e99)}
        assert {each.instance.owner for each in beat.instances} == living & self.known
        # The dead who left nothing are forgotten.
        holders = {lease.instance for lease in self.leases()}
        self.beats = {each: at for each, at in self.beats.items() if each in living | holders}
        self.known &= self.beats.keys()

    @rule(owner=owners)
    def leave(self, owner: str) -> None:
        self.beats.pop(owner, None)
        self.known.discard(owner)
        self.do(self.at(owner).leave())

    @rule(owner=owners, job=jobs, schedule=schedules, enabled=st.sampled_from([True, True, True, False]))
    def register(self, owner: str, job: str, schedule: str, enabled: bool) -> None:
        record = self.records.get(job)
        definition = Definition(
            job, schedule, "UTC", f"m:{owner}", record.last_handled if record else 0, enabled, self.new_id()
        )
        self.beats[owner] = self.now
        expected = lock_rule.register(self.records, definition, owner, self.now, TERMS.lease)
        assert self.do(self.at(owner).register([definition])) == [expected]

    @rule(
        owner=owners,
        job=jobs,
        offset=st.one_of(st.none(), st.integers(-20, 3)),
        schedule=schedules,
        overlap=st.sampled_from(["skip", "queue", "allow"]),
        force=st.booleans(),
        missed=st.sampled_from([None, None, "misfire_grace_time"]),
        again=st.booleans(),
    )
    def claim(
        self,
        owner: str,
        job: str,
        offset: int | None,
        schedule: str,
        overlap: Overlap,
        force: bool,
        missed: MissedReason | None,
        again: bool,
    ) -> None:
        tick = None if offset is None else int(self.now) + offset
        request = ClaimRequest(job, self.new_id(), tick, schedule, "UTC", overlap, force, (tick and missed) or None)
        self.beats[owner] = self.now
        for _ in range(1 + again):
            expected = lock_rule.claim(self.records, request, owner, self.now, TERMS.lease, self.alive(owner))
            assert self.do(self.at(owner).claim([request])) == [expected]

    @rule(owner=owners, which=st.integers(0, 1000))
    def take_over(self, owner: str, which: int) -> None:
        leases = self.leases()
        if leases:
            lease = leases[which % len(leases)]
            request = ClaimRequest(
                lease.job, self.new_id(), lease.tick, "* * * * *", "UTC", replaces=lease.run_id, attempt=2
            )
            self.beats[owner] = self.now
            expected = lock_rule.claim(self.records, request, owner, self.now, TERMS.lease, self.alive(owner))
            assert self.do(self.at(owner).claim([request])) == [expected]

    @rule(which=st.integers(0, 1000), right=st.booleans(), renew=st.booleans())
    def renew_or_release(self, which: int, right: bool, renew: bool) -> None:
        leases = self.leases()
        if leases:
            lease = leases[which % len(leases)]
            ref = LeaseRef(lease.job, lease.run_id, lease.token if right else lease.token - 1)
            store = self.at(lease.instance)
            if renew:
                assert lock_rule.renew(self.records, ref, self.now, TERMS.lease) is right
                assert self.do(store.renew([ref])) == [right]
            else:
                assert lock_rule.release(self.records, ref) is right
                assert self.do(store.release([ref])) == [right]

    @rule(owner=owners, job=jobs)
    def pause(self, owner: str, job: str) -> None:
        request = PauseRequest(job, "ops", None)
        assert self.do(self.at(owner).pause([request])) == [lock_rule.pause(self.records, request, self.now)]

    @rule(owner=owners, job=jobs, catch_up=st.booleans(), again=st.booleans())
    def resume(self, owner: str, job: str, catch_up: bool, again: bool) -> None:
        request = ResumeRequest(job, self.new_id(), catch_up)
        for _ in range(1 + again):
            expected = lock_rule.resume(self.records, request, owner, self.now, TERMS.lease)
            assert self.do(self.at(owner).resume([request])) == [expected]

    @rule(really=st.integers(0, 9))
    def the_store_loses_all(self, really: int) -> None:
        if really == 0:
            self.do(self.client.flushall())
            self.records.clear()
            self.beats.clear()
            self.known.clear()

    def leases(self) -> list[Any]:
        return [lease for record in self.records.values() for lease in (record.leases or {}).values()]

    @invariant()
    def the_marks_and_leases_are_the_same(self) -> None:
        if hasattr(self, "stores"):
            store = self.at("a")
            marks = [self.records[job].last_handled if job in self.records else None for job in JOBS]
            assert self.do(store.last_handled(JOBS)) == marks
            ids = [f"id-{number:04}" for number in range(1, self.asked + 1)]
            assert self.do(store.leased(ids)) == {lease.run_id for lease in self.leases()}
            known = {found.job: in_milliseconds(found) for found in self.do(store.known())}
            assert known == {job: in_milliseconds(record.known(job)) for job, record in self.records.items()}
            paused = {job: record.pause for job, record in self.records.items() if record.pause is not None}
            assert self.do(store.pauses()) == paused


def test_the_server_decides_as_the_rule_says(redis_server: RedisServer) -> None:
    AgreesWithTheRule.server = redis_server
    run_state_machine_as_test(
        AgreesWithTheRule,
        settings=settings(
            max_examples=100, stateful_step_count=40, deadline=None, database=None, phases=[Phase.generate]
        ),
    )


async def test_a_client_is_used_as_it_is(redis_server: RedisServer) -> None:
    instance = Instance.of_this_process()
    for options in ({}, {"decode_responses": True}, {"protocol": 3}, {"max_connections": 1}):
        client = redis.asyncio.from_url(redis_server.url, **options)
        lock = RedisLockBackend(client)
        await lock.open(instance, "clients", TERMS, SystemClock())
        (enrolment,) = await lock.register([Definition("jöb", "* * * * *", "UTC", "m:f")])
        (result,) = await lock.claim([ClaimRequest("jöb", f"r{options}", None, "* * * * *", "UTC", force=True)])
        assert (result.outcome, result.last_handled) == ("granted", enrolment.last_handled)
        assert [found.instance.id for found in (await lock.beat()).instances] == [instance.id]
        await lock.close()
        assert await client.ping(), "a client that was handed in was closed"
        await client.aclose()


def test_a_client_without_asyncio_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"redis\.asyncio"):
        RedisLockBackend(redis.Redis())  # type: ignore[arg-type]


async def test_a_server_that_forgets_scripts_is_told_again(redis_server: RedisServer) -> None:
    client = redis.asyncio.from_url(redis_server.url)
    lock = RedisLockBackend(client)
    await lock.open(Instance.of_this_process(), "flushed", TERMS, SystemClock())
    redis_server.cli("SCRIPT", "FLUSH")
    assert (await lock.register([Definition("job", "* * * * *", "UTC", "m:f")]))[0].last_handled
    await lock.close()
    await client.aclose()


async def test_all_keys_of_a_namespace_lie_in_one_slot_of_a_cluster(tmp_path: Any) -> None:
    with RedisServer(tmp_path / "cluster", cluster=True) as server:
        client = redis.asyncio.RedisCluster.from_url(server.url)
        lock = RedisLockBackend(client)
        await lock.open(Instance.of_this_process(), "fleet", TERMS, SystemClock())
        (enrolment,) = await lock.register([Definition("a{b}c", "* * * * *", "UTC", "m:f")])
        (result,) = await lock.claim([ClaimRequest("a{b}c", "r1", enrolment.last_handled + 1, "* * * * *", "UTC")])
        assert result.outcome == "granted"
        beside = lock.clone()
        assert beside is not None
        await beside.open(Instance.of_this_process(), "fleet", TERMS, SystemClock())
        assert len((await beside.beat()).instances) == 1
        await beside.close()
        slots = {server.cli("CLUSTER", "KEYSLOT", key) for key in server.cli("KEYS", "*")}
        assert len(slots) == 1
        await client.aclose()


async def test_a_newer_layout_works_as_long_as_it_lets_us(redis_server: RedisServer) -> None:
    client = redis.asyncio.from_url(redis_server.url)
    layout = "{crons:layouts}:lock:layout"
    lock = RedisLockBackend(client)
    await client.hset(layout, mapping={"version": 99, "compatible_from": 1})
    await lock.open(Instance.of_this_process(), "layouts", TERMS, SystemClock())
    assert await client.hget(layout, "version") == b"99"
    await client.hset(layout, "compatible_from", 99)
    with pytest.raises(StoreUnusableError, match="newer version"):
        await lock.open(Instance.of_this_process(), "layouts", TERMS, SystemClock())
    await client.aclose()


@pytest.mark.parametrize(
    "damage", [("compatible_from", "1e300"), ("compatible_from", "-1"), ("version", "zzz"), ("compatible_from", "2")]
)
async def test_a_damaged_layout_is_written_anew(redis_server: RedisServer, damage: tuple[str, str]) -> None:
    client = redis.asyncio.from_url(redis_server.url, decode_responses=True)
    layout, lock = "{crons:damaged}:lock:layout", RedisLockBackend(client)
    await client.hset(layout, mapping={"version": 1, "compatible_from": 1})
    await client.hset(layout, *damage)
    await lock.open(Instance.of_this_process(), "damaged", TERMS, SystemClock())
    assert await client.hgetall(layout) == {"version": "1", "compatible_from": "1"}
    await client.aclose()


@pytest.mark.parametrize("key", LOCK_KEYS)
async def test_a_key_of_another_kind_lasts_until_the_next_heartbeat_or_start(
    redis_server: RedisServer, key: str, caplog: pytest.LogCaptureFixture
) -> None:
    client = redis.asyncio.from_url(redis_server.url)
    namespace, lock = f"kind-{key}", RedisLockBackend(client)
    damaged = f"{{crons:{namespace}}}:lock:{key}"
    job = Definition("job", "* * * * *", "UTC", "m:f")
    me = Instance.of_this_process()
    for again in (lock.beat, lambda: lock.open(me, namespace, TERMS, SystemClock())):
        await lock.open(me, namespace, TERMS, SystemClock())
        await client.delete(damaged)
        await client.rpush(damaged, "not a hash")
        await again()
        await lock.register([job])
        claim = ClaimRequest("job", "run", None, job.schedule, job.timezone)
        (granted,) = await lock.claim([claim])
        assert granted.outcome == "granted"
        assert await lock.release([LeaseRef("job", "run", granted.token)]) == [True]
        await lock.beat()
    assert lock.damaged() == [f"lock store in Redis: key {damaged}"]
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    await client.aclose()


async def test_an_idle_instance_costs_the_store_only_its_heartbeat() -> None:
    with RedisServer() as server:
        client = redis.asyncio.from_url(server.url)
        config = CronConfig(heartbeat_interval=0.5)
        crons = Crons(
            state_backend=MemoryStateBackend(),
            lock_manager=DistributedLockManager(RedisLockBackend(client), config),
            config=config,
        )
        for number in range(1_000):
            crons.cron("0 0 1 1 *", name=f"job-{number}")(_nothing)
        await crons.start()

        def scripts() -> int:
            return int(server.cli("INFO", "commandstats")["cmdstat_evalsha"]["calls"])

        await asyncio.sleep(0.7)
        before = scripts()
        await asyncio.sleep(3)
        assert 3 <= scripts() - before <= 7
        await crons.stop()
        await client.aclose()


async def test_instances_are_seen_with_what_an_operator_wants_to_know(redis_server: RedisServer) -> None:
    client = redis.asyncio.from_url(redis_server.url)
    schedulers = []
    for name in ("worker-001", "worker-002"):
        config = CronConfig(namespace="seen", instance_id=name, heartbeat_interval=0.3)
        locks = DistributedLockManager(RedisLockBackend(client), config)
        schedulers.append(Crons(state_backend=MemoryStateBackend(), lock_manager=locks, config=config))
        await schedulers[-1].start()
    found = await Management(schedulers[0]).instances()
    assert [each.instance.id for each in found] == ["worker-001", "worker-002"]
    for each in found:
        assert each.instance.version
        assert each.instance.pid == os.getpid()
        assert each.instance.host == platform.node()
        assert abs(each.heartbeat_ts - SystemClock().now()) < 3
        assert each.running == 0
    for crons in schedulers:
        await crons.stop()
    await client.aclose()


def test_ten_thousand_ticks_at_once_need_no_more_than_a_few_connections(redis_server: RedisServer) -> None:
    async def main() -> None:
        client = redis.asyncio.from_url(redis_server.url, max_connections=3)
        config = CronConfig(namespace="many")
        locks = DistributedLockManager(RedisLockBackend(client), config)
        crons = Crons(state_backend=MemoryStateBackend(), lock_manager=locks, config=config)
        ran = 0

        async def job() -> None:
            nonlocal ran
            ran += 1

        for number in range(10_000):
            crons.cron("0 0 1 1 *", name=f"job-{number}")(job)
        await crons.start()
        runs = await asyncio.gather(*(crons.run_job(f"job-{number}") for number in range(500)))
        assert {run.status for run in runs} == {"completed"}
        assert len(await client.client_list()) <= 8
        await crons.stop()
        await client.aclose()

    asyncio.run(main())


async def _nothing() -> None: ...
