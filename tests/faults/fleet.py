"""Fleet: several real processes that share stores, what their jobs wrote down themselves, and what it adds up to."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from fastapi_crons import CronJob, MissedTicks, Run
from fastapi_crons.management.fates.explain import TickFate, explain
from fastapi_crons.management.fates.tick_records import TickRecords
from fastapi_crons.state import StateBackend
from tests import programs
from tests.programs import Program

#: The app of each process. Its jobs append a line for each start and end to a file of their own process.
APP = """
import asyncio, json, os, signal, sys, time
from fastapi_crons import CronConfig, Crons, JobContext
from tests import seam

options = json.loads(sys.argv[1])
if options["elsewhere"]:
    seam.on_a_host_of_its_own()
clock = seam.FaultyClock()
crons = Crons(config=CronConfig(history_keep=10_000), clock=clock)
descriptor = os.open("truth.txt", os.O_APPEND | os.O_CREAT | os.O_WRONLY)


def note(event, context):
    tick = int(context.tick.timestamp()) if context.tick else 0
    line = [context.job, tick, context.attempt, event, os.getpid(), time.time(), context.fencing_token]
    os.write(descriptor, (json.dumps(line) + "\\n").encode())


def armed():
    try:
        with open("armed") as file:
            return time.time() > float(file.read())
    except FileNotFoundError:
        return False


def add(number):
    @crons.cron(options["expr"], name=f"job-{number}", **options["job"])
    async def job(context: JobContext):
        note("start", context)
        try:
            await asyncio.sleep(options["seconds"])
        except asyncio.CancelledError:
            note("cancelled", context)
            raise
        note("end", context)


for number in range(options["jobs"]):
    add(number)
exec(options["extra"])


async def main():
    signal.signal(signal.SIGTERM, lambda *_: None)
    await crons.start()
    crons.heed_signals()
    print("started", flush=True)
    while crons.running:
        await asyncio.sleep(0.05)

asyncio.run(main())
"""


def long_job(every: str = "*/4", seconds: float = 2.5) -> str:
    """One more job, as `extra`: due at these seconds of each minute, it works on in steps of 0.1 s."""
    return f"""
@crons.cron("* * * * * {every}", name="long")
async def long(context: JobContext):
    note("start", context)
    until = time.monotonic() + {seconds}
    try:
        while time.monotonic() < until:
            await asyncio.sleep(0.1)
    except asyncio.CancelledError:
        note("cancelled", context)
        raise
    note("end", context)
"""


class Line(NamedTuple):
    """What a job wrote down: `event` is start, end or cancelled; `at` in Unix seconds."""

    job: str
    tick: int
    attempt: int
    event: str
    pid: int
    at: float
    token: int


@dataclass
class Sums:
    """What became of the ticks of a time."""

    expected: int = 0
    once: int = 0
    again: int = 0
    """Ticks that ran a second time because the first run was cut off."""
    doubled: list[tuple[str, int]] = field(default_factory=list)
    missed: list[tuple[str, int]] = field(default_factory=list)
    on_record: int = 0
    """Ticks that did not run, with a record that says why or which run stands for them."""
    overlapped: list[str] = field(default_factory=list)
    fates: dict[tuple[str, int], TickFate] = field(default_factory=dict)
    """What the records say became of each tick."""
    misexplained: list[str] = field(default_factory=list)
    """Where that is not what the jobs themselves wrote down."""
    shares: dict[int, int] = field(default_factory=dict)

    def explained(self) -> str:
        """All explanations."""
        return "\n".join(fate.text for fate in self.fates.values())

    def row(self, name: str, recovery: float | None) -> str:
        """A row of the table at the end."""
        recovered = "-" if recovery is None else f"{recovery:.1f}"
        return (
            f"| {name} | {self.expected} | {self.once} | {len(self.doubled)} | {len(self.missed)} | {self.on_record} | "
            f"{self.again} | {len(self.overlapped)} | {recovered} |"
        )


HEAD = (
    "| fault | ticks | run once | doubled | missed | on record instead | run again | overlapped | seconds to recover |\n"
    "|---|---|---|---|---|---|---|---|---|"
)


class Fleet:
    """Processes in the current folder that share one store, by settings in their environment."""

    def __init__(
        self,
        settings: Mapping[str, str],
        *,
        jobs: int = 10,
        seconds: float = 0.0,
        expr: str = "* * * * * *",
        elsewhere: bool = False,
        extra: str = "",
        job: Mapping[str, object] | None = None,
        every: int = 1,
    ) -> None:
        root = str(Path(__file__).parents[2])
        ours = {"PYTHONPATH": root, "CRON_HEARTBEAT_INTERVAL": "1", "CRON_INSTANCE_TIMEOUT": "6"}
        self._settings = {**ours, **settings}
        self.jobs = jobs
        #: At which seconds the jobs are due: where `every` divides the Unix time.
        self.every = every
        self._options = {
            "jobs": jobs,
            "seconds": seconds,
            "expr": expr if every == 1 else f"* * * * * */{every}",
            "elsewhere": elsewhere,
            "extra": extra,
            "job": dict(job or {}),
        }
        self._job = CronJob(print, str(self._options["expr"]), "any")
        self.processes: list[Program] = []
        self.log = Path("fleet.log")

    def __enter__(self) -> Fleet:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
                process.wait()
            if process.stdout is not None:
                process.stdout.close()

    def start(self, count: int = 1, **settings: str) -> list[Program]:
        """Start processes, and wait until their schedulers have started."""
        options = json.dumps(self._options)
        started = []
        for _ in range(count):
            with self.log.open("a") as log:
                process = Program(
                    [sys.executable, "-c", APP, options],
                    stdout=subprocess.PIPE,
                    stderr=log,
                    env={**os.environ, **self._settings, **settings},
                )
            started.append(process)
        self.processes += started
        for process in started:
            assert process.stdout is not None
            assert process.stdout.readline() == "started\n", self.log.read_text()[-4000:]
            process.stdout.close()
        return started

    def arm(self) -> float:
        """A second from now, faults that wait until they are armed may happen; returns when."""
        since = time.time() + 1
        Path("armed.new").write_text(str(since))
        Path("armed.new").rename("armed")
        return since

    def refused(self, **settings: str) -> str:
        """All that a process says whose scheduler does not start."""
        command = [sys.executable, "-c", APP, json.dumps(self._options)]
        done = programs.run(command, env={**os.environ, **self._settings, **settings}, timeout=30)
        assert done.returncode > 0, done.stderr
        assert "started" not in done.stdout
        return done.stdout + done.stderr

    def by_pid(self, pid: int) -> Program:
        """One of the processes."""
        return next(process for process in self.processes if process.pid == pid)

    def wait_for(
        self,
        job: str,
        event: str = "start",
        *,
        since: float = 0,
        tick: int | None = None,
        attempt: int = 1,
        pid: int | None = None,
        seconds: float = 40,
    ) -> Line:
        """The first such line that a job has written (at or after `since`), once it is there."""
        deadline = time.monotonic() + seconds
        while True:
            for line in self.lines():
                fits = (line.job, line.event, line.attempt) == (job, event, attempt) and line.at >= since
                if fits and tick in (None, line.tick) and pid in (None, line.pid):
                    return line
            assert time.monotonic() < deadline, (
                f"no {event} of {job} ({tick=}, {attempt=}, {pid=}): " + self.log.read_text()[-4000:]
            )
            time.sleep(0.02)

    def decided_until(self) -> float:
        """Wait until a tick of each numbered job that is due after now has started, so that those before have had theirs.

        Returns now. After half a minute the ticks are told as they are.
        """
        now = time.time()
        while time.time() < now + 30:
            newest = {line.job: line.tick for line in sorted(self.lines(), key=lambda line: line.tick)}
            if all(newest.get(f"job-{number}", 0) >= now for number in range(self.jobs)):
                break
            time.sleep(0.1)
        return now

    def kill(self, process: subprocess.Popen[str]) -> float:
        """kill -9; returns when."""
        process.kill()
        process.wait()
        return time.time()

    def stop(self) -> None:
        """SIGTERM to all that live, and their end."""
        living = [process for process in self.processes if process.poll() is None]
        for process in living:
            process.terminate()
        for process in living:
            assert process.wait(30) == 0, self.log.read_text()[-4000:]

    def lines(self) -> list[Line]:
        """What the jobs have written down so far."""
        path = Path("truth.txt")
        written = path.read_text() if path.exists() else ""
        # The last one may be on its way.
        return [Line(*json.loads(line)) for line in written[: written.rfind("\n") + 1].splitlines()]

    def sums(self, since: float, until: float, history: Mapping[str, tuple[list[Run], list[MissedTicks]]]) -> Sums:
        """What became of every tick of every job in [since, until)."""
        sums, lines = Sums(), [line for line in self.lines() if line.tick]
        starts: dict[tuple[str, int], list[Line]] = {}
        for line in lines:
            if line.event == "start":
                starts.setdefault((line.job, line.tick), []).append(line)
        for number in range(self.jobs):
            job = f"job-{number}"
            runs, missed = history.get(job, ([], []))
            told = _told(runs, missed)
            for tick in self._ticks(int(since), int(until)):
                sums.expected += 1
                attempts = [line.attempt for line in starts.get((job, tick), [])]
                if len(set(attempts)) < len(attempts):
                    sums.doubled.append((job, tick))
                elif attempts:
                    sums.once += 1
                    sums.again += len(attempts) > 1
                elif tick in told:
                    sums.on_record += 1
                else:
                    sums.missed.append((job, tick))
                records = TickRecords(tick, until, self._job, None, tuple(runs[::-1]), tuple(missed))
                fate = sums.fates[job, tick] = explain(records)
                if tick in told and not _agrees(fate, starts.get((job, tick), [])):
                    sums.misexplained.append(f"{job} at {tick}: {starts.get((job, tick))}, but: {fate.text}")
            sums.overlapped += _overlaps(job, [line for line in lines if line.job == job])
        sums.shares = dict(Counter(line.pid for line in lines if line.event == "start" and since <= line.tick < until))
        return sums

    def recovered_at(self, after: float, *, lateness: float = 1.0, until: float | None = None) -> float:
        """From when on (seconds after `after`) every tick of every job started in time, up to the end.

        With `until`, a tick before that which never started counts as late.
        """
        starts = [line for line in self.lines() if line.event == "start" and line.tick > after]
        late = {line.tick for line in starts if line.at - line.tick > lateness}
        if until is not None:
            started = {(line.job, line.tick) for line in starts}
            ticks = self._ticks(int(after) + 1, int(until))
            late |= {tick for tick in ticks for n in range(self.jobs) if (f"job-{n}", tick) not in started}
        return max([*late, after]) - after

    def _ticks(self, since: int, until: int) -> list[int]:
        return [second for second in range(since, until) if second % self.every == 0]


def _agrees(fate: TickFate, starts: list[Line]) -> bool:
    """Whether an explanation is true of a tick: who ran it, how often, or that nobody did."""
    own = [run for run in fate.runs if starts and run.tick_ts == starts[0].tick]
    if not starts:
        # A run may have been cut off before its function began.
        return fate.fate in ("covered", "skipped", "missed", "paused", "interrupted")
    if not own:
        return True  # the record of the run was lost with the store
    by = {f"-{start.pid}-" in run.instance for start in starts for run in own if run.attempt == start.attempt}
    return fate.fate in ("ran", "running", "interrupted") and False not in by


def _told(runs: list[Run], missed: list[MissedTicks]) -> set[int]:
    """The ticks that history tells of."""
    told: set[int] = set()
    for run in runs:
        if run.tick_ts is not None:
            told.add(run.tick_ts)
        if run.missed_ticks and run.missed_since_ts is not None and run.tick_ts is not None:
            told.update(range(run.missed_since_ts, run.tick_ts))
    for row in missed:
        told.update(range(row.first_ts, row.last_ts + 1))
    return told


def _overlaps(job: str, lines: list[Line]) -> list[str]:
    """Where one run of a job began before the one before it ended. A process that was killed ended its runs with it."""
    found = []
    ends = {(line.tick, line.attempt, line.pid): line.at for line in lines if line.event != "start"}
    latest: tuple[float, Line] | None = None
    for line in sorted((line for line in lines if line.event == "start"), key=lambda line: line.at):
        end = ends.get((line.tick, line.attempt, line.pid))
        if latest is not None and line.at < latest[0]:
            found.append(f"{job}: {line} began before the end of {latest[1]}")
        if end is not None and (latest is None or end > latest[0]):
            latest = end, line
    return found


async def history_of(state: StateBackend, jobs: int) -> dict[str, tuple[list[Run], list[MissedTicks]]]:
    """What an open store has on record of the jobs of a fleet."""
    names = [f"job-{number}" for number in range(jobs)]
    found = await asyncio.gather(
        *(asyncio.gather(state.runs(name, limit=10_000), state.missed(name, limit=10_000)) for name in names)
    )
    return {name: (runs, missed) for name, (runs, missed) in zip(names, found, strict=True)}
