"""`python -m benchmarks.fleet`: what a run costs in four processes that share SQLite or Redis, and who runs what."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections import Counter
from time import process_time
from typing import NamedTuple

from benchmarks.cases import bare_asyncio
from tests.faults.redis_server import RedisServer

PROCESSES = 4
SECONDS = 10
RATES = (50, 500)


class Part(NamedTuple):
    """What one process did in the seconds that count: CPU seconds, and the ticks it ran, by job."""

    cpu: float
    ticks: list[tuple[int, int]]


class Server(NamedTuple):
    """What a Redis server has done so far: scripts run for clients, and CPU seconds."""

    calls: int = 0
    cpu: float = 0.0


def main() -> None:
    """Print the table."""
    figures = bare_asyncio()
    bare = figures["cpu"] / figures["runs"] * 1e6
    print(f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores; {PROCESSES} processes")
    print(f"bare asyncio: {bare:.1f} µs a run\n")
    print(
        "| store | jobs a second | CPU a run (µs) | × bare | shares (%) | missed | doubled | "
        "calls per s and instance | server CPU a run (µs) |"
    )
    print("|---" * 9 + "|")
    for rate in RATES:
        with tempfile.TemporaryDirectory() as folder:
            print(_row("SQLite", rate, bare, *_measure(rate, {"CRON_SQLITE_PATH": f"{folder}/crons.db"}, None)))
        with RedisServer() as server:
            print(_row("Redis", rate, bare, *_measure(rate, {"CRON_REDIS_URL": server.url}, server)))


def _measure(rate: int, settings: dict[str, str], server: RedisServer | None) -> tuple[list[Part], Server]:
    since = int(time.time()) + 14
    until = since + SECONDS
    command = [sys.executable, "-m", "benchmarks.fleet", str(rate), str(since), str(until)]
    processes = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **settings})
        for _ in range(PROCESSES)
    ]
    time.sleep(since - 0.2 - time.time())
    before = _asked(server)
    time.sleep(until - 0.2 - time.time())
    after = _asked(server)
    parts = []
    for process in processes:
        output, _ = process.communicate()
        cpu, ticks = json.loads(output)
        parts.append(Part(cpu, [(job, tick) for job, tick in ticks]))
    return parts, Server(after.calls - before.calls, after.cpu - before.cpu)


def _row(store: str, rate: int, bare: float, parts: list[Part], server: Server) -> str:
    ran = Counter(tick for part in parts for tick in part.ticks)
    runs = sum(ran.values())
    cost = sum(part.cpu for part in parts) / runs * 1e6
    shares = " ".join(f"{100 * len(part.ticks) / runs:.0f}" for part in parts)
    missed, doubled = rate * SECONDS - len(ran), sum(times > 1 for times in ran.values())
    calls = f"{server.calls / SECONDS / PROCESSES:.1f}" if server.calls else "-"
    on_server = f"{server.cpu / runs * 1e6:.0f}" if server.calls else "-"
    return f"| {store} | {rate} | {cost:.0f} | {cost / bare:.1f} | {shares} | {missed} | {doubled} | {calls} | {on_server} |"


def _asked(server: RedisServer | None) -> Server:
    if server is None:
        return Server()
    stats, cpu = server.cli("INFO", "commandstats"), server.cli("INFO", "cpu")
    calls = sum(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("evalsha", "eval", "ping"))
    return Server(calls, float(cpu["used_cpu_user"]) + float(cpu["used_cpu_sys"]))


async def _part(rate: int, since: int, until: int) -> Part:
    from fastapi_crons import CronConfig, Crons, JobContext

    ticks: list[tuple[int, int]] = []
    crons = Crons(config=CronConfig(history_keep=10))

    def add(number: int) -> None:
        @crons.cron("* * * * * *", name=f"job-{number}")
        async def job(context: JobContext) -> None:
            assert context.tick is not None
            ticks.append((number, int(context.tick.timestamp())))

    for number in range(rate):
        add(number)
    await crons.start()
    await asyncio.sleep(since - 0.2 - time.time())
    began = process_time()
    await asyncio.sleep(until - 0.2 - time.time())
    cpu = process_time() - began
    await asyncio.sleep(1.5)
    await crons.stop()
    return Part(cpu, [(job, tick) for job, tick in ticks if since <= tick < until])


if __name__ == "__main__":
    if len(sys.argv) > 1:
        logging.disable(logging.WARNING)
        print(json.dumps(asyncio.run(_part(*map(int, sys.argv[1:])))))
    else:
        main()
