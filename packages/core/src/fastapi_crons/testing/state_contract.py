"""StateContract: what every state store must do, as tests that the author of a backend inherits."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

from fastapi_crons.run import LogLine, MissedTicks, Run, RunError, RunIds, RunStatus
from fastapi_crons.state import Event, Figures, JobState, Signal, StateBackend
from fastapi_crons.testing._contract import on_a_shared_store, on_a_store, skip_unless
from fastapi_crons.testing._state_backfills import BackfillTests
from fastapi_crons.testing._state_questions import DAY, NOW, QuestionTests, a_run, new_id

#: How long (seconds) an event may take on a busy machine.
_PATIENCE = 60
#: What some take for the end of a line.
_LINE_ENDS = "\n \r \x85 \u2028"


class StateContract(QuestionTests, BackfillTests):
    """Inherit from this in a test module, and say how your store is made; the rest is pytest's.

        class TestMyState(StateContract):
            def make_store(self) -> StateBackend:
                return MyStateBackend("localhost")

    Each call must lead to the same store, as if it were made by another instance. The tests keep to namespaces of their own.
    """

    @on_a_store
    async def test_a_run_comes_back_as_it_was(self, state: StateBackend) -> None:
        run = Run(
            new_id(),
            'jöb "quoted" 🚀',
            int(NOW),
            "catch_up",
            2,
            "instance",
            2**53,
            "failed",
            NOW,
            NOW + 1.5,
            RunError("ValueError", f"message\nwith {_LINE_ENDS} lines", "traceback"),
            '{"a": [1, null, "ü"]}',
            3,
            int(NOW) - 300,
            "actor",
            f"note {_LINE_ENDS}",
            delay="why",
            waited=1.5,
            arguments_json='{"region": "eü"}',
        )
        await state.write([run])
        assert await state.run(run.id) == run
        assert await state.runs(run.job) == [run]
        assert await state.run("no such run") is None

    @on_a_store
    async def test_what_was_written_is_there_after_close_and_open(self, state: StateBackend) -> None:
        skip_unless(state.durable, "the store does not claim to outlive a process")
        text = f"text {_LINE_ENDS} text"
        run = replace(
            a_run("jöb", "failed"),
            error=RunError("Error", text, text),
            note=text,
            log=(LogLine(NOW, "INFO", "app", text),),
        )
        going, ticks = a_run("other"), MissedTicks(new_id(), "jöb", 10, 20, 3, "overlap", NOW, "here", detail=text)
        await state.write([run, going])
        await state.write([ticks])
        await state.close()
        self.opened.remove(state)
        again = await self.another()
        assert await again.run(run.id) == run
        assert await again.runs(None) == [going, replace(run, log=())]
        assert await again.unfinished() == [going]
        assert await again.missed("jöb") == [ticks]
        await again.write([replace(going, status="completed", ended_ts=NOW + 1)])
        assert {job: seen.status for job, seen in (await again.states()).items()} == {
            "jöb": "failed",
            "other": "completed",
        }

    @on_a_store
    async def test_a_closed_record_never_changes(self, state: StateBackend) -> None:
        running = a_run()
        await state.write([running])
        assert [run.id for run in await state.unfinished()] == [running.id]
        closed = a_run(status="interrupted", run_id=running.id)
        await state.write([closed])
        await state.write([a_run(status="completed", run_id=running.id)])
        assert await state.run(running.id) == closed
        assert await state.unfinished() == []
        assert (await state.states())["job"].status == "interrupted"

    @on_a_store
    async def test_runs_are_paged_newest_first(self, state: StateBackend) -> None:
        runs = [a_run(status="completed" if number % 2 else "failed", started=NOW + number) for number in range(5)]
        await state.write([*runs, a_run("other", "completed")])
        assert await state.runs("job", limit=2) == runs[:2:-1]
        assert await state.runs("job", limit=10, before=runs[3].id) == runs[2::-1]
        assert await state.runs("job", status="failed") == [runs[4], runs[2], runs[0]]

    @on_a_store
    async def test_the_newest_runs_of_all_jobs_are_those_that_a_look_at_each_job_would_find(
        self, state: StateBackend
    ) -> None:
        assert await state.runs(None) == []
        order = random.Random(7)
        statuses: tuple[RunStatus, ...] = ("completed", "completed", "completed", "completed", "failed", "running")
        # Some jobs run often and some hardly ever, and what begins first is not always written first.
        names = order.choices(
            [f"job-{number}" for number in range(150)], [1 / (1 + each) for each in range(150)], k=600
        )
        runs = [a_run(name, order.choice(statuses)) for name in names]
        await state.write(sorted(runs, key=lambda run: (int(run.id[:8], 16), run.job, run.id)))
        await state.prune(NOW)
        by_job = [run for name in sorted(set(names)) for run in await state.runs(name, limit=1_000)]
        kept = sorted(by_job, key=lambda run: run.id, reverse=True)
        assert len({run.job for run in kept[:50]}) > 10
        assert await state.runs(None, limit=1_000) == kept
        assert await state.runs(None) == kept[:50]
        for limit in (0, 1, 7, 100):
            for before in (None, kept[0].id, kept[99].id, runs[60].id, kept[-1].id):
                for status in (None, "failed", "running", "timed_out"):
                    assert (
                        await state.runs(None, limit=limit, before=before, status=status)
                        == [
                            run for run in kept if (before is None or run.id < before) and status in (None, run.status)
                        ][:limit]
                    )

    @on_a_store
    async def test_states_and_figures_of_another_store_take_the_place_of_those_of_the_runs_that_are_here(
        self, state: StateBackend
    ) -> None:
        skip_unless(
            type(state).restore is not StateBackend.restore, "the store keeps no states and figures beside its runs"
        )
        run = a_run("jöb", "completed", started=float(int(NOW)))
        await state.write([run, a_run("other", "failed")])
        success = (int(NOW) - 900.0, new_id(), 1.5)
        states = [
            JobState("jöb", "completed", "here", run.started_ts, run.ended_ts, run.id, 1.0),
            JobState("gone", "failed", "there", int(NOW) - 500.0, *success, failures=7),
            JobState("never well", "interrupted", "there", int(NOW) - 400.0, failures=3),
        ]
        today = int(NOW // DAY)
        figures = [
            Figures("jöb", today, 12, 3, 4, 2.5, {40: 5, 41: 4}),
            Figures("gone", today - 3, 2, 2, 0, 0.0, {}),
        ]
        for _ in range(2):
            await state.restore(states, figures)
        found = await state.states()
        assert found.keys() == {"jöb", "other", "gone", "never well"}
        assert [found[each.job] for each in states] == states
        restored = await state.figures(["jöb", "gone"], since=today - 10)
        assert sorted(restored, key=lambda each: each.job) == sorted(figures, key=lambda each: each.job)
        await state.write([a_run("gone", "completed"), a_run("jöb", "failed", started=float(int(NOW)))])
        later = {each.job: each for each in await state.figures(["jöb", "gone"], since=today)}
        assert (later["jöb"].runs, later["jöb"].failed, later["gone"].runs) == (13, 4, 1)
        assert [(await state.states())[job].failures for job in ("gone", "jöb", "never well")] == [0, 1, 3]
        await state.restore([], [])

    @on_a_store
    async def test_states_show_the_latest_run_of_each_job(self, state: StateBackend) -> None:
        old, new = a_run("a", "completed", started=NOW - 60), a_run("a", "failed", started=NOW)
        await state.write([old, new, a_run("b")])
        states = await state.states()
        assert {name: seen.status for name, seen in states.items()} == {"a": "failed", "b": "running"}
        assert abs(states["a"].last_run_ts - NOW) < 0.01
        assert set(await state.states(["b", "never ran"])) == {"b"}

    @on_a_store
    async def test_missed_ticks_come_back_newest_first(self, state: StateBackend) -> None:
        rows = [
            MissedTicks(new_id(), "job", 10, 20, 3, "overlap", NOW + number, "here", number == 1, "why")
            for number in range(2)
        ]
        await state.write([replace(rows[1], count=2), rows[0]])
        await state.write([rows[1]])
        assert await state.missed("job") == rows[::-1]
        assert await state.missed("other") == []

    @on_a_store
    async def test_many_runs_and_the_missed_ticks_of_many_jobs_come_back_at_once(self, state: StateBackend) -> None:
        runs = [a_run(f"job {number}", "completed" if number % 2 else "running") for number in range(300)]
        rows = [MissedTicks(new_id(), f"job {number % 3}", 10, 20, 3, "overlap", NOW, "here") for number in range(9)]
        await state.write([*runs, *rows])
        wanted = runs[::3]
        assert await state.runs_by_id([run.id for run in wanted] + [new_id()]) == {run.id: run for run in wanted}
        assert await state.runs_by_id([]) == {}
        found = await state.missed_by_job(["job 0", "job 1", "other"], limit=2)
        assert found == {"job 0": rows[6:2:-3], "job 1": rows[7:3:-3], "other": []}

    @on_a_store
    async def test_the_newest_runs_of_many_jobs_come_back_at_once(self, state: StateBackend) -> None:
        statuses: list[RunStatus] = ["completed", "failed", "running", "cancelled"]
        runs = [a_run(f"job {number % 30}", statuses[number % 4]) for number in range(120)]
        await state.write(runs)
        found = await state.runs_by_job(["job 3", "job 7", "other"], limit=3)
        assert found == {"job 3": runs[93:3:-30], "job 7": runs[97:7:-30], "other": []}
        assert await state.runs_by_job([], limit=3) == {}
        assert await state.runs_by_job(["job 3"], limit=0) == {"job 3": []}
        everything = await state.runs_by_job([f"job {number}" for number in range(30)], limit=1)
        assert [everything[f"job {number}"] for number in range(30)] == [[run] for run in runs[90:]]

    @on_a_store
    async def test_history_is_bounded_by_number_and_age(self, state: StateBackend) -> None:
        ids = RunIds(lambda: NOW - 40 * DAY)
        await state.write([a_run("old", "completed", run_id=ids(), started=NOW - 40 * DAY)])
        await state.write([a_run("busy", "completed", started=NOW + number) for number in range(20)])
        await state.prune(NOW)
        assert await state.runs("old") == []
        assert len(await state.runs("busy", limit=100)) == 5
        await state.write([a_run("busy", "completed", started=NOW + 100 + number) for number in range(3)])
        await state.prune(NOW)
        kept = await state.runs("busy", limit=100)
        assert len(kept) == 5
        assert kept[0].started_ts == NOW + 102

    @on_a_store
    async def test_missed_ticks_are_bounded_too_and_running_runs_are_kept(self, state: StateBackend) -> None:
        running = a_run("busy")
        await state.write([running])
        await state.write([a_run("busy", "completed", started=NOW + number) for number in range(20)])
        old = RunIds(lambda: NOW - 40 * DAY)()
        rows = [MissedTicks(new_id(), "hung", 10, 20, 3, "overlap", NOW, "here") for _ in range(20)]
        await state.write([*rows, MissedTicks(old, "old", 10, 20, 3, "overlap", NOW - 40 * DAY, "here")])
        await state.prune(NOW)
        assert await state.missed("hung", limit=100) == rows[:-6:-1]
        assert await state.missed("old") == []
        assert await state.run(running.id) == running
        assert await state.unfinished() == [running]

    @on_a_store
    async def test_a_run_comes_back_with_its_log_when_it_is_asked_for(self, state: StateBackend) -> None:
        lines = tuple(LogLine(NOW + number, "INFO", "app", f"line {number} ü{_LINE_ENDS}") for number in range(3))
        run = replace(a_run(status="completed"), log=lines, log_dropped=7, beside="another", delay="why", waited=1.5)
        await state.write([replace(a_run(run_id=run.id), beside="another")])
        await state.write([run])
        assert await state.run(run.id) == run
        (listed,) = await state.runs("job")
        assert (listed.id, listed.log_dropped) == (run.id, 7)

    @on_a_store
    async def test_a_running_run_is_written_again_as_it_logs(self, state: StateBackend) -> None:
        line, other = LogLine(NOW, "INFO", "app", "line"), LogLine(NOW + 1, "WARNING", "app", "line 2")
        started, later = a_run(), a_run(started=NOW + 60)
        logged = replace(started, log=(line,), log_dropped=3)
        await state.write([started, later])
        await state.write([logged])
        assert await state.run(started.id) == logged
        assert await state.runs_by_id([started.id, later.id]) == {started.id: logged, later.id: later}
        await state.write([replace(logged, log=(line, other), log_dropped=0)])
        assert await state.run(started.id) == replace(logged, log=(line, other), log_dropped=0)
        assert {run.id for run in await state.unfinished()} == {later.id, started.id}
        assert abs((await state.states())["job"].last_run_ts - (NOW + 60)) < 0.01
        ended = replace(logged, status="interrupted", ended_ts=NOW + 9)
        await state.write([ended])
        await state.write([logged])
        assert await state.run(started.id) == ended
        assert [run.id for run in await state.unfinished()] == [later.id]

    @on_a_store
    async def test_names_of_any_kind_are_kept_apart(self, state: StateBackend) -> None:
        names = ["a:b", "a", "a*", "{a}", "a b", "ä\u2009🚀", "%41", "a\\b", '"quoted"', "'", "x" * 200]
        await state.write([a_run(name, "completed") for name in names])
        assert set(await state.states()) == set(names)
        for name in names:
            assert [run.job for run in await state.runs(name)] == [name]

    @on_a_store
    async def test_a_batch_is_kept_whole(self, state: StateBackend) -> None:
        runs = [a_run(f"job-{number}", "completed") for number in range(1_000)]
        await state.write(runs)
        assert len(await state.states()) == 1_000
        assert await state.run(runs[-1].id) == runs[-1]

    @on_a_store
    async def test_what_is_kept_of_a_forgotten_job_goes_and_nothing_else(self, state: StateBackend) -> None:
        gone, kept = a_run("gone", "completed"), a_run("kept", "completed")
        await state.write([gone, kept, MissedTicks(new_id(), "gone", 10, 20, 3, "overlap", NOW, "here")])
        await state.forget(["gone", "never known"])
        assert set(await state.states()) == {"kept"}
        assert await state.runs("gone") == []
        assert await state.missed("gone") == []
        assert await state.run(gone.id) is None
        assert await state.run(kept.id) == kept

    @on_a_shared_store
    async def test_instances_see_what_others_have_written(self, state: StateBackend) -> None:
        other, run = await self.another(), a_run()
        await state.write([run])
        assert await other.run(run.id) == run
        await other.write([a_run(status="completed", run_id=run.id)])
        await state.write([a_run(status="interrupted", run_id=run.id)])
        assert [found.status for found in await state.runs("job")] == ["completed"]
        assert await state.unfinished() == []

    @on_a_shared_store
    async def test_namespaces_share_a_store_and_nothing_else(self, state: StateBackend) -> None:
        kept = {"": state}
        for name, keep in ((".prod", 1000), (".prod2", 1000), (".staging", 2)):
            kept[name] = await self.another(namespace=self.namespace + name, keep=keep)
        for store in kept.values():
            await store.write([a_run(status="completed", started=NOW - 60 + each) for each in range(5)])
            await store.write([MissedTicks(new_id(), "job", 10, 20, 3, "overlap", NOW, "here") for _ in range(5)])
        await kept[".staging"].prune(NOW)
        lengths = {name: len(await store.runs("job")) for name, store in kept.items()}
        assert lengths == {"": 5, ".prod": 5, ".prod2": 5, ".staging": 2}
        for store in kept.values():
            assert await store.runs(None, limit=100) == await store.runs("job", limit=100)
        assert [len(await kept[name].missed("job")) for name in (".prod", ".staging")] == [5, 2]
        await kept[".staging"].forget(["job"])
        assert set(await kept[".prod"].states()) == {"job"}

    @on_a_store
    async def test_a_subscriber_gets_what_is_written_and_published(self, state: StateBackend) -> None:
        events = state.events()
        skip_unless(events is not None, "the store publishes no events")
        assert events is not None
        other = await self.another() if self.shared() else state
        await other.write([a_run("before")])
        run = replace(a_run(), log=(LogLine(NOW, "INFO", "app", "line"),), delay="why", waited=1.5)
        ended = replace(run, status="completed", ended_ts=NOW + 1, result_json="7")
        ticks = MissedTicks(new_id(), "job", 10, 20, 3, "overlap", NOW, "here")
        async with aclosing(events):
            await _subscribed({events: other})
            await other.write([run])
            assert await _next(events) == replace(run, log=())
            # It is heard of again when it ends, and not each time that it has logged more.
            await other.write([replace(run, log_dropped=1)])
            await asyncio.sleep(0.6)
            await state.write([ended, ticks])
            received = [await _next(events) for _ in range(2)]
            assert replace(ended, log=()) in received
            assert ticks in received
            if state.events(records=False) is not None:
                signal = Signal("cancel", "job", run.id, "ops")
                await other.publish(signal)
                assert await _next(events) == signal
            await other.write([replace(ticks, count=4)])
            assert await _next(events) == replace(ticks, count=4)

    @on_a_shared_store
    async def test_several_subscribe_each_in_its_namespace(self, state: StateBackend) -> None:
        first = state.events()
        skip_unless(first is not None, "the store publishes no events")
        assert first is not None
        stranger = await self.another(namespace=f"{self.namespace}.staging")
        second, third = (await self.another()).events(), stranger.events()
        assert second is not None
        assert third is not None
        async with aclosing(first), aclosing(second), aclosing(third):
            await _subscribed({first: state, second: state, third: stranger})
            runs = [a_run(f"job-{number}", "completed") for number in range(100)]
            await state.write(runs)
            own = a_run()
            await stranger.write([own])
            assert [await _next(events) for events in (first, second, third)] == [runs[0], runs[0], own]
            assert [await _next(second) for _ in runs[1:]] == runs[1:]


async def _subscribed(writers: dict[AsyncGenerator[Event, None], StateBackend]) -> None:
    """Return when each stream brings what its store writes. Nothing says so but that it does."""
    first = [asyncio.ensure_future(_next(events)) for events in writers]
    while not all(each.done() for each in first):
        for store in writers.values():
            await store.write([a_run("whoever listens", "completed")])
        await asyncio.wait(first, timeout=0.1)
    assert {getattr(await each, "job", None) for each in first} == {"whoever listens"}
    last = {store: a_run("whoever listens", "completed") for store in writers.values()}
    for store, run in last.items():
        await store.write([run])
    for events, store in writers.items():
        while await _next(events) != last[store]:
            pass


async def _next(events: AsyncGenerator[Event, None]) -> Event:
    return await asyncio.wait_for(anext(events), _PATIENCE)
