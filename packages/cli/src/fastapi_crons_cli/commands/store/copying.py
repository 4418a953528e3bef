"""Copying: the jobs and the history of one namespace, from the stores in one place to those in another.

The target is unusable until the copy is whole: its jobs are paused, with a note that says why. The last call of all takes that
pause away. With `live`, the jobs are paused in the source before, and stay so: a tick that ran there later would run twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from fastapi_crons_cli.commands.store.checks import check_no_backfill, check_nobody_lives, error
from fastapi_crons_cli.commands.store.history import Copied, copy_history, jobs_of, summary_of
from fastapi_crons_cli.commands.store.marks import ACTOR, is_ours, moved, unfinished
from fastapi_crons_cli.commands.store.resting import bring_to_rest, resume, to_its_end

if TYPE_CHECKING:
    from fastapi_crons.locking import KnownJob, Pause
    from fastapi_crons_cli.commands.store.places import Place
    from fastapi_crons_cli.output import Progress


class Outcome(NamedTuple):
    """What was copied."""

    jobs: int
    history: Copied


@dataclass(eq=False)
class Copy:
    """One copy, from `source` to `target`, whose stores are open."""

    source: Place
    target: Place
    live: bool
    progress: Progress
    is_whole: bool = field(default=False, init=False)
    """Whether the target has everything, or may have it: then nothing may run in the source."""
    is_at_rest: bool = field(default=False, init=False)
    """Whether the jobs of the source are paused for the copy, or may be."""

    async def make(self) -> Outcome:
        """Copy everything. Where that fails, or is cancelled, the source is as it was; raises `CronsError`."""
        from fastapi_crons.errors import StoreError

        try:
            return await self._copy(await self._jobs())
        except BaseException:
            if self.is_at_rest and not self.is_whole:
                self.progress.begin("resuming the jobs")
                with suppress(StoreError):
                    await to_its_end(resume(self.source))
                    self.is_at_rest = False
            raise

    async def _jobs(self) -> Sequence[KnownJob]:
        if not self.live:
            return await self.source.lock.known()
        self.is_at_rest = True
        return await bring_to_rest(self.source, moved(self.target), self.progress.begin)

    async def _copy(self, known: Sequence[KnownJob]) -> Outcome:
        source, target = self.source, self.target
        await check_no_backfill(source)
        history = await summary_of(source.state)
        jobs = {*(each.job for each in known), *await jobs_of(source.state)}
        self.progress.begin("copying")
        mark = await self._mark_unfinished(known, jobs)
        copied = await copy_history(source.state, target.state, jobs, self.progress.tell)
        if (_by_name(await source.lock.known()), await summary_of(source.state)) != (_by_name(known), history):
            raise error(
                f"{source.name} has changed while it was copied: a job was run by hand, or an instance started; try again"
            )
        if not self.live:
            await check_nobody_lives(source, "stop what uses it, or add --live, and try again")
        await self._check_is_ours(known, mark)
        await self._finish(
            [each._replace(pause=None) if each.pause is not None and is_ours(each.pause) else each for each in known]
        )
        if self.live:
            await self._take_leases(known)
        return Outcome(len(known), copied)

    async def _mark_unfinished(self, known: Sequence[KnownJob], jobs: set[str]) -> Pause:
        """Have the jobs on record in the target, paused; whatever an earlier copy has left there goes."""
        from fastapi_crons.clock import SystemClock
        from fastapi_crons.locking import Pause

        lock, state = self.target.lock, self.target.state
        # Its marks go last: without them, what is left of its history would be somebody's.
        await state.forget(jobs | await jobs_of(state))
        await lock.forget(-1)
        mark = Pause(round(SystemClock().now(), 3), ACTOR, unfinished(self.source))
        await to_its_end(lock.restore([each._replace(pause=mark, leases=()) for each in known]))
        return mark

    async def _check_is_ours(self, known: Sequence[KnownJob], mark: Pause) -> None:
        await check_nobody_lives(self.target, "stop what uses it, and try again: it must start after the copy")
        marks = await self.target.lock.pauses()
        if any(each.job not in marks or not _is_same(marks[each.job], mark) for each in known):
            raise error(
                f"{self.target.name} does not have what was copied any more: it has lost it, or another copy is being made; "
                "try again"
            )

    async def _finish(self, jobs: Sequence[KnownJob]) -> None:
        async def restore() -> None:
            try:
                await self.target.lock.restore(jobs)
            except BaseException:
                # Whether it came to pass is not known, unless the target says so.
                self.is_whole = await self._may_be_whole()
                raise
            self.is_whole = True

        await to_its_end(restore())

    async def _may_be_whole(self) -> bool:
        from fastapi_crons.errors import CronsError

        try:
            pauses = await self.target.lock.pauses()
        except CronsError:
            return True
        return not any(is_ours(pause) for pause in pauses.values())

    async def _take_leases(self, known: Sequence[KnownJob]) -> None:
        """Take the leases of the dead off the source: one that was only suspended must not go on with what runs again there."""
        from fastapi_crons.errors import CronsError
        from fastapi_crons.locking import LeaseRef

        with suppress(CronsError):
            await self.source.lock.release(
                [LeaseRef(lease.job, lease.run_id, lease.token) for each in known for lease in each.leases]
            )


def _is_same(pause: Pause, mark: Pause) -> bool:
    """Whether this is the same pause. Stores keep fractions of seconds as far as they matter."""
    return pause[1:] == mark[1:] and abs(pause.since - mark.since) < 0.01


def _by_name(known: Sequence[KnownJob]) -> dict[str, KnownJob]:
    return {each.job: each for each in known}
