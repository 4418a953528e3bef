"""JobRegistry: the jobs of one scheduler, by name."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import overload

from fastapi_crons._util.executions import Again, run_again_in_a_notebook, same_function, told_apart
from fastapi_crons._util.text import brief, cut
from fastapi_crons.config import CronConfig
from fastapi_crons.errors import DuplicateJobError, JobDefinitionError, UnknownJobError
from fastapi_crons.job import CronJob
from fastapi_crons.job_checks import MAX_NAME_LENGTH


class JobRegistry(Sequence[CronJob]):
    """The jobs of one scheduler, in the order they were registered. Reads like a list; names are unique.

    Any thread may append, remove and replace jobs.
    """

    def __init__(
        self,
        config: CronConfig,
        *,
        before_append: Callable[[], None],
        on_append: Callable[[CronJob], None],
        on_change: Callable[[str], None],
        is_running: Callable[[], bool],
    ) -> None:
        """`before_append` is called before jobs are added, `on_append` with each that was added, `on_change` with the name of
        each that was removed or replaced. While `is_running`, no job is replaced because its module was executed again.
        """
        self._config = config
        self._before_append = before_append
        self._on_append = on_append
        self._on_change = on_change
        self._is_running = is_running
        self._jobs: dict[str, CronJob] = {}
        self._lock = threading.Lock()
        self._again = Again()
        #: The names of jobs that were removed.
        self._removed: set[str] = set()

    def append(self, job: CronJob) -> None:
        """Register a job. Raises `DuplicateJobError`, and changes nothing, where its name is taken.

        While the scheduler is not running, a job replaces the one of the same name where both have the same function,
        registered again because its module was executed again.
        """
        job = _checked(job).with_defaults(self._config)
        self._before_append()
        with self._lock:
            known = self._jobs.get(job.name)
            if known is not None:
                self._check((job,))
                self._again.happened(job.name)
            self._jobs[job.name] = job
            self._removed.discard(job.name)
        self._on_append(job)

    def extend(self, jobs: Iterable[CronJob], *, before_they_run: Callable[[], None] | None = None) -> None:
        """Register several jobs, or none of them where one can't be registered. Raises as `append`.

        `before_they_run` is called once they are registered, and before any of them runs.
        """
        given = [_checked(job).with_defaults(self._config) for job in jobs]
        self._before_append()
        with self._lock:
            self._check(given)
            for job in given:
                self._again.happened(job.name)
                self._jobs[job.name] = job
            self._removed.difference_update(job.name for job in given)
        if before_they_run is not None:
            before_they_run()
        for job in given:
            self._on_append(job)

    def check(self, jobs: Iterable[CronJob]) -> None:
        """Raise what `extend` would raise for these jobs; registers none."""
        self._before_append()
        with self._lock:
            self._check(jobs)

    def remove(self, name: str) -> CronJob:
        """Remove a job, whether the scheduler is running or not, and return it. Raises `UnknownJobError` where there is none.

        For the stores this is what a deploy without the job would be. Its current runs finish; here no tick of it is claimed
        any more, and no manual run starts. Its history and its pause are kept, and other instances that have the job go on
        running it. Appended again, it has been away for a downtime, and `coalesce` says what becomes of the ticks since.
        """
        with self._lock:
            job = self._jobs.pop(name, None) if isinstance(name, str) else None
            if job is not None:
                self._again.happened(name)
                self._removed.add(name)
        if job is None:
            raise _unknown(name)
        self._on_change(name)
        return job

    def replace(self, job: CronJob) -> CronJob:
        """Put a job in the place of the one of its name, whether the scheduler is running or not; returns the former one.

        For the stores this is what a deploy with the new definition would be. Current runs finish as they began. Where the
        schedule differs, the new one begins now, and ticks of the former one that were not claimed are recorded as missed
        (`schedule_changed`). Raises `UnknownJobError` where no job has the name.
        """
        job = _checked(job).with_defaults(self._config)
        with self._lock:
            former = self._jobs.get(job.name)
            if former is not None:
                self._again.happened(job.name)
                self._jobs[job.name] = job
        if former is None:
            raise _unknown(job.name)
        self._on_change(job.name)
        return former

    def expect_again(self, names: Iterable[str] | None = None, *, moved: bool) -> None:
        """Allow these jobs, by default all, to be registered once more.

        `moved`: their functions may be in other lines by then.
        """
        with self._lock:
            self._again.expect(self._jobs if names is None else names, moved=moved)

    def use_settings(self, config: CronConfig) -> None:
        """Take the jobs' unset options from these settings."""
        with self._lock:
            self._config = config
            self._jobs = {name: job.with_defaults(config) for name, job in self._jobs.items()}

    def get(self, name: str) -> CronJob | None:
        """The job of this name, or None."""
        return self._jobs.get(name)

    def named(self, name: str) -> CronJob:
        """The job of this name. Raises `UnknownJobError` where there is none."""
        job = self._jobs.get(name)
        if job is None:
            raise _unknown(name)
        return job

    def names(self) -> frozenset[str]:
        """The names of all jobs."""
        with self._lock:
            return frozenset(self._jobs)

    def removed(self) -> frozenset[str]:
        """The names of jobs that were removed."""
        with self._lock:
            return frozenset(self._removed)

    def _check(self, jobs: Iterable[CronJob]) -> None:
        """Raise `DuplicateJobError` for the first job that can't be registered together with those before it."""
        names: dict[str, CronJob] = {}
        for job in jobs:
            known = names.get(job.name)
            if known is None:
                known = self._jobs.get(job.name)
                if known is not None and self._may_replace(known, job):
                    known = None
            if known is not None:
                raise DuplicateJobError(duplicate(known, job, running=self._is_running()))
            names[job.name] = job

    def _may_replace(self, known: CronJob, job: CronJob) -> bool:
        return not self._is_running() and self._again.allows(job.name, known.func, job.func)

    def _snapshot(self) -> list[CronJob]:
        with self._lock:
            return list(self._jobs.values())

    @overload
    def __getitem__(self, index: int) -> CronJob: ...
    @overload
    def __getitem__(self, index: slice) -> list[CronJob]: ...
    def __getitem__(self, index: int | slice) -> CronJob | list[CronJob]:
        return self._snapshot()[index]

    def __iter__(self) -> Iterator[CronJob]:
        return iter(self._snapshot())

    def __len__(self) -> int:
        return len(self._jobs)

    def __contains__(self, item: object) -> bool:
        if not isinstance(item, CronJob):
            return False
        known = self._jobs.get(item.name)
        # A registered job differs from the given one where unset options were taken from the settings.
        return known is item or (known is not None and (known.func, known.expr) == (item.func, item.expr))

    def __repr__(self) -> str:
        return f"JobRegistry({', '.join(job.name for job in self)})"


def _checked(job: object) -> CronJob:
    if not isinstance(job, CronJob):
        raise JobDefinitionError(
            f'only a CronJob can be registered, not {brief(job)}; make one: CronJob(function, "*/5 * * * *")'
        )
    return job


def _unknown(name: object) -> UnknownJobError:
    if not isinstance(name, str):
        return UnknownJobError(f"there is no job named {brief(name)}; give the name of a job, as a text")
    return UnknownJobError(
        f"there is no job named {cut(name, MAX_NAME_LENGTH)!r}; check the spelling, or list the jobs"
    )


def duplicate(known: CronJob, job: CronJob, *, running: bool = False) -> str:
    """Why a job can't be registered beside one of its name that is known already, in a scheduler that is running or not."""
    function = told_apart(known.func)
    if known.func is job.func:
        return f"{function} is registered twice as job {brief(job.name)}; remove one, or give one of them another name="
    again = same_function(known.func, job.func, moved=True) or run_again_in_a_notebook(known.func, job.func)
    if running and again:
        return (
            f"job {brief(job.name)}, of {function}, is registered already, and the scheduler is running; to put this one in "
            f"its place, call crons.jobs.replace(CronJob(…)), or crons.jobs.remove({brief(job.name)}) before it is registered "
            "again"
        )
    return (
        f"a job named {brief(job.name)} is already registered, for {function}; give the job of {told_apart(job.func)} "
        "another name"
    )
