"""Placement: where a group of jobs is in one scheduler, under which names, with which defaults and hooks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from fastapi_crons._util.executions import Caller
from fastapi_crons.job import CronJob
from fastapi_crons.plugins.added import AddedHook, HookFunc
from fastapi_crons.registry import JobRegistry


class GroupHook(NamedTuple):
    """A hook of a group."""

    kind: str
    function: HookFunc
    job_name: str | None
    """The one job that it is for, by its name within the group."""


class Included(Protocol):
    """What this module asks of a `JobGroup`."""

    made_at: Caller
    hooks: list[GroupHook]
    kwargs: Mapping[str, object]


class Host(Protocol):
    """What groups ask of a `Crons`."""

    jobs: JobRegistry
    placements: list[Placement]

    def place(self, placements: Sequence[Placement], jobs: Sequence[tuple[Placement, CronJob]]) -> None: ...

    def check_group_hook(self, placement: Placement, hook: GroupHook) -> None: ...

    def add_group_hook(self, placement: Placement, hook: GroupHook) -> None: ...

    def drop_group_hook(self, placement: Placement, hook: GroupHook) -> None: ...


class Placement:
    """One for each time that a group is included in a scheduler, by itself or through other groups."""

    def __init__(
        self,
        host: Host | None,
        group: Included,
        outer: Placement | None,
        prefix: str,
        tags: tuple[str, ...],
        options: Mapping[str, Any],
        place: Caller,
    ) -> None:
        #: None where it is only asked what a group would register.
        self._host = host
        self.group = group
        #: The placement of the group that includes this one.
        self.outer = outer
        #: What comes before the names of the jobs within the group.
        self.prefix = prefix
        #: The tags that the jobs have besides their own.
        self.tags = tags
        #: The defaults of the jobs' options.
        self.options = options
        #: Where the group was included in the scheduler.
        self.place = place
        #: The jobs that it stands for, those of groups within the group among them.
        self.names: set[str] = set()
        #: The hooks that the scheduler has of the group.
        self.added: list[tuple[GroupHook, AddedHook]] = []

    @property
    def host(self) -> Host:
        """The scheduler."""
        assert self._host is not None
        return self._host

    def chain(self) -> Iterator[Placement]:
        """This one, and those around it."""
        placement: Placement | None = self
        while placement is not None:
            yield placement
            placement = placement.outer

    def is_again(self, former: Placement) -> bool:
        """Whether this repeats a former one, because the module of the group, or that which includes it, was executed again."""
        if self.prefix != former.prefix:
            return False
        if self.group is former.group:
            return self.place.is_again(former.place)
        return self.group.made_at.is_again(former.group.made_at)
