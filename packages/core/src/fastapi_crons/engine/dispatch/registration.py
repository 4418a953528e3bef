"""Registration: the jobs that this instance has registered with the lock store, and whether its definitions are in force."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from time import thread_time
from zlib import adler32, crc32

from fastapi_crons._util.gc_pause import collector_paused
from fastapi_crons._util.part import Finding, listed
from fastapi_crons._util.text import counted, printable
from fastapi_crons.clock import Clock
from fastapi_crons.config import CronConfig
from fastapi_crons.engine.dispatch.claims import definition_of, probe_of
from fastapi_crons.engine.dispatch.store_clock import warn_of_reset
from fastapi_crons.engine.dispatch.timeline import Timeline, warn_where_over
from fastapi_crons.engine.dispatch.tracked import TrackedJob
from fastapi_crons.engine.runs.run import ActiveRun
from fastapi_crons.engine.runs.runner import Runs
from fastapi_crons.errors import StoreError
from fastapi_crons.job import CronJob
from fastapi_crons.locking.base import Definition, Lease, LeaseRef, Registered, Replaced
from fastapi_crons.locking.client import LockClient
from fastapi_crons.run import RunIds
from fastapi_crons.schedule.due import Policy
from fastapi_crons.schedule.own import own_ticks
from fastapi_crons.schedules.texts import range_of_text

logger = logging.getLogger(__name__)

#: How many jobs are registered with the store at a time.
MAX_REGISTRATIONS = 5_000
#: How long (seconds) jobs are placed before the event loop has its turn; after how many of them the clock is read.
_MAX_PLACING = 0.002
_LOOKS = 50


@dataclass(eq=False, repr=False)
class RegisteredJobs:
    """The jobs of one instance, as the lock store and the timeline know them."""

    _config: CronConfig
    _clock: Clock
    _owner: str
    _locks: LockClient
    _runs: Runs
    _timeline: Timeline
    _run_ids: RunIds
    _job_of: Callable[[str], CronJob | None]
    _on_placed: Callable[[list[TrackedJob]], None]
    _on_registered: Callable[[list[CronJob]], None]

    def __post_init__(self) -> None:
        self._recorder, self._journal, self._runner = self._runs
        #: The names of jobs that were added, removed or replaced.
        self._changed: deque[str] = deque()
        #: Jobs that were tracked before, and may have runs that are still active.
        self._dropped: set[str] = set()
        #: Jobs that were removed, as the lock store has them, until it is told.
        self._withdrawn: dict[str, CronJob] = {}
        self._turn = asyncio.Lock()
        self._policies: dict[tuple[bool, float | None], Policy] = {}
        self._tracked: dict[str, TrackedJob] = {}
        #: What is known of a job by its name; None for one that is not registered.
        self.get: Callable[[str], TrackedJob | None] = self._tracked.get
        #: Jobs that another instance has registered with another function.
        self._other_functions: set[str] = set()
        self._digest = 0
        self._stopping = False

    def __len__(self) -> int:
        return len(self._tracked)

    @property
    def digest(self) -> str:
        """A digest that is equal for instances with the same jobs, in any order of registration."""
        return f"{self._digest & 0xFFFFFFFFFFFFFFFF:x}"

    def all(self) -> list[TrackedJob]:
        """What is known of all jobs."""
        return list(self._tracked.values())

    def add(self, jobs: Iterable[CronJob]) -> None:
        """Register these jobs with the next call of `register_new`. Safe to call from any thread."""
        self._changed.extend([job.name for job in jobs])

    def changed(self, name: str) -> None:
        """See to a job that was removed or replaced with the next call of `register_new`. Safe to call from any thread."""
        self._changed.append(name)

    def is_outdated(self, tracked: TrackedJob) -> bool:
        """Whether a job was removed or replaced since it was registered."""
        return self._job_of(tracked.job.name) is not tracked.job

    def stop(self) -> None:
        """Register nothing more."""
        self._stopping = True

    async def register_new(self, *, at_start: bool = False) -> None:
        """Register the jobs that were added or replaced, place them on the timeline, and withdraw those that were removed.

        With `at_start` it raises `StoreUnusableError`; otherwise it waits for a store that can be used.
        """
        if not (self._changed or self._withdrawn or self._turn.locked()):
            return
        async with self._turn:
            while (self._changed or self._withdrawn) and not self._stopping:
                names = [self._changed.popleft() for _ in range(min(len(self._changed), MAX_REGISTRATIONS))]
                jobs = self._outdated(dict.fromkeys(names))
                try:
                    await self._withdraw()
                    await self._register(jobs, at_start=at_start)
                except BaseException:
                    self._changed.extendleft(reversed(names))
                    raise
                await asyncio.sleep(0)

    def _outdated(self, names: Iterable[str]) -> list[CronJob]:
        """Those of the named jobs that are to be registered. What was registered of those that are gone is dropped at once.

        What counts is the job as it is now, so that it does not matter in which order changes by several threads are seen.
        """
        jobs = []
        for name in names:
            job, tracked = self._job_of(name), self._tracked.get(name)
            if tracked is not None and tracked.job is not job:
                self._drop(tracked)
                if job is None:
                    self._withdrawn[name] = tracked.job
            if job is not None:
                self._withdrawn.pop(name, None)
                if tracked is None or tracked.job is not job:
                    jobs.append(job)
        return jobs

    def _drop(self, tracked: TrackedJob) -> None:
        """Have no more ticks of a job noticed."""
        name = tracked.job.name
        del self._tracked[name]
        tracked.drop()
        self._dropped.add(name)
        self._digest -= _digest_of(definition_of(tracked.job))
        self._other_functions.discard(name)
        if tracked.job.enabled and tracked.own_ticks is None:
            self._timeline.remove(tracked)

    async def _withdraw(self) -> None:
        """Tell the lock store of the jobs that were removed: their definitions are no longer those of this instance."""
        if self._withdrawn:
            gone = [definition_of(job)._replace(withdrawn=True) for job in self._withdrawn.values()]
            await self._locks.register(gone)
            logger.info("removed %s: %s", counted(len(gone), "job"), listed(sorted(self._withdrawn)))
            self._withdrawn = {}

    async def withdraw_all(self) -> None:
        """Have instances with other definitions register theirs: this one runs no ticks any more."""
        gone = [definition_of(tracked.job)._replace(withdrawn=True) for tracked in self._tracked.values()]
        for start in range(0, len(gone), MAX_REGISTRATIONS):
            await self._locks.register(gone[start : start + MAX_REGISTRATIONS])

    async def register_all_again(self) -> None:
        """Register all jobs again, because the store has lost its records."""
        logger.warning("the lock store has lost its records; registering %s again", counted(len(self), "job"))
        await self.register_again(self.all())

    async def register_again(self, jobs: Iterable[TrackedJob]) -> None:
        """Register jobs with their last handled ticks and with the leases of their runs."""
        held: dict[str, list[Lease]] = {}
        expires = self._clock.now() + self._config.lock_timeout
        for run in self._runner.active.values():
            held.setdefault(run.job.name, []).append(run.lease(self._owner, expires))
        registered = list(jobs)
        for start in range(0, len(registered), MAX_REGISTRATIONS):
            await self._locks.register(
                [
                    definition_of(
                        tracked.job,
                        "",
                        tracked.last_handled,
                        tuple(held.get(tracked.job.name, ())),
                        0 if tracked.own_ticks is None else tracked.own_ticks.start,
                    )
                    for tracked in registered[start : start + MAX_REGISTRATIONS]
                ]
            )

    async def register_jobs_of(self, runs: Iterable[ActiveRun]) -> None:
        """Register the jobs of these runs again, where our definition of them is in force."""
        jobs = {run.job.name: self.get(run.job.name) or self.unregistered(run.job) for run in runs}
        await self.register_again(tracked for tracked in jobs.values() if tracked.in_force)

    def unregistered(self, job: CronJob) -> TrackedJob:
        """For the manual run of a job in an instance that registers none."""
        now = self._clock.now()
        ticks = own_ticks(job.schedule, 0) or self._timeline.ticks_of(job, now)
        return TrackedJob(job, ticks, self._policy(job), int(now))

    async def register_one(self, job: CronJob) -> None:
        """Register a job for a manual run, because no instance that lives has registered it."""
        nonce = self._run_ids()
        (answer,) = await self._locks.register([definition_of(job, nonce)])
        if answer.replaced is not None:
            self._close_past(job, answer.replaced, nonce, self._clock.now())

    async def register_orphaned(self) -> None:
        """Register those of our jobs again whose definition in force belongs to no living instance, after one has gone.

        Otherwise the next tick of each such job would be refused, and lost.
        """
        superseded = [tracked for tracked in self._tracked.values() if not tracked.in_force]
        for start in range(0, len(superseded), MAX_REGISTRATIONS):
            part = superseded[start : start + MAX_REGISTRATIONS]
            requests = [probe_of(tracked, self._run_ids()) for tracked in part]
            for tracked, request, answer in zip(part, requests, await self._locks.claim(requests), strict=True):
                if answer.orphaned:
                    self.refused(tracked, orphaned=True)
                elif answer.outcome == "granted":  # the store has forgotten what was handled
                    self._recorder.release(LeaseRef(request.job, request.run_id, answer.token))
        await self.register_new()

    def refused(self, tracked: TrackedJob, *, orphaned: bool) -> None:
        """The store has another definition of a job in force; `orphaned` if no living instance has registered that one."""
        name = tracked.job.name
        if tracked.dropped:
            return  # a second refusal: the job is registered again already
        if orphaned:
            logger.warning(
                "job %r: the instances with another definition are gone; registering %r again",
                name,
                tracked.job.schedule.text,
                extra={"job": name},
            )
            self._drop(tracked)
            self.changed(name)
        elif tracked.in_force:
            tracked.set_in_force(False)
            logger.warning(
                "job %r: another instance has registered a newer definition than %r; this instance does not run it",
                name,
                tracked.job.schedule.text,
                extra={"job": name},
            )

    def has_other_function(self, job: CronJob, function: str) -> None:
        """Another instance has registered another function under the name of a job."""
        if job.name not in self._other_functions:
            self._other_functions.add(job.name)
            logger.warning(
                "job %r is %s here and %s in another running instance: deploy the same code to both, or give each app a "
                "CRON_NAMESPACE of its own (where the history of its jobs is empty at first)",
                job.name,
                printable(job.function_name),
                printable(function),
                extra={"job": job.name},
            )

    def all_agree(self) -> None:
        """All living instances have the same jobs and functions."""
        self._other_functions.clear()

    def findings(self) -> Iterator[Finding]:
        """What an operator should look at: jobs that do not run here, and why."""
        now, jobs = self._clock.now(), self._tracked.items()
        names = [name for name, tracked in jobs if not tracked.in_force]
        if names:
            yield Finding(
                f"another instance has registered a newer definition, so this one does not run {listed(names)}"
            )
        if self._other_functions:
            names = sorted(self._other_functions)
            yield Finding(f"another instance has registered another function under the same name for {listed(names)}")
        names = [name for name, tracked in jobs if tracked.last_handled > now + 1]
        if names:
            yield Finding(
                f"the last handled tick lies ahead of the clock, so nothing runs until then for {listed(names)}"
            )

    async def _register(self, jobs: list[CronJob], *, at_start: bool) -> None:
        if not jobs:
            return
        with collector_paused():
            # The ids differ in their last digits only, since making many independent ids takes long.
            series = self._run_ids()[:24]
            definitions = [definition_of(job, f"{series}{number:012x}") for number, job in enumerate(jobs)]
        answers = await self._locks.register(definitions, at_start=at_start)
        now = self._clock.now()
        answered = zip(jobs, definitions, answers, strict=True)
        try:
            while self._place_some(answered, now):  # noqa: ASYNC110 - lets other tasks run, and waits for nothing
                await asyncio.sleep(0)
        finally:
            self._on_registered([job for job in jobs if job.name in self._tracked])
        moved = [
            (job, answer.other_function) for job, answer in zip(jobs, answers, strict=True) if answer.other_function
        ]
        if moved:
            await self._note_moved(moved)

    async def _note_moved(self, moved: list[tuple[CronJob, str]]) -> None:
        """Jobs were registered with other functions before: by a living instance, or by code that has changed."""
        try:
            others = [
                found
                for found in await self._locks.instances()
                if found.instance.owner != self._owner and found.runs_ticks
            ]
        except StoreError:
            others = []  # the next heartbeat compares the functions
        for job, former in moved:
            if others:
                self.has_other_function(job, former)
            else:
                logger.info("job %r moved from %s to %s", job.name, former, job.function_name, extra={"job": job.name})

    def _place_some(self, answered: Iterator[tuple[CronJob, Definition, Registered]], now: float) -> bool:
        """Place jobs for a few milliseconds, since some have many ticks to count. Returns whether there may be more jobs."""
        placed: list[TrackedJob] = []
        until = thread_time() + _MAX_PLACING
        with collector_paused():
            for number, (job, definition, answer) in enumerate(answered, start=1):
                tracked = self._place(job, definition, answer, now)
                if job.enabled:
                    placed.append(tracked)
                if (number % _LOOKS == 0 or answer.replaced is not None) and thread_time() > until:
                    break
            else:
                number = 0
            self._on_placed(placed)
        return bool(number)

    def _place(self, job: CronJob, definition: Definition, answer: Registered, now: float) -> TrackedJob:
        tracked = self._tracked.get(job.name)
        if tracked is None:
            own = own_ticks(job.schedule, answer.start)
            ticks = self._timeline.ticks_of(job, now) if own is None else own
            tracked = self._tracked[job.name] = TrackedJob(job, ticks, self._policy(job), answer.last_handled)
            self._digest += _digest_of(definition)
            if job.name in self._dropped:
                self._dropped.discard(job.name)
                for run in self._runner.active.values():
                    if run.job.name == job.name:
                        tracked.run_started(run)
            if job.enabled and own is None:
                self._timeline.add(tracked, now)
        tracked.handled(answer.last_handled)
        if answer.reset_from:
            warn_of_reset(job.name, answer.reset_from)
        if answer.replaced is not None:
            self._close_past(job, answer.replaced, definition.nonce, now)
        if answer.other_arguments:
            logger.info("job %r: its arguments were others until now", job.name, extra={"job": job.name})
        if job.enabled and tracked.ticks.next_tick is None and tracked.own_ticks is None:
            warn_where_over(job, answer.last_handled, now)
        return tracked

    def _policy(self, job: CronJob) -> Policy:
        # The delay by jitter does not count as being late.
        grace = None if job.misfire_grace_time is None else job.misfire_grace_time + job.jitter
        policy = self._policies.get((job.coalesce is not False, grace))
        if policy is None:
            policy = Policy(job.coalesce is not False, grace, self._config.max_catch_up)
            self._policies[policy.coalesce, policy.grace] = policy
        return policy

    def _close_past(self, job: CronJob, old: Replaced, nonce: str, now: float) -> None:
        """Record the ticks of an older definition that fell due while no instance ran the job."""
        logger.info(
            "job %r: its schedule was %r in %s until now, and is %r in %s%s",
            job.name,
            old.schedule,
            printable(old.timezone) or "no zone",
            job.schedule.text,
            job.schedule_zone or "no zone",
            "" if job.enabled else ", and disabled",
            extra={"job": job.name},
        )
        if not old.token:
            return  # nothing was due
        ticks = range_of_text(old.schedule, old.timezone, old.last_handled, int(now), old.start)
        if ticks is not None:
            detail = f"the schedule was {old.schedule!r}" if old.reason == "schedule_changed" else None
            if old.reason == "disabled" and not job.enabled:
                detail = "it was late already at that time"
            self._journal.record_missed(job, ticks, old.reason, detail, record_id=nonce)
        self._recorder.release(LeaseRef(job.name, nonce, old.token))


def _digest_of(definition: Definition) -> int:
    job, schedule, timezone, function, _, enabled, *_ = definition
    # Arguments come last, so that jobs without any have the digest that earlier versions make of them.
    text = f"{job}\0{schedule}\0{timezone}\0{enabled}\0{function}{definition.arguments or ''}".encode()
    return (crc32(text) << 32) + adler32(text)
