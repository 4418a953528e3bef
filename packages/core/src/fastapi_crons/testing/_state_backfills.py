"""The contract of state stores, as far as it is about backfills."""

from __future__ import annotations

import asyncio

from fastapi_crons.state import BackfillRecord, StateBackend
from fastapi_crons.state.backfills import KEPT
from fastapi_crons.testing._contract import on_a_shared_store, on_a_store, skip_unless
from fastapi_crons.testing._state_questions import NOW, StateStoreTests, new_id


def a_backfill(job: str = "job") -> BackfillRecord:
    return BackfillRecord(
        new_id(), job, "owner", "instance", int(NOW) - 3_600, int(NOW), NOW, True, note="why 🚀", runs=4
    )


def keeps_backfills(state: StateBackend) -> bool:
    """Whether a store does so itself; each process keeps its own otherwise."""
    return type(state).begin_backfill is not StateBackend.begin_backfill


class BackfillTests(StateStoreTests):
    """Which backfills are on record, and how they change."""

    @on_a_store
    async def test_a_job_has_one_running_backfill(self, state: StateBackend) -> None:
        first, second, other = a_backfill(), a_backfill(), a_backfill("other")
        assert await state.begin_backfill(first) is None
        assert await state.begin_backfill(second) == first
        assert await state.begin_backfill(other) is None
        ended = first._replace(status="completed", done=4, ended_ts=NOW + 1, revision=1)
        assert await state.change_backfill(ended)
        assert await state.begin_backfill(second) is None
        assert await state.backfills("job") == [second, ended]
        assert await state.backfills() == [other, second, ended]
        assert (await state.backfill(first.id), await state.backfill("no such one")) == (ended, None)

    @on_a_store
    async def test_a_backfill_that_has_changed_meanwhile_stays_as_it_is(self, state: StateBackend) -> None:
        known = a_backfill()
        changed = known._replace(done=1, revision=1)
        assert not await state.change_backfill(changed), "it is not on record"
        await state.begin_backfill(known)
        assert await state.change_backfill(changed)
        assert not await state.change_backfill(known._replace(cancel_asked=True, revision=1))
        assert await state.backfill(known.id) == changed

    @on_a_store
    async def test_the_newest_backfills_and_those_that_are_running_are_kept(self, state: StateBackend) -> None:
        running = a_backfill("long")
        await state.begin_backfill(running)
        begun = [a_backfill() for _ in range(KEPT + 5)]
        for record in begun:
            assert await state.begin_backfill(record) is None
            await state.change_backfill(record._replace(status="completed", revision=1))
        found = [record.id for record in await state.backfills()]
        newest = [record.id for record in reversed(begun)]
        assert found == [*newest[:KEPT], running.id]

    @on_a_store
    async def test_the_backfills_of_a_forgotten_job_go_and_no_others(self, state: StateBackend) -> None:
        skip_unless(keeps_backfills(state), "the store keeps no backfills")
        gone, kept = a_backfill("gone"), a_backfill("kept")
        for record in (gone, kept):
            await state.begin_backfill(record)
        await state.forget(["gone", "never known"])
        assert await state.backfills() == [kept]
        assert await state.begin_backfill(a_backfill("gone")) is None

    @on_a_shared_store
    async def test_of_backfills_begun_at_once_one_is_kept(self, state: StateBackend) -> None:
        skip_unless(keeps_backfills(state), "the store keeps no backfills")
        stores = [state, await self.another(), await self.another()]
        begun = [a_backfill() for _ in range(9)]
        answers = await asyncio.gather(
            *(stores[number % 3].begin_backfill(record) for number, record in enumerate(begun))
        )
        (kept,) = (record for record, answer in zip(begun, answers, strict=True) if answer is None)
        assert [answer for answer in answers if answer is not None] == [kept] * 8
        assert await stores[1].backfills("job") == [kept]
        assert await (await self.another(namespace=f"{self.namespace}-other")).backfills() == []
