"""The contract of state stores, as far as it answers what people ask: runs and missed ticks of a time, successes, figures."""

from __future__ import annotations

import random
from dataclasses import replace

from fastapi_crons.clock import SystemClock
from fastapi_crons.run import FAILED, MissedTicks, Run, RunIds, RunStatus, Trigger
from fastapi_crons.state import Figures, HistoryLimits, MissedQuery, RunQuery, StateBackend
from fastapi_crons.state.figures import day_of, of_missed, of_run, together, total
from fastapi_crons.testing._contract import Contract, on_a_store, skip_unless

NOW = SystemClock().now()
DAY = 86_400
new_id = RunIds()


def a_run(job: str = "job", status: RunStatus = "running", *, run_id: str | None = None, started: float = NOW) -> Run:
    """A run of a tick, which took a second where it has ended."""
    ended = None if status == "running" else started + 1
    return Run(run_id or new_id(), job, int(started), "schedule", 1, "here", 7, status, started, ended)


def runs_at(
    start: float, count: int, *, job: str = "job", status: RunStatus = "completed", every: float = 1
) -> list[Run]:
    """Runs whose ids say when they were claimed, oldest first."""
    now = [start]
    ids = RunIds(lambda: now[0])
    found = []
    for number in range(count):
        now[0] = start + number * every
        found.append(a_run(job, status, run_id=ids(), started=now[0]))
    return found


class StateStoreTests(Contract[StateBackend]):
    """Opens the store as several instances."""

    opened: list[StateBackend]

    async def another(
        self, *, namespace: str | None = None, keep: int = 5, days: float = 30, limits: HistoryLimits | None = None
    ) -> StateBackend:
        """The store as another instance opens it."""
        store = self.make_store()
        await store.open(namespace or self.namespace, limits or HistoryLimits(keep, days))
        self.opened.append(store)
        return store

    async def close_all(self) -> None:
        for store in self.opened:
            await store.close()


class QuestionTests(StateStoreTests):
    """What people ask of a history."""

    @on_a_store
    async def test_runs_are_found_by_job_status_time_and_trigger(self, state: StateBackend) -> None:
        store = await self._with_limits(HistoryLimits(1_000, 30))
        order = random.Random(11)
        statuses: tuple[RunStatus, ...] = ("completed", "completed", "cancelled", "running", *FAILED)
        ids_at = [NOW - 3_600]
        ids = RunIds(lambda: ids_at[0])
        runs = []
        for number in range(400):
            ids_at[0] = NOW - 3_600 + 9 * number
            name = f"job-{order.randrange(20)}"
            run = a_run(name, order.choice(statuses), run_id=ids(), started=ids_at[0])
            trigger: Trigger = order.choice(["schedule", "schedule", "schedule", "catch_up", "cli", "again"])
            ended = None if run.ended_ts is None else run.ended_ts + order.choice([0, 0, 900, 3_000])
            runs.append(replace(run, trigger=trigger, ended_ts=ended))
        shuffled = order.sample(runs, len(runs))
        await store.write([replace(run, status="running", ended_ts=None) for run in shuffled[:200]])
        await store.write(shuffled)
        for _ in range(120):
            jobs = order.choice([None, ["job-3"], [f"job-{number}" for number in range(7)], [], ["no such job"]])
            wanted: tuple[RunStatus, ...] = order.choice([(), FAILED[:1], FAILED, statuses[3:4], statuses[1:3]])
            since = order.choice([None, NOW - 3_000, NOW - 600])
            until = order.choice([None, NOW - 900, NOW - 3_500])
            before = order.choice([None, runs[250].id])
            limit = order.choice([1, 7, 50, 1_000])
            triggers: tuple[Trigger, ...] = order.choice([(), (), ("again",), ("schedule",), ("again", "catch_up")])
            under_way = order.choice([None, None, NOW - 2_000, NOW - 300])
            found = await store.find_runs(RunQuery(jobs, wanted, since, until, before, limit, triggers, under_way))
            expected = [
                run
                for run in reversed(runs)
                if (jobs is None or run.job in jobs)
                and (not wanted or run.status in wanted)
                and (since is None or run.started_ts >= since)
                and (until is None or run.started_ts < until)
                and (before is None or run.id < before)
                and (not triggers or run.trigger in triggers)
                and (under_way is None or run.ended_ts is None or run.ended_ts >= under_way)
            ]
            assert found == expected[:limit]

    @on_a_store
    async def test_runs_that_were_under_way_are_found_page_by_page_among_those_that_had_ended(
        self, state: StateBackend
    ) -> None:
        store = await self._with_limits(HistoryLimits(10_000, 30, 10_000))
        odd = 'job],[0,"schedule",1,7,5.0,'
        statuses: tuple[RunStatus, ...] = ("failed", "completed")
        ended = [replace(run, status=statuses[n % 2]) for n, run in enumerate(runs_at(NOW - 80_000, 2_600, every=30))]
        long = [replace(run, ended_ts=NOW - 600 + n) for n, run in enumerate(runs_at(NOW - 79_995, 9, every=8_000))]
        failed = [replace(run, status="failed") if n % 2 else run for n, run in enumerate(long)]
        running, *short = runs_at(NOW - 70_000, 1, status="running") + runs_at(NOW - 600, 2, every=601)
        wanted = [replace(run, job=odd) for run in (*failed, running, *short)]
        written = [*(replace(run, job=odd) for run in ended), *wanted]
        for start in range(0, len(written), 650):
            await store.write(written[start : start + 650])
        wanted.sort(key=lambda run: run.id, reverse=True)
        for query in (
            RunQuery(under_way_since=NOW - 600),
            RunQuery([odd], under_way_since=NOW - 600),
            RunQuery(statuses=("failed", "running"), under_way_since=NOW - 600),
            RunQuery(until=NOW, under_way_since=NOW - 600),
        ):
            expected = [run for run in wanted if not query.statuses or run.status in query.statuses]
            expected = [run for run in expected if query.until is None or run.started_ts < query.until]
            found: list[Run] = []
            while page := await store.find_runs(query._replace(limit=2, before=found[-1].id if found else None)):
                assert len(page) == 2 or len(found) + 1 == len(expected)
                found += page
            assert found == expected

    @on_a_store
    async def test_runs_under_way_are_looked_for_among_those_of_a_day_before(self, state: StateBackend) -> None:
        since = NOW - 3_600
        old = runs_at(since - DAY - 1, 1, status="failed") + runs_at(since - DAY - 1, 1, status="running")
        new = runs_at(since - DAY, 1, status="failed") + runs_at(since - DAY, 1, status="running")
        await state.write([run if run.ended_ts is None else replace(run, ended_ts=NOW) for run in (*old, *new)])
        found = await state.find_runs(RunQuery(under_way_since=since))
        assert {run.id for run in found} == {run.id for run in new}
        within = RunQuery(since=since - 60, under_way_since=since)
        assert await state.find_runs(within) == []

    @on_a_store
    async def test_runs_that_ran_ticks_again_go_with_the_others(self, state: StateBackend) -> None:
        store = await self._with_limits(HistoryLimits(4, 30, 2))
        old, new = runs_at(NOW - 40 * DAY, 2), runs_at(NOW - 600, 12)
        runs = [
            replace(run, trigger="again", status="failed" if number % 4 == 0 else "completed")
            for number, run in enumerate((*old, *new))
        ]
        again = RunQuery(None, limit=100, triggers=("again",))
        await store.write(runs)
        await store.prune(NOW)
        found = await store.find_runs(again)
        assert found[:4] == runs[:-5:-1]
        assert found == await store.runs("job", limit=100)
        assert len(found) == 6
        await store.write([replace(run, job="other", trigger="again") for run in runs_at(NOW, 2)])
        await store.forget(["job"])
        assert [run.job for run in await store.find_runs(again)] == ["other", "other"]

    @on_a_store
    async def test_missed_ticks_of_all_jobs_are_found_by_their_time(self, state: StateBackend) -> None:
        base = int(NOW) - 3_600
        rows = [
            MissedTicks(
                new_id(), f"job {number % 3}", base + number * 60, base + number * 60 + 30, 2, "overlap", NOW, "here"
            )
            for number in range(12)
        ]
        await state.write([a_run(f"job {number}") for number in range(3)])
        await state.write(rows)
        await state.write([replace(rows[11], count=5)])
        rows[11] = replace(rows[11], count=5)
        assert await state.find_missed(MissedQuery()) == rows[::-1]
        assert await state.find_missed(MissedQuery(limit=2)) == rows[:-3:-1]
        assert await state.find_missed(MissedQuery(["job 1", "other"])) == rows[10::-3]
        since = base + 5 * 60 + 30
        assert await state.find_missed(MissedQuery(since=since)) == rows[:4:-1]
        assert await state.find_missed(MissedQuery(since=since, until=base + 420)) == rows[6:4:-1]
        assert await state.find_missed(MissedQuery(["job 0"], since=since, before=rows[9].id)) == [rows[6]]
        assert await state.find_missed(MissedQuery([])) == []

    @on_a_store
    async def test_a_record_of_missed_ticks_that_has_grown_for_long_is_found_by_its_newest(
        self, state: StateBackend
    ) -> None:
        began = int(NOW) - 10 * 3_600
        run = runs_at(began, 1)[0]
        grown = MissedTicks(run.id[:-4] + "ffff", "job", began, began, 1, "overlap", began, "here")
        await state.write([run, grown])
        grown = replace(grown, last_ts=int(NOW), count=600, recorded_ts=NOW)
        await state.write([grown])
        short = [
            MissedTicks(new_id(), "job", began + 60 * n, began + 60 * n, 1, "vetoed", NOW, "here") for n in range(3)
        ]
        await state.write(short)
        assert await state.find_missed(MissedQuery(since=NOW - 600)) == [grown]
        assert await state.find_missed(MissedQuery(["job"], since=NOW - 600, until=NOW + 1)) == [grown]
        assert await state.find_missed(MissedQuery(since=began)) == [*short[::-1], grown]

    @on_a_store
    async def test_a_run_is_found_by_either_end_of_its_id(self, state: StateBackend) -> None:
        runs = [a_run(f"job-{number % 7}", "completed" if number % 2 else "running") for number in range(30)]
        await state.write(runs)
        wanted = runs[17]
        assert await state.find_ids(wanted.id[-8:]) == [wanted.id]
        assert await state.find_ids(wanted.id[:20]) >= [wanted.id]
        assert await state.find_ids(wanted.id[-8:], wanted.job) == [wanted.id]
        assert await state.find_ids(wanted.id[-8:], "job-6") == []
        assert await state.find_ids("%") == []
        assert await state.find_ids("") == [run.id for run in runs[::-1]]

    @on_a_store
    async def test_a_job_shows_its_last_success_and_how_often_it_has_failed_since(self, state: StateBackend) -> None:
        statuses: tuple[RunStatus, ...] = ("completed", *FAILED, "cancelled", "failed")
        good, *bad = (replace(run, status=status) for run, status in zip(runs_at(NOW - 60, 6), statuses, strict=True))
        await state.write([good])
        await state.write(bad)
        await state.write(bad)
        seen = (await state.states(["job"]))["job"]
        assert (seen.status, seen.failures, seen.last_success_run) == ("failed", 4, good.id)
        assert seen.last_success_took == good.duration
        assert abs((seen.last_success_ts or 0) - NOW + 59) < 0.01
        await state.write([replace(a_run(status="completed"), ended_ts=NOW + 3)])
        seen = (await state.states())["job"]
        assert (seen.failures, seen.last_success_took) == (0, 3)
        await state.write([a_run("new")])
        assert (await state.states())["new"][4:] == (None, None, None, 0)

    @on_a_store
    async def test_figures_count_each_run_and_tick_once(self, state: StateBackend) -> None:
        order = random.Random(5)
        store = await self._with_limits(HistoryLimits(1_000, 30))
        noon = int(NOW) // DAY * DAY - DAY // 2
        runs = []
        for number in range(200):
            status: RunStatus = order.choice(
                ["completed", "completed", "failed", "cancelled", "interrupted", "timed_out"]
            )
            run = a_run(f"job-{number % 3}", status, started=noon - number * 1_700)
            runs.append(replace(run, ended_ts=run.started_ts + order.choice([0.0001, 0.3, 12, 5_000])))
        await store.write([replace(run, status="running", ended_ts=None) for run in runs])
        for part in (runs[:90], runs[60:], runs):
            await store.write(part)
        first = MissedTicks(new_id(), "job-1", noon - 2 * DAY, noon, 5, "paused", NOW, "here")
        grown = replace(first, last_ts=noon + 60, count=17)
        await store.write([first])
        await store.write([first, grown])
        expected = total([*map(of_run, runs), *of_missed(grown)])
        await self._check_figures(store, None, expected, day_of(noon) - 5, None)
        await self._check_figures(store, ["job-1"], expected, day_of(noon) - 2, day_of(noon) - 1)
        assert await store.figures(["other"], since=0) == []

    @on_a_store
    async def test_figures_and_the_last_success_stay_when_runs_are_deleted_and_go_in_their_time(
        self, state: StateBackend
    ) -> None:
        skip_unless(type(state).figures is not StateBackend.figures, "the store keeps no figures beside its runs")
        store = await self._with_limits(HistoryLimits(2, 1, figures_days=40))
        old, older = runs_at(NOW - 35 * DAY, 3), runs_at(NOW - 45 * DAY, 3)
        await store.write([*older, *old])
        await store.prune(NOW)
        assert await store.runs("job") == []
        (left,) = await store.figures(["job"], since=0)
        assert (left.day, left.runs, left.quantile(0.5)) == (day_of(old[0].started_ts), 3, 1)
        assert (await store.states())["job"].last_success_run == old[-1].id
        await store.forget(["job"])
        assert await store.figures(None, since=0) == []
        assert await store.states() == {}

    @on_a_store
    async def test_runs_that_did_not_complete_are_kept_beyond_the_others(self, state: StateBackend) -> None:
        store = await self._with_limits(HistoryLimits(5, 30, 10))
        runs = runs_at(NOW - 600, 40)
        runs = [replace(run, status="failed") if number % 3 == 0 else run for number, run in enumerate(runs)]
        for start in range(0, 40, 8):
            await store.write(runs[start : start + 8])
        rows = [MissedTicks(new_id(), "job", 10, 20, 3, "overlap", NOW, "here") for _ in range(20)]
        await store.write(rows)
        await store.prune(NOW)
        newest, older = runs[-5:], [run for run in runs[:-5] if run.status == "failed"]
        kept = await store.runs("job", limit=100)
        assert kept[:5] == newest[::-1]
        failed = [run for run in kept if run.status == "failed"]
        assert 10 <= len(failed) <= 10 + sum(run.status == "failed" for run in newest)
        assert kept[5:] == older[: -len(kept) + 4 : -1]
        assert await store.find_runs(RunQuery(None, FAILED, limit=100)) == failed
        assert await store.missed("job", limit=100) == rows[:-11:-1]

    @on_a_store
    async def test_the_newest_runs_are_kept_however_old_they_are(self, state: StateBackend) -> None:
        store = await self._with_limits(HistoryLimits(10, 30, 10, 3))
        await store.write(runs_at(NOW - 60 * DAY, 8, status="failed"))
        await store.write(runs_at(NOW - 50 * DAY, 2, job="rare"))
        await store.prune(NOW)
        assert [len(await store.runs(job)) for job in ("job", "rare")] == [3, 2]
        assert len(await store.find_runs(RunQuery(None, FAILED))) == 3
        new = runs_at(NOW - 60, 2)
        await store.write(new)
        await store.prune(NOW)
        assert [run.id for run in await store.runs("job")][:2] == [run.id for run in new[::-1]]
        assert len(await store.runs("job")) == 3

    @on_a_store
    async def test_more_runs_may_be_kept_for_ever_than_for_some_days(self, state: StateBackend) -> None:
        store = await self._with_limits(HistoryLimits(2, 30, 0, 4))
        runs = runs_at(NOW - 60, 6)
        await store.write(runs)
        await store.prune(NOW)
        assert await store.runs("job") == runs[:1:-1]

    async def _with_limits(self, limits: HistoryLimits) -> StateBackend:
        """The store with other limits, in a namespace of its own."""
        return await self.another(namespace=f"{self.namespace}.other", limits=limits)

    async def _check_figures(
        self,
        store: StateBackend,
        jobs: list[str] | None,
        expected: dict[tuple[str, int], Figures],
        since: int,
        until: int | None,
    ) -> None:
        found = await store.figures(jobs, since=since, until=until)
        wanted = {
            key: each
            for key, each in expected.items()
            if (jobs is None or each.job in jobs) and each.day >= since and (until is None or each.day <= until)
        }
        assert {(each.job, each.day) for each in found} == wanted.keys()
        for each in found:
            other = wanted[each.job, each.day]
            assert each[:5] == other[:5]
            assert abs(each.longest - other.longest) < 1e-6
            assert {**each.durations} == {**other.durations}
        sums = await store.sums(jobs, since=since, until=until)
        assert sums.keys() == {job for job, _ in wanted}
        for job, whole in sums.items():
            other = together(each for each in wanted.values() if each.job == job)
            assert (whole.job, whole[2:5]) == (job, other[2:5])
            assert abs(whole.longest - other.longest) < 1e-6
            assert {**whole.durations} == {**other.durations}
