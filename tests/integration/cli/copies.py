"""Stores with something of everything in them, and what is on record in those that it was copied to."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from fastapi_crons import CronConfig, LogLine, MissedTicks
from fastapi_crons.clock import SystemClock
from fastapi_crons.locking import ClaimRequest, Definition, LeaseTerms, PauseRequest
from fastapi_crons.locking.instance import Instance
from fastapi_crons.plugins import Plugins
from fastapi_crons.state import MissedQuery
from fastapi_crons.testing._state_backfills import a_backfill
from fastapi_crons.testing._state_questions import NOW, a_run, new_id, runs_at
from fastapi_crons_cli.commands.store.places import Place, opened, place_of


class Instant(float):
    """Unix seconds, equal as far as all stores keep fractions: what is rounded may come out on either side."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, float) and abs(self - other) < 0.002


@asynccontextmanager
async def place(name: str, *, instance: Instance | None = None) -> AsyncIterator[Place]:
    """The stores at a place; as this instance has them open, which is then alive there."""
    config = CronConfig()
    made = place_of(name, Plugins(), config)
    async with opened(made, config, to_read=False):
        if instance is not None:
            await made.lock.close()
            instance.lives_here(alive=True)
            await made.lock.open(instance, config.namespace, LeaseTerms(300, 30), SystemClock())
            await made.lock.beat()
        yield made


async def fill(name: str) -> None:
    """Some jobs, one of them paused, one at work when its instance died; and what became of them, most of it deleted."""
    me = Instance.of_this_process()
    async with place(name, instance=me) as (_, state, lock):
        await lock.register(
            [Definition(job, "* * * * *", "UTC", f"m:{job}", arguments="0a") for job in ("a", "b", "ö")]
        )
        await lock.register([Definition("off", "0 * * * *", "", "m:off", enabled=False)])
        await lock.pause([PauseRequest("b", "ops", "until monday")])
        (last,) = await lock.last_handled(["a"])
        assert last is not None
        running = a_run("a")
        await lock.claim([ClaimRequest("a", running.id, last + 1, "* * * * *", "UTC")])
        log = (LogLine(NOW, "INFO", "app", "a line"), LogLine(NOW, "ERROR", "app", "änother\nline"))
        logged = [replace(run, log=log) for run in runs_at(NOW - 3_600, 30, every=100, job="ö")]
        odd = '{"text": "nul \\u0000 lone \\ud800 🚀"}'
        logged[0] = replace(logged[0], result_json=odd, note="nöte 🚀", actor="o'ps")
        failed = runs_at(NOW - 400, 3, job="b", status="failed")
        await state.write([*logged, *failed])
        await state.write([running, MissedTicks(new_id(), "a", int(NOW) - 90, int(NOW) - 60, 2, "paused", NOW, "here")])
        # Counted, and not on record any more.
        gone = runs_at(NOW - 40 * 86_400, 7, job="long gone")
        await state.write(gone)
        await state.prune(NOW)
        await state.begin_backfill(a_backfill("b")._replace(status="completed", revision=3, ended_ts=NOW))
        me.lives_here(alive=False)


async def holds(name: str) -> dict[str, object]:
    """All that is on record at a place."""
    async with place(name) as (_, state, lock):
        runs = await state.runs(None, limit=1_000)
        whole = await state.runs_by_id([run.id for run in runs])
        jobs = ["a", "b", "ö", "off", "long gone"]
        known = await lock.known()
        return {
            "jobs": {
                each.job: each._replace(
                    since=Instant(each.since),
                    leases=tuple(lease._replace(expires=0) for lease in each.leases),
                    pause=each.pause and each.pause._replace(since=Instant(each.pause.since)),
                )
                for each in known
            },
            "runs": [whole[run.id] for run in runs],
            "missed": await state.find_missed(MissedQuery(jobs, limit=1_000)),
            "states": {
                job: each._replace(
                    last_run_ts=0,
                    last_success_ts=each.last_success_ts and Instant(each.last_success_ts),
                    last_success_took=each.last_success_took and Instant(each.last_success_took),
                )
                for job, each in (await state.states()).items()
            },
            "figures": sorted(
                (
                    each._replace(longest=0, durations=tuple(sorted(each.durations.items())))  # type: ignore[arg-type]
                    for each in await state.figures(None, since=0)
                ),
                key=str,
            ),
            "backfills": await state.backfills(),
        }
