"""Any text and any number is written, never refused: texts come back the same or escaped, numbers the same or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from math import inf, nan
from typing import Any

from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from fastapi_crons import MissedTicks
from fastapi_crons.clock import SystemClock
from fastapi_crons.locking import Definition, LeaseTerms, PauseRequest
from fastapi_crons.locking.base import ClaimRequest
from fastapi_crons.locking.instance import Instance
from fastapi_crons.run import LogLine, RunError
from fastapi_crons.state import HistoryLimits
from fastapi_crons.state.backfills import BackfillRecord
from fastapi_crons_postgres import PostgresLockBackend, PostgresStateBackend
from tests.faults.postgres_server import PostgresServer
from tests.integration.redis.history import NOW, a_run, new_id
from tests.support import examples

#: NUL, halves of pairs, characters of four bytes, and what stands for something in SQL, JSON or a URL.
NASTY = "a\x00\ud800\udc00\udfff\U0001f600\U0010ffff\ufffe'\"\\{}%$1\n;"
TEXTS = st.text(st.one_of(st.sampled_from(NASTY), st.characters(exclude_categories=())), max_size=30)
#: A whole number, from within what a column holds to far beyond.
WHOLE = st.one_of(
    st.sampled_from([0, -1, 2**31, 2**53, 2**53 + 1, 2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 10**40]), st.integers()
)
NUMBERS = st.one_of(st.sampled_from([nan, inf, -inf, -0.0, 1e308, -1e308, 5e-324, 1e18]), st.floats())
#: Jobs are named so that they can be shown, see the rules for names.
NAMES = st.text(st.characters(exclude_categories=("C", "Z"), codec="utf-8"), min_size=1, max_size=50)

any_value = settings(
    max_examples=examples(30),
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # a smaller example is not worth minutes of a server
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def escaped(text: str) -> str:
    """As a text comes back."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\x00", "\\x00")


@asynccontextmanager
async def state_on(server: PostgresServer, namespace: str = "values") -> AsyncIterator[PostgresStateBackend]:
    state = PostgresStateBackend(server.url)
    await state.open(namespace, HistoryLimits(10_000, 30))
    try:
        yield state
    finally:
        await state.close()


@any_value
@given(texts=st.lists(TEXTS, min_size=12, max_size=12))
@example(texts=[NASTY] * 12)
def test_any_text_of_a_run_is_read_back_the_same_or_escaped(postgres: PostgresServer, texts: list[str]) -> None:
    instance, kind, message, traceback, result, actor, note, delay, beside, logger, line, arguments = texts
    run = replace(
        a_run("job", "failed"),
        instance=instance,
        error=RunError(kind, message, traceback),
        result_json=result,
        actor=actor,
        note=note,
        delay=delay,
        beside=beside,
        arguments_json=arguments,
        log=(LogLine(NOW, "INFO", logger, line),),
    )

    async def check() -> None:
        async with state_on(postgres) as state:
            await state.write([run])
            found = await state.run(run.id)
            assert found == replace(
                run,
                instance=escaped(instance),
                error=RunError(escaped(kind), escaped(message), escaped(traceback)),
                result_json=escaped(result),
                actor=escaped(actor),
                note=escaped(note),
                delay=escaped(delay),
                beside=escaped(beside),
                arguments_json=escaped(arguments),
                log=(LogLine(NOW, "INFO", escaped(logger), escaped(line)),),
            )

    asyncio.run(check())


@any_value
@given(job=TEXTS, instance=TEXTS, detail=TEXTS, namespace=TEXTS)
@example(job=NASTY, instance=NASTY, detail=NASTY, namespace=NASTY)
def test_any_name_can_be_written_and_asked_for(
    postgres: PostgresServer, job: str, instance: str, detail: str, namespace: str
) -> None:
    job, instance = job or "-", instance or "-"
    run = a_run(job)
    ticks = MissedTicks(new_id(), job, int(NOW), int(NOW), 1, "paused", NOW, instance, False, detail)
    backfill = BackfillRecord(new_id(), job, instance, instance, 1, 2, NOW, actor=detail, note=detail, error=detail)

    async def check() -> None:
        async with state_on(postgres, new_id() + namespace) as state:
            await state.write([run, ticks])
            await state.begin_backfill(backfill)
            assert run.id in [each.id for each in await state.runs(job)]
            assert run.id in [each.id for each in (await state.runs_by_job([job]))[job]]
            assert ticks.id in [each.id for each in (await state.missed_by_job([job]))[job]]
            (found, *_) = await state.missed(job)
            assert (found.job, found.instance, found.detail) == (escaped(job), escaped(instance), escaped(detail))
            assert {each.job for each in await state.figures([job], since=0)} == {escaped(job)}
            assert escaped(job) in await state.states([job])
            (kept,) = await state.backfills(job)
            assert (kept.note, kept.error) == (escaped(detail), escaped(detail))
            assert state.damaged() == []
            await state.forget([job])
            assert await state.runs(job) == []
            assert await state.backfills(job) == []

    asyncio.run(check())


@any_value
@given(whole=st.lists(WHOLE, min_size=6, max_size=6), numbers=st.lists(NUMBERS, min_size=3, max_size=3))
def test_any_number_is_written_and_stands_in_the_way_of_no_other_record(
    postgres: PostgresServer, whole: list[int], numbers: list[float]
) -> None:
    odd = replace(
        a_run("job"),
        tick_ts=whole[0],
        attempt=whole[1],
        token=whole[2],
        missed_ticks=whole[3],
        missed_since_ts=whole[4],
        log_dropped=whole[5],
        started_ts=numbers[0],
        ended_ts=numbers[1],
        waited=numbers[2],
    )
    ticks = MissedTicks(new_id(), "job", whole[0], whole[1], whole[2], "paused", numbers[0], "here")
    usual = a_run("job")

    async def check() -> None:
        async with state_on(postgres, new_id()) as state:
            await state.write([odd, ticks, usual])
            found = {each.id: each for each in await state.runs("job")}
            assert found.pop(usual.id) == usual
            assert found in ({}, {odd.id: odd})
            assert await state.missed("job") in ([], [ticks])
            await state.figures(["job"], since=0)
            await state.sums(None, since=0)
            await state.states()
            await state.prune(NOW)

    asyncio.run(check())


@any_value
@given(job=NAMES, texts=st.lists(TEXTS, min_size=5, max_size=5), last_handled=WHOLE)
@example(job="job", texts=[NASTY] * 5, last_handled=2**63)
def test_the_lock_store_keeps_any_text_and_any_number(
    postgres: PostgresServer, job: str, texts: list[str], last_handled: int
) -> None:
    schedule, function, actor, note, arguments = texts
    definition = Definition(job, schedule, "UTC", function, last_handled=last_handled, arguments=arguments)

    async def check(lock: PostgresLockBackend) -> None:
        await lock.register([definition])
        await lock.claim([ClaimRequest(job, new_id(), None, schedule, "UTC")])
        await lock.pause([PauseRequest(job, actor, note)])
        (known,) = await lock.known([job])
        assert known.job == job
        assert (known.schedule, known.function) == (escaped(schedule), escaped(function))
        assert known.pause is not None
        assert (known.pause.actor, known.pause.note) == (escaped(actor), escaped(note))
        for lease in known.leases:
            await lock.cancel([lease.run_id], actor)
        await lock.beat()

    on_a_lock_store(postgres, check)


def on_a_lock_store(server: PostgresServer, check: Callable[[PostgresLockBackend], Coroutine[Any, Any, None]]) -> None:
    async def checked() -> None:
        lock = PostgresLockBackend(server.url)
        await lock.open(Instance.of_this_process(), new_id(), LeaseTerms(30, 30), SystemClock())
        try:
            await check(lock)
        finally:
            await lock.close()

    asyncio.run(checked())
