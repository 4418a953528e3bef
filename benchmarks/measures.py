"""What is measured of a contender. Each function runs in a process of its own, and gives plain figures."""

from __future__ import annotations

import asyncio
import gc
import math
import subprocess
import sys
import time
import tracemalloc
from time import perf_counter, process_time
from typing import NamedTuple

from benchmarks.contenders import CONTENDERS, Contender, FastAPICrons
from benchmarks.load import YEAR, Load

#: Runs are counted, and CPU is taken, between instants that lie so long before a full second: a tick's runs have ended.
BEFORE = 0.1


class Cost(NamedTuple):
    """What one process did in the seconds that count: CPU seconds, and how often each job was called."""

    cpu: float
    calls: list[int]


class Burst(NamedTuple):
    """How the event loop fared under many jobs: the longest time it was held (s), and the ticks that were not run."""

    cost: Cost
    held: float
    missed: int


class OneSecond(NamedTuple):
    """What became of jobs that were all due in one second, and the ticks that were not run by the records."""

    cost: Cost
    missed: int


class Idle(NamedTuple):
    """What jobs cost that are not due: to register and to start (s), and CPU seconds per second."""

    register: float
    start: float
    cpu: float


def cost_of_runs(contender: str, store: str, load: Load, seconds: int, since: int | None = None) -> Cost:
    """What the runs of so many seconds cost; from `since` (Unix seconds) on, or as soon as the jobs have begun to run."""

    async def main() -> Cost:
        scheduler = await _started(contender, store, load)
        cost = await _cost(scheduler, seconds, since)
        # Other processes may still be counting; what stops now would leave them more to do.
        await asyncio.sleep(2 * BEFORE)
        await scheduler.stop()
        return cost

    return asyncio.run(main())


def burst(contender: str, store: str, load: Load, seconds: int) -> Burst:
    """What becomes of many jobs that are all due at once, in every second."""

    async def main() -> Burst:
        scheduler = await _started(contender, store, load)
        assert isinstance(scheduler, FastAPICrons)
        cost = await _cost(scheduler, seconds)
        # The watch costs CPU of its own, so it has its own seconds.
        held = await _longest_hold(seconds)
        missed = await scheduler.missed()
        await scheduler.stop()
        return Burst(cost, held, missed)

    return asyncio.run(main())


def one_second(contender: str, store: str, load: Load, due: int, seconds: int) -> OneSecond:
    """What has become of many jobs so many seconds after one instant (Unix seconds), at which all of them are due."""

    async def main() -> OneSecond:
        scheduler = await _started(contender, store, load)
        assert isinstance(scheduler, FastAPICrons)
        cost = await _cost(scheduler, seconds, due)
        missed = await scheduler.missed()
        await scheduler.stop()
        return OneSecond(cost, missed)

    return asyncio.run(main())


def idle(contender: str, jobs: int, seconds: int) -> Idle:
    """What jobs cost that are not due."""

    async def main() -> Idle:
        _make(contender, "", Load(1, YEAR)).register()  # imports are not what is measured here
        scheduler = _make(contender, "", Load(jobs, YEAR))
        began = perf_counter()
        scheduler.register()
        registered = perf_counter()
        await scheduler.start()
        started = perf_counter()
        await asyncio.sleep(1)
        cpu = process_time()
        await asyncio.sleep(seconds)
        cpu = process_time() - cpu
        await scheduler.stop()
        return Idle(registered - began, started - registered, cpu / seconds)

    return asyncio.run(main())


def bytes_per_job(contender: str, jobs: int) -> float:
    """Memory that a scheduler takes for each of so many jobs, without the functions themselves."""

    async def main() -> float:
        _make(contender, "", Load(1, YEAR)).register()
        scheduler = _make(contender, "", Load(jobs, YEAR))
        gc.collect()
        tracemalloc.start()
        scheduler.register()
        await scheduler.start()
        gc.collect()
        size, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        await scheduler.stop()
        return size / jobs

    return asyncio.run(main())


# `import fastapi_crons` alone takes nothing: each name is imported when it is asked for. Every app asks for the first.
IMPORT = """
import time, fastapi
began = time.perf_counter()
from fastapi_crons import Crons
core = time.perf_counter()
from fastapi_crons import get_cron_router
print(core - began, time.perf_counter() - core)
"""
HELP = "import sys; sys.argv = ['fastapi-crons', '--help']; from fastapi_crons_cli.main import main; main()"
TYPER_HELP = """
import sys, typer
sys.argv = ["app", "--help"]
app = typer.Typer()

@app.command()
def command() -> None: ...

app()
"""


def seconds_to_import(times: int) -> tuple[float, float]:
    """What an app imports of ours takes beyond `import fastapi`, and what the API takes beyond that: the best of several."""
    core, api = zip(*(map(float, _printed(IMPORT).split()) for _ in range(times)), strict=True)
    return min(core), min(api)


def seconds_for_help(times: int) -> tuple[float, float]:
    """What `fastapi-crons --help` takes, and that of a Typer app with one command; the best of several, in turn."""
    _seconds(HELP)  # so that everything is compiled
    ours, bare = zip(*((_seconds(HELP), _seconds(TYPER_HELP)) for _ in range(times)), strict=True)
    return min(ours), min(bare)


def _printed(code: str) -> str:
    return subprocess.check_output([sys.executable, "-c", code], text=True)


def _seconds(code: str) -> float:
    began = perf_counter()
    subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL, check=True)
    return perf_counter() - began


def _make(contender: str, store: str, load: Load) -> Contender:
    return CONTENDERS[contender].kind(load, store)


async def _started(contender: str, store: str, load: Load) -> Contender:
    scheduler = _make(contender, store, load)
    scheduler.register()
    await scheduler.start()
    return scheduler


async def _cost(scheduler: Contender, seconds: int, since: int | None = None) -> Cost:
    if since is None:
        since = int(time.time()) + 2  # after the first ticks
    elif since - BEFORE < time.time():
        raise TimeoutError(f"not started in time, before the count: {time.time() - since + BEFORE:.1f} s late")
    before, began = await _at(scheduler, since)
    # Where the loop is overloaded it is later than that by now; on time, this is `since + seconds`.
    after, ended = await _at(scheduler, math.ceil(time.time()) + seconds)
    return Cost(ended - began, [late - early for early, late in zip(before, after, strict=True)])


async def _at(scheduler: Contender, instant: int) -> tuple[list[int], float]:
    """How often each job has been called by then, and the CPU seconds that were used."""
    await asyncio.sleep(max(0.0, instant - BEFORE - time.time()))
    return list(scheduler.calls), process_time()


async def _longest_hold(seconds: int) -> float:
    """How long the event loop was held at most: the lateness of a timer that wants to fire every 5 ms."""
    longest, until = 0.0, perf_counter() + seconds
    while (before := perf_counter()) < until:
        await asyncio.sleep(0.005)
        longest = max(longest, perf_counter() - before - 0.005)
    return longest
