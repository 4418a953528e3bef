"""Registers: takes the jobs and hooks of a scheduler, those of groups included."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Container, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fastapi_crons.errors import ConfigurationError
from fastapi_crons.job import CronJob, JobFunc
from fastapi_crons.registry import JobRegistry
from fastapi_crons.scheduler.decorators import Decorators
from fastapi_crons.scheduler.groups import JobGroup, check_group
from fastapi_crons.scheduler.placements import GroupHook, Placement

if TYPE_CHECKING:
    from fastapi_crons.plugins.added import HookFunc
    from fastapi_crons.plugins.registry import Plugins
    from fastapi_crons.schedule.cron import Schedule


class Registers(Decorators):
    """Base class of `Crons`."""

    jobs: JobRegistry
    placements: list[Placement]

    @property
    @abstractmethod
    def plugins(self) -> Plugins:
        """Takes the hooks."""

    @property
    @abstractmethod
    def running(self) -> bool:
        """While it is running, a hook for an unknown job is refused at once, else at the start."""

    def include(self, group: JobGroup, *, prefix: str = "", tags: Iterable[str] | None = None) -> None:
        """Register the jobs and hooks of a group, and what is declared in it from now on; before or after the start.

        `prefix` comes before the names of its jobs, `tags` are added to theirs. Raises `DuplicateJobError` where a name is
        taken, and `JobDefinitionError` for what is no group, or a prefix or tags that can't be used; then nothing of the
        group is registered.
        """
        check_group(group).place_in(self, prefix, tags)

    def get_jobs(self, tags: Collection[str] | None = None) -> list[CronJob]:
        """All jobs in the order they were registered; with `tags`, those that have all of these tags."""
        if tags is None:
            return list(self.jobs)
        wanted = {tags} if isinstance(tags, str) else set(tags)
        return [job for job in self.jobs if wanted.issubset(job.tags)]

    def get_job(self, name: str) -> CronJob | None:
        """The job of this name, or None."""
        return self.jobs.get(name)

    def _declare(self, func: JobFunc, expr: str | Schedule, name: str | None, options: Mapping[str, Any]) -> None:
        self.jobs.append(CronJob(func, expr, name, **options))

    def _take_hook(self, kind: str, hook: HookFunc, job_name: str | None) -> None:
        if self.running and isinstance(job_name, str) and self.jobs.get(job_name) is None:
            raise ConfigurationError(_no_such_jobs({job_name}))
        self.plugins.add_function(kind, hook, job_name)

    def jobs_missing_for_hooks(self) -> set[str]:
        """The names of jobs that hooks were added for, and that do not exist, and were not removed either."""
        known = self.jobs.names()
        missing = {
            added.job_name
            for added in self.plugins.added()
            if added.job_name is not None and added.job_name not in (known if added.names is None else added.names)
        }
        return missing - self.jobs.removed()

    def check_hooks(self) -> None:
        """Raises `ConfigurationError` for hooks of jobs that do not exist."""
        missing = self.jobs_missing_for_hooks()
        if missing:
            raise ConfigurationError(_no_such_jobs(missing))

    def place(self, placements: Sequence[Placement], jobs: Sequence[tuple[Placement, CronJob]]) -> None:
        """Register jobs of groups, and the hooks of new placements: all of it, or nothing. Raises as `include`."""
        hooks = [(placement, hook) for placement in placements for hook in placement.group.hooks]
        places = {job.name: list(placement.chain()) for placement, job in jobs}
        if hooks:
            _ = self.plugins  # where they can't be loaded, nothing is registered
        for placement, hook in hooks if self.running else ():
            self._check_group_hook(hook, placement, {name for name, chain in places.items() if placement in chain})

        def ready() -> None:
            self._give_names(places, placements)
            self.placements.extend(placements)
            for placement, hook in hooks:
                self.add_group_hook(placement, hook)

        self.jobs.extend([job for _, job in jobs], before_they_run=ready)

    def check_group_hook(self, placement: Placement, hook: GroupHook) -> None:
        """Raises `ConfigurationError` where the hook names a job that the group does not have, while this is running."""
        if self.running:
            self._check_group_hook(hook, placement, placement.names)

    def _check_group_hook(self, hook: GroupHook, placement: Placement, names: Container[str]) -> None:
        if hook.job_name is not None and placement.prefix + hook.job_name not in names:
            raise ConfigurationError(_no_such_jobs({placement.prefix + hook.job_name}))

    def add_group_hook(self, placement: Placement, hook: GroupHook) -> None:
        """Call a hook for the jobs of a placement, or for one of them."""
        job_name = None if hook.job_name is None else placement.prefix + hook.job_name
        added = self.plugins.add_function(hook.kind, hook.function, job_name, placement.names)
        placement.added.append((hook, added))

    def drop_group_hook(self, placement: Placement, hook: GroupHook) -> None:
        """Call a hook of a placement no more."""
        for known in placement.added:
            if known[0] is hook:
                placement.added.remove(known)
                self.plugins.unregister(known[1])
                return

    def _give_names(self, places: Mapping[str, Sequence[Placement]], new: Sequence[Placement]) -> None:
        """Each name belongs to the placements of the job that has it now, and no more to those of a former job."""
        for former in list(self.placements):
            moved = {name for name in former.names if name in places and former not in places[name]}
            former.names -= moved
            repeated = any(each.group is former.group and each.prefix == former.prefix for each in new)
            over = (moved or repeated) and not former.names
            if over:
                self.placements.remove(former)
            for hook, added in list(former.added) if moved or repeated else ():
                if over or added.job_name in moved:
                    self.drop_group_hook(former, hook)
        for name, chain in places.items():
            for placement in chain:
                placement.names.add(name)

    def _forget_name(self, name: str) -> None:
        """A job was removed: the hooks of its groups are not for another one of its name."""
        for placement in self.placements:
            placement.names.discard(name)


def _no_such_jobs(names: set[str]) -> str:
    return (
        f"hooks were added for jobs that do not exist: {', '.join(map(repr, sorted(names)))}; check job_name, which for a "
        "hook of a group is the name within the group, or register the job"
    )
