"""kill -9 at random instants: every tick has one fate, and the jobs' own record agrees with the history."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from fastapi_crons import CronConfig, Crons, MissedTicks, Run
from fastapi_crons.state import HistoryLimits, SQLiteStateBackend

pytestmark = pytest.mark.slow

APP = """
import asyncio, os
from fastapi_crons import CronConfig, Crons, JobContext

crons = Crons(config=CronConfig(history_keep=10_000))


def note(event, context):
    line = f"{context.job} {int(context.tick.timestamp())} {context.attempt} {event} {os.getpid()}\\n"
    descriptor = os.open("truth.txt", os.O_APPEND | os.O_CREAT | os.O_WRONLY)
    os.write(descriptor, line.encode())
    os.close(descriptor)


def add(name, seconds, **options):
    @crons.cron("* * * * * *", name=name, **options)
    async def job(context: JobContext):
        note("start", context)
        await asyncio.sleep(seconds)
        note("end", context)

add("quick", 0)
add("slow", 0.7)
add("overlapping", 2.2)
add("each", 0.05, coalesce=False)
add("allowed", 1.5, overlap="allow")
add("queued", 1.3, overlap="queue")


async def main():
    await crons.start()
    print("started", flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""
JOBS = ("quick", "slow", "overlapping", "each", "allowed", "queued")


def test_every_tick_has_one_fate_however_often_the_process_is_killed() -> None:
    seed = random.randrange(10**6)
    rng = random.Random(seed)
    for _ in range(6):
        process = _start()
        time.sleep(rng.uniform(0.2, 2.5))
        process.send_signal(signal.SIGKILL)
        process.wait()
        time.sleep(rng.uniform(0, 1.5))
    process = _start()
    time.sleep(7)
    process.send_signal(signal.SIGKILL)
    process.wait()
    for job in JOBS:
        runs, missed = asyncio.run(_history(job))
        _check(job, runs, missed, f"seed {seed}")


def _start() -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", APP], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    process.stdout.close()
    return process


async def _history(job: str) -> tuple[list[Run], list[MissedTicks]]:
    state = SQLiteStateBackend("crons.db")
    await state.open("default", HistoryLimits(10_000, 30))
    try:
        return await state.runs(job, limit=10_000), await state.missed(job, limit=10_000)
    finally:
        await state.close()


def _check(job: str, runs: list[Run], missed: list[MissedTicks], seed: str) -> None:
    by_tick: dict[int, list[Run]] = {}
    for run in runs:
        by_tick.setdefault(run.tick_ts or 0, []).append(run)
    fates: Counter[int] = Counter(by_tick.keys())
    stood_for = {run.id: run.missed_ticks for run in runs if run.attempt == 1 and run.missed_ticks}
    coalesced = {row.id: row.count for row in missed if row.reason == "coalesced"}
    assert stood_for.items() <= coalesced.items(), (job, seed)
    for row in missed:
        assert row.reason in ("overlap", "coalesced"), (job, row, seed)
        assert row.count == row.last_ts - row.first_ts + 1
        fates.update(range(row.first_ts, row.last_ts + 1))
    # What was going on at the very end has no record yet.
    last = max(fates) - 4
    ticks = range(min(fates), last)
    assert {tick: fates[tick] for tick in ticks if fates[tick] != 1} == {}, (job, seed)

    started: dict[int, set[int]] = {}
    ended: Counter[int] = Counter()
    for line in Path("truth.txt").read_text().splitlines():
        name, tick, attempt, event, _ = line.split()
        if name != job:
            continue
        if event == "start":
            assert int(attempt) not in started.setdefault(int(tick), set()), "an attempt was started twice"
            started[int(tick)].add(int(attempt))
        else:
            ended[int(tick)] += 1
    for at in ticks:
        attempts = sorted(run.attempt for run in by_tick.get(at, []))
        assert attempts == list(range(1, len(attempts) + 1)), (job, at, seed)
        assert started.get(at, set()) <= set(attempts), f"{job}: a run of {at} left no record ({seed})"
        statuses = [run.status for run in sorted(by_tick.get(at, []), key=lambda run: run.attempt)]
        assert statuses[:-1] == ["interrupted"] * (len(statuses) - 1), (job, at, statuses, seed)
        assert all(status in ("completed", "interrupted") for status in statuses), (job, at, statuses, seed)


DIES_BEFORE_IT_WRITES = """
import asyncio, os
from fastapi_crons import CronConfig, Crons, MissedTicks
from fastapi_crons.state import SQLiteStateBackend

class Dies(SQLiteStateBackend):
    async def write(self, records):
        if any(isinstance(record, MissedTicks) for record in records):
            os._exit(9)
        await super().write(records)

crons = Crons(state_backend=Dies("crons.db"))

@crons.cron("* * * * * *", name="slow")
async def slow():
    await asyncio.sleep(60)

async def main():
    await crons.start()
    await asyncio.sleep(60)

asyncio.run(main())
"""


async def test_ticks_that_were_let_go_are_on_record_though_the_process_died_before_it_could_say_so() -> None:
    process = subprocess.run([sys.executable, "-c", DIES_BEFORE_IT_WRITES], timeout=30, check=False)
    assert process.returncode == 9
    runs, missed = await _history("slow")
    assert ([run.status for run in runs], missed) == (["running"], [])
    crons = Crons(state_backend=SQLiteStateBackend("crons.db"), config=CronConfig(rerun_interrupted=False))

    @crons.cron("* * * * * *", name="slow")
    async def slow() -> None: ...

    await crons.start()
    await crons.stop()
    runs, missed = await _history("slow")
    assert [run.status for run in runs][-1] == "interrupted"
    (row,) = [row for row in missed if row.reason == "overlap"]
    assert (row.first_ts, row.count) == ((runs[-1].tick_ts or 0) + 1, 1)


KEEPS_RUNNING = """
import asyncio, os, sys, time
from fastapi_crons import CronConfig, Crons

crons = Crons(config=CronConfig())

@crons.cron("* * * * * *", name="tick")
async def tick(context):
    descriptor = os.open("truth.txt", os.O_APPEND | os.O_CREAT | os.O_WRONLY)
    os.write(descriptor, f"tick {int(context.tick.timestamp())} {context.attempt} start {os.getpid()}\\n".encode())
    os.close(descriptor)

async def main():
    await crons.start()
    print("started", flush=True)
    await asyncio.sleep(float(sys.argv[1]))
    await crons.stop()

asyncio.run(main())
"""


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="looks at the files a process has open")
def test_a_process_that_stops_leaves_the_files_of_the_others_alone() -> None:
    stays = subprocess.Popen([sys.executable, "-c", KEEPS_RUNNING, "60"], stdout=subprocess.PIPE, text=True)
    assert stays.stdout is not None
    assert stays.stdout.readline() == "started\n"
    stays.stdout.close()
    try:
        for _ in range(2):
            subprocess.run([sys.executable, "-c", KEEPS_RUNNING, "1.5"], check=True, capture_output=True, timeout=30)
        links = [os.readlink(link) for link in Path(f"/proc/{stays.pid}/fd").iterdir() if link.is_symlink()]
        assert any(link.endswith("crons.db-wal") for link in links)
        assert [link for link in links if "crons.db" in link and "deleted" in link] == []
        time.sleep(1.2)
    finally:
        stays.kill()
        stays.wait()
    ticks = [line.split()[1] for line in Path("truth.txt").read_text().splitlines()]
    assert len(ticks) >= 4
    assert len(ticks) == len(set(ticks)), "a tick ran in two processes"
