"""The base for lock stores with transactions, on records in memory: contract, walk, and what can't be read on record."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastapi_crons.clock import SystemClock
from fastapi_crons.locking import (
    ClaimRequest,
    Clock,
    Definition,
    Instance,
    Lease,
    LeaseTerms,
    LiveInstance,
    LockBackend,
    LockTransaction,
    Pause,
    TransactionalLockBackend,
    without_waiting,
)
from fastapi_crons.locking.rule import JobRecord
from fastapi_crons.locking.text import (
    instance_from_text,
    instance_to_text,
    lease_from_text,
    lease_to_text,
    record_from_text,
    record_to_text,
)
from fastapi_crons.testing import LockContract, LockWalk
from tests.fleet_lock import Fleet, FleetLock

HERE = replace(Instance.of_this_process(), owner="here~1")


class TestInMemory(LockContract, LockWalk):
    @pytest.fixture(autouse=True)
    def _fleets(self) -> None:
        self.fleets: dict[str, Fleet] = {}

    def make_store(self) -> LockBackend:
        return EachNamespace(self.fleets)


class EachNamespace(FleetLock):
    """A store of several namespaces."""

    def __init__(self, fleets: dict[str, Fleet]) -> None:
        super().__init__(Fleet())
        self._fleets = fleets

    async def open(self, instance: Instance, namespace: str, terms: LeaseTerms, clock: Clock) -> None:
        await TransactionalLockBackend.open(self, instance, namespace, terms, clock)

    async def connect(self, *, to_read: bool) -> None:
        self._fleet = self._fleets.setdefault(self.namespace, Fleet())
        self._fleet.clock = self.clock


async def opened(fleet: Fleet) -> FleetLock:
    lock = FleetLock(fleet)
    await lock.open(HERE, "default", LeaseTerms(300, 30), SystemClock())
    await lock.beat()
    return lock


async def test_a_claim_asks_for_instances_only_where_it_matters_who_is_alive() -> None:
    class Counts(Fleet):
        asked = 0

        async def instances(self) -> list[LiveInstance]:
            self.asked += 1
            return await super().instances()

        async def touch(self, owner: str, now: float) -> None: ...

    fleet = Counts()
    lock = await opened(fleet)
    (registered,) = await lock.register([Definition("job", "* * * * *", "UTC", "m:f")])
    fleet.asked = 0
    await lock.claim([ClaimRequest("job", "r1", registered.last_handled + 1, "* * * * *", "UTC")])
    assert fleet.asked == 0
    await lock.claim([ClaimRequest("job", "r2", registered.last_handled + 1, "* * * * *", "UTC")])
    assert fleet.asked == 1


async def test_what_can_not_be_read_is_left_out_or_repaired_and_named_once() -> None:
    fleet = Fleet()
    lock = await opened(fleet)
    await lock.register([Definition(job, "* * * * *", "UTC", "m:f") for job in ("good", "bad", "mended")])
    (granted,) = await lock.claim([ClaimRequest("good", "r1", None, "* * * * *", "UTC")])
    assert granted.outcome == "granted"
    fleet.records["bad"].schedule = None  # type: ignore[assignment]
    fleet.records["mended"].token = -1
    leases = fleet.records["good"].leases
    assert leases is not None
    leases["r2"] = leases["r1"]._replace(run_id="r2", attempt=-1)
    fleet.living["ghost"] = LiveInstance(replace(HERE, owner="ghost", host="elsewhere"), 1e300)
    fleet.living["nobody"] = LiveInstance(replace(HERE, owner=7), 0)  # type: ignore[arg-type]
    for _ in range(2):
        assert {known.job for known in await lock.known()} == {"good", "mended"}
        assert await lock.leased(["r1", "r2"]) == {"r1"}
        assert {found.instance.owner for found in (await lock.beat()).instances} == {"here~1", "ghost"}
    assert fleet.living["ghost"].heartbeat_ts < 1e11
    assert sorted(lock.damaged()) == [
        "lock store in memory: instance 'ghost'",
        "lock store in memory: instance 7",
        "lock store in memory: lease 'r2'",
        "lock store in memory: record of job 'bad'",
        "lock store in memory: record of job 'mended'",
    ]


def test_work_that_waits_is_refused_where_there_is_no_event_loop() -> None:
    async def waits() -> None:
        await asyncio.sleep(0)

    async def answers() -> int:
        return 7

    assert without_waiting(answers()) == 7
    with pytest.raises(RuntimeError, match="must not wait"):
        without_waiting(waits())


texts = st.text(st.characters(exclude_categories=["Cs"]))
instants = st.floats(0, 4e9)
leases = st.builds(
    Lease,
    texts,
    texts,
    st.none() | st.integers(),
    texts,
    st.integers(),
    st.integers(),
    instants,
    st.integers(),
    st.sampled_from([None, "overlap"]),
    texts,
    texts,
    st.booleans(),
    st.none() | texts,
)
records = st.builds(
    JobRecord,
    texts,
    texts,
    texts,
    st.booleans(),
    st.lists(texts).map(tuple),
    st.integers(),
    instants,
    st.integers(),
    instants,
    instants,
    st.none() | st.builds(Pause, instants, st.none() | texts, st.none() | texts),
    st.lists(leases, min_size=1).map(lambda held: {lease.run_id: lease for lease in held}) | st.none(),
)


@given(records, leases)
def test_a_record_comes_back_from_its_text_as_it_was(record: JobRecord, lease: Lease) -> None:
    assert record_from_text(record_to_text(record)) == record
    assert lease_from_text(lease_to_text(lease)) == lease
    found = LiveInstance(HERE, record.since, 3, lease.job)
    assert instance_from_text(instance_to_text(found)) == found


@given(st.none() | st.binary() | st.text() | st.sampled_from(["[1", "null", "{}", "[[]]", '{"leases": 5}', "1e999"]))
def test_a_text_that_is_none_makes_a_record_that_is_left_out(text: object) -> None:
    for found in (
        record_from_text(text).schedule,
        lease_from_text(text).run_id,
        instance_from_text(text).instance.owner,
    ):
        assert not isinstance(found, str)


def test_fields_of_a_later_version_are_passed_over() -> None:
    record = JobRecord("* * * * *", "UTC", "m:f", True, ("a",), 1, 2.0)
    text = record_to_text(record).replace('{"schedule"', '{"later":1,"schedule"')
    assert record_from_text(text) == record


async def test_a_store_that_does_not_say_otherwise_has_all_leases_in_its_records() -> None:
    class Plain(Fleet):
        """The bodies that a transaction has without any of its own."""

        leases = LockTransaction.leases
        touch = LockTransaction.touch

    lock = await opened(Plain())
    await lock.register([Definition("job", "* * * * *", "UTC", "m:f")])
    await lock.claim([ClaimRequest("job", "r1", None, "* * * * *", "UTC")])
    assert await lock.cancel(["r1", "r2"], "ops") == {"r1"}
    assert (await lock.beat()).cancelled == [("r1", "ops")]
