"""JobRegistry: the jobs of one scheduler, by name."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import overload

from fastapi_crons._util.executions import run_again_in_a_notebook, same_function, told_apart
from fastapi_crons._util.text import brief, cut
from fastapi_crons.config import CronConfig
from fastapi_crons.errors import DuplicateJobError, JobDefinitionError, UnknownJobError
from fastapi_crons.job import MAX_NAME_LENGTH, CronJob


class JobRegistry(Sequence[CronJob]):
    """The jobs of one scheduler, in the order they were registered. Reads like a list; names are unique.

    Any thread may append jobs. `before_append` is called before a job is added, `on_append` with each added job, and
    `is_running` says whether the scheduler is running: then no job may be replaced.
    """

    def __init__(
        self,
        config: CronConfig,
        *,
        before_append: Callable[[], None],
        on_append: Callable[[CronJob], None],
        is_running: Callable[[], bool],
    ) -> None:
        self._config = config
        self._before_append = before_append
        self._on_append = on_append
        self._is_running = is_running
        self._jobs: dict[str, CronJob] = {}
        self._lock = threading.Lock()
        #: Jobs that may be registered once more, and whether their functions may be in other lines by then.
        self._again: dict[str, bool] = {}

    def append(self, job: CronJob) -> None:
        """Register a job. Raises `DuplicateJobError`, and changes nothing, where its name is taken.

        While the scheduler is not running, a job replaces the one of the same name where both have the same function,
        registered again because its module was executed again.
        """
        if not isinstance(job, CronJob):
            raise JobDefinitionError(f"only a CronJob can be registered, not {brief(job)}; make one or use @crons.cron")
        job = job.with_defaults(self._config)
        self._before_append()
        with self._lock:
            known = self._jobs.get(job.name)
            if known is None or self._may_replace(known, job):
                self._jobs[job.name] = job
                known = None
        if known is not None:
            raise DuplicateJobError(_duplicate(known, job))
        self._on_append(job)

    def extend(self, jobs: Iterable[CronJob]) -> None:
        """Register several jobs, one by one."""
        for job in jobs:
            self.append(job)

    def expect_again(self, *, moved: bool) -> None:
        """Allow each of these jobs to be registered once more. `moved`: their functions may be in other lines by then."""
        with self._lock:
            self._again.update(dict.fromkeys(self._jobs, moved))

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
            raise UnknownJobError(
                f"there is no job named {cut(name, MAX_NAME_LENGTH)!r}; check the spelling, or list the jobs"
            )
        return job

    def names(self) -> frozenset[str]:
        """The names of all jobs."""
        with self._lock:
            return frozenset(self._jobs)

    def _may_replace(self, known: CronJob, job: CronJob) -> bool:
        if self._is_running():
            return False
        moved = self._again.get(job.name)
        if moved is not None and same_function(known.func, job.func, moved=moved):
            del self._again[job.name]
            return True
        return run_again_in_a_notebook(known.func, job.func)

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


def _duplicate(known: CronJob, job: CronJob) -> str:
    function = told_apart(known.func)
    if known.func is job.func:
        return f"{function} is registered twice as job {brief(job.name)}; remove one, or give one of them another name="
    return (
        f"a job named {brief(job.name)} is already registered, for {function}; give the job of {told_apart(job.func)} "
        "another name"
    )
