"""JobGroup: jobs and hooks that are declared in one place, to be included in schedulers and in other groups."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn
from weakref import WeakSet

from fastapi_crons._util.executions import Again, Caller, Executions, caller, run_again_in_a_notebook, same_function
from fastapi_crons._util.text import brief, counted
from fastapi_crons.errors import DuplicateJobError, JobDefinitionError
from fastapi_crons.job import CronJob, JobFunc
from fastapi_crons.plugins.added import HookFunc, added_hook
from fastapi_crons.registry import duplicate
from fastapi_crons.schedule.base import Schedule
from fastapi_crons.scheduler.decorators import Decorators, JobOptions
from fastapi_crons.scheduler.group_options import checked_options, checked_prefix, checked_tags, job_of_group, merged
from fastapi_crons.scheduler.placements import GroupHook, Host, Placement

if TYPE_CHECKING:
    from typing_extensions import Unpack

#: Held while a group is changed or included, so that each change is seen whole.
_lock = threading.RLock()
_included_nowhere: WeakSet[JobGroup] = WeakSet()


class _Declared(NamedTuple):
    """A job of a group."""

    job: CronJob
    """With its name within the group, its own tags, and the group's defaults."""
    given: Mapping[str, Any]
    """The options that it was declared with."""


class _Nested(NamedTuple):
    """A group in another one."""

    group: JobGroup
    prefix: str
    tags: tuple[str, ...]
    place: Caller
    """Where it was included."""


class JobGroup(Decorators):
    """Jobs and hooks that belong together, declared without a scheduler: what `APIRouter` is for endpoints.

    `prefix` comes before the names of its jobs, `tags` are added to theirs, and every other option of a job (`timezone`,
    `timeout`, `overlap`, …) is the default for those that leave it out, or at None. `crons.include(group)` registers the
    jobs with a scheduler, `group.include(other)` puts another group into this one. Prefixes are joined, the outermost first;
    tags are added up; of an option that several give, the innermost counts, and of `kwargs` it does so by name: each of its
    jobs has all arguments of the group, and must take them. Hooks are called for the jobs of the group, and
    of the groups in it; `job_name` is a job's name within the group.

    A group can be included in several schedulers, and in one several times, with different prefixes. There is no order to
    mind: what is declared later is registered, too, wherever the group is included. Any thread may declare.

    Raises `JobDefinitionError` or `ScheduleError` (both are `ValueError`) for a prefix, tags or options that no job can
    have, and `TypeError` for an option that jobs don't have.
    """

    def __init__(self, *, prefix: str = "", tags: Iterable[str] | None = None, **options: Unpack[JobOptions]) -> None:
        #: What comes before the names of its jobs.
        self.prefix = checked_prefix(prefix)
        #: The tags that its jobs have besides their own.
        self.tags = checked_tags(tags)
        self._options = checked_options(options)
        #: The arguments that its jobs have besides their own.
        self.kwargs: Mapping[str, object] = self._options.get("kwargs", {})
        self.made_at = caller()
        self.hooks: list[GroupHook] = []
        self._members: list[_Declared | _Nested] = []
        self._own: dict[str, CronJob] = {}
        #: Where it is. A scheduler holds its placements, so that no group keeps a scheduler alive.
        self._placements: WeakSet[Placement] = WeakSet()
        self._executions, self._again = Executions(), Again()
        #: Hooks that may be added once more, because their module is executed again.
        self._hooks_again: list[GroupHook] = []
        with _lock:
            _included_nowhere.add(self)

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> NoReturn:
            """Nothing: `app.include_router(group)` would otherwise end in a private name of FastAPI's routers."""
            raise AttributeError(
                f"a JobGroup has no {name!r}, as a router may have; a group is included in a scheduler: crons.include(group)",
                name=name,
                obj=self,
            )

    @property
    def jobs(self) -> tuple[CronJob, ...]:
        """Its jobs and those of the groups in it, as `crons.include(group)` would register them."""
        with _lock:
            return tuple(self._jobs_of(self._members))

    def include(self, group: JobGroup, *, prefix: str = "", tags: Iterable[str] | None = None) -> None:
        """Put another group into this one; its prefix comes behind this group's and `prefix`, the tags are added to its own.

        The options of this group are defaults for its jobs, too, and the hooks of this group are called for them. Raises
        `JobDefinitionError` for what is no group, and for a group that has this one in it, and `DuplicateJobError` where two
        jobs would have one name; then nothing has changed.
        """
        nested = _Nested(check_group(group), checked_prefix(prefix), checked_tags(tags), caller())
        with _lock:
            if self in group._groups():
                what = "itself" if group is self else f"the one made at {group.made_at}, which includes it already"
                raise JobDefinitionError(f"the JobGroup made at {self.made_at} can't include {what}")
            former = next((member for member in self._members if _is_included_again(nested, member)), None)
            others = [member for member in self._members if member is not former]
            known = {job.name: job for job in self._jobs_of(others)}
            for job in self._jobs_of([nested]):
                if job.name in known:
                    raise DuplicateJobError(duplicate(known[job.name], job))
            group._place_in([(each.host, each) for each in self._placements], nested, again=former is not None)
            self._members = [*others, nested]
            _included_nowhere.discard(group)

    def place_in(self, host: Host, prefix: str, tags: Iterable[str] | None) -> None:
        """Register its jobs and hooks with a scheduler."""
        with _lock:
            self._place_in([(host, None)], _Nested(self, checked_prefix(prefix), checked_tags(tags), caller()))

    def _place_in(self, hosts: Sequence[tuple[Host, Placement | None]], how: _Nested, *, again: bool = False) -> None:
        """Register its jobs and hooks with schedulers, each within the placement of another group or by itself."""
        found = [(host, *self._place(host, outer, how)) for host, outer in hosts]
        for host, placements, jobs in found:
            if again or any(new.is_again(old) for new in placements for old in host.placements):
                host.jobs.expect_again([job.name for _, job in jobs], moved=True)
            try:
                host.jobs.check([job for _, job in jobs])
            except DuplicateJobError as error:
                raise DuplicateJobError(_why_not(placements[0], host, error)) from None
        for host, placements, jobs in found:
            host.place(placements, jobs)
            _included_nowhere.discard(self)
            for group, placement in zip(self._groups(), placements, strict=True):
                group._placements.add(placement)

    def _jobs_of(self, members: Sequence[_Declared | _Nested]) -> list[CronJob]:
        """The jobs of some of its members, as `crons.include(group)` would register them."""
        return [job for _, job in self._place(None, None, _Nested(self, "", (), self.made_at), members)[1]]

    def _place(
        self,
        host: Host | None,
        outer: Placement | None,
        how: _Nested,
        members: Sequence[_Declared | _Nested] | None = None,
    ) -> tuple[list[Placement], list[tuple[Placement, CronJob]]]:
        """The placements of this group and of those in it, and their jobs, or those of some members. Changes nothing."""
        prefix, tags, options = ("", (), {}) if outer is None else (outer.prefix, outer.tags, outer.options)
        whole = Placement(
            host,
            self,
            outer,
            f"{prefix}{how.prefix}{self.prefix}",
            (*tags, *how.tags, *self.tags),
            merged(options, self._options),
            how.place if outer is None else outer.place,
        )
        placements: list[Placement] = [whole]
        jobs: list[tuple[Placement, CronJob]] = []
        for member in self._members if members is None else members:
            if isinstance(member, _Declared):
                jobs.append((whole, self._job_at(whole, member)))
            else:
                inner = member.group._place(host, whole, member)
                placements += inner[0]
                jobs += inner[1]
        return placements, jobs

    def _job_at(self, placement: Placement, declared: _Declared) -> CronJob:
        job, given = declared
        name, tags = placement.prefix + job.name, tuple(dict.fromkeys((*placement.tags, *job.tags)))
        outer = {} if placement.outer is None else placement.outer.options
        if outer.keys() <= self._options.keys() and "kwargs" not in outer:
            return job.renamed(name, tags)
        groups = [each.group for each in placement.chain()]
        return job_of_group(job.func, job.expr, name, tags, given, placement.options, groups)

    def _groups(self) -> Iterator[JobGroup]:
        """This group and all groups in it."""
        yield self
        for member in self._members:
            if isinstance(member, _Nested):
                yield from member.group._groups()

    def _declare(self, func: JobFunc, expr: str | Schedule, name: str | None, options: Mapping[str, Any]) -> None:
        given = {option: value for option, value in options.items() if value is not None}
        tags = given.pop("tags", None)
        declared = _Declared(job_of_group(func, expr, name, tags, given, self._options, [self]), given)
        job = declared.job
        job.renamed(self.prefix + job.name, job.tags)  # raises where both together can't be a name
        with _lock:
            self._note_execution()
            known = self._own.get(job.name)
            if known is not None and not self._again.allows(job.name, known.func, func):
                raise DuplicateJobError(duplicate(known, job))
            placed = [(each, self._job_at(each, declared)) for each in self._placements]
            for each, at in placed:
                if known is not None:
                    each.host.jobs.expect_again([at.name], moved=True)
                each.host.jobs.check([at])
            self._keep(declared, known)
            for each, at in placed:
                each.host.place([], [(each, at)])

    def _keep(self, declared: _Declared, former: CronJob | None) -> None:
        """Make a job one of this group's, in the place of a former one."""
        name = declared.job.name
        self._again.happened(name)
        self._own[name] = declared.job
        if former is None:
            self._members.append(declared)
            return
        self._members = [
            declared if isinstance(member, _Declared) and member.job is former else member for member in self._members
        ]

    def _take_hook(self, kind: str, hook: HookFunc, job_name: str | None) -> None:
        added_hook(kind, hook, job_name)  # raises where it can't be called
        new = GroupHook(kind, hook, job_name)
        with _lock:
            self._note_execution()
            for each in self._placements:
                each.host.check_group_hook(each, new)
            former = next((old for old in self.hooks if self._is_again(new, old)), None)
            if former is not None:
                self._hooks_again = [old for old in self._hooks_again if old is not former]
                self.hooks.remove(former)
            self.hooks.append(new)
            for each in self._placements:
                if former is not None:
                    each.host.drop_group_hook(each, former)
                each.host.add_group_hook(each, new)

    def _is_again(self, new: GroupHook, old: GroupHook) -> bool:
        """Whether a hook takes the place of another, because its module, or its cell of a notebook, was executed again."""
        if (new.kind, new.job_name) != (old.kind, old.job_name):
            return False
        if any(old is each for each in self._hooks_again):
            return same_function(old.function, new.function, moved=True)
        return run_again_in_a_notebook(old.function, new.function)

    def _note_execution(self) -> None:
        """Where a module is executed again, what it declares takes the place of what it declared before."""
        if self._executions.is_another(caller()):
            self._again.expect(self._own, moved=True)
            self._hooks_again = list(self.hooks)

    def __repr__(self) -> str:
        return f"<JobGroup {self.prefix!r} with {counted(len(self.jobs), 'job')}>"


def included_nowhere() -> list[JobGroup]:
    """The groups with jobs that neither a scheduler nor another group has included."""
    with _lock:
        return [group for group in _included_nowhere if group.jobs]


def forget_groups() -> None:
    """Forget which groups are included nowhere. For tests."""
    with _lock:
        _included_nowhere.clear()


def check_group(group: object) -> JobGroup:
    """Raises `JobDefinitionError` for what is no group."""
    if not isinstance(group, JobGroup):
        what = f"the module {group.__name__!r}" if inspect.ismodule(group) else brief(group)
        advice = "make one with JobGroup()"
        if inspect.ismodule(group):
            groups = [name for name, value in vars(group).items() if isinstance(value, JobGroup)]
            advice = f"give the group in it: {group.__name__}.{groups[0]}" if groups else advice
        elif group is JobGroup:
            advice = "give an object of it: JobGroup()"
        elif hasattr(group, "routes"):
            advice = "endpoints belong to the app: app.include_router(router)"
        raise JobDefinitionError(f"only a JobGroup can be included, not {what}; {advice}")
    return group


def _is_included_again(new: _Nested, old: _Declared | _Nested) -> bool:
    """Whether a group is included once more in another, because the module that does so, or its own, was executed again."""
    if isinstance(old, _Declared) or old.prefix != new.prefix:
        return False
    if old.group is new.group:
        return new.place.is_again(old.place)
    return new.group.made_at.is_again(old.group.made_at)


def _why_not(placement: Placement, host: Host, error: DuplicateJobError) -> str:
    """Why a group can't be included: what is there already, and where it comes from."""
    group = f"the JobGroup made at {placement.group.made_at}"
    for former in host.placements:
        if former.group is placement.group and former.prefix == placement.prefix:
            return (
                f"{group} is included twice under the same names: at {former.place}, and at {placement.place}; "
                "leave one out, or give one of them another prefix="
            )
    return f"{group} can't be included at {placement.place}: {error}, or include the group with another prefix="
