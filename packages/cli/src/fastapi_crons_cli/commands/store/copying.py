"""Copying: the jobs and the history of one namespace, from the stores in one place to those in another.

The target is unusable until the copy is whole: its jobs are paused, with a note that says why. The last call of all takes that
pause away. With `live`, the jobs are paused in the source before, and stay so: a tick that ran there later would run twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from fastapi_crons_cli.commands.store.history import Copied, copy_history, jobs_of, newest_of

if TYPE_CHECKING:
    from fastapi_crons.locking import KnownJob, LiveInstance, Pause
    from fastapi_crons_cli.commands.store.places import Place

#: Who pauses jobs for a copy.
ACTOR = "fastapi-crons store copy"
#: How often (seconds) to look for runs that have not ended.
_LOOK_AGAIN = 0.2
#: How many instances an error names.
_NAMED = 3


class Outcome(NamedTuple):
    """What was copied."""

    jobs: int
    history: Copied


@dataclass(eq=False)
class Copy:
    """One copy, from `source` to `target`, whose stores are open. `begin` shows people what is being done."""

    source: Place
    target: Place
    live: bool
    begin: Callable[[str], None]
    _is_whole = False

    async def make(self) -> Outcome:
        """Copy everything. Where that fails, or is cancelled, the source is as it was; raises `CronsError`."""
        await self._check()
        try:
            if self.live:
                await self._pause()
            return await self._copy()
        except BaseException:
            if self.live and not self._is_whole:
                await _to_its_end(self._resume())
            raise

    async def _check(self) -> None:
        known = await self.source.lock.known()
        if not known:
            raise _error(
                f"{self.source.name} knows no jobs in this namespace (CRON_NAMESPACE), so there is nothing to copy"
            )
        moved = {each.pause.note for each in known if each.pause and _is_ours(each.pause)} - {self._moved}
        if moved:
            raise _error(
                f"the jobs in {self.source.name} are {moved.pop()}, so ticks may have run elsewhere since; copy from there, or "
                "resume the jobs if it was given up"
            )
        if not self.live:
            await self._check_nobody_lives(self.source, "or add --live")
        await self._check_nobody_lives(self.target, "they must start after the copy")
        running = [each.job for each in await self.source.state.backfills() if each.status == "running"]
        if running:
            raise _error(f"a backfill of job {running[0]!r} is running; cancel it, or wait for its end")
        await self._check_is_empty()

    async def _check_nobody_lives(self, place: Place, otherwise: str) -> None:
        living = await place.lock.instances()
        if living:
            raise _error(f"{_names(living)} alive in {place.name}; stop what uses it, {otherwise}")

    async def _check_is_empty(self) -> None:
        """An earlier copy from the same place that was not finished counts as nothing."""
        there = await self.target.lock.known()
        is_unfinished = bool(there) and all(
            each.pause and each.pause[1:] == (ACTOR, self._unfinished) for each in there
        )
        if not is_unfinished and (there or await jobs_of(self.target.state)):
            raise _error(
                f"{self.target.name} has jobs or a history in this namespace already; name an empty place, or set another "
                "CRON_NAMESPACE"
            )

    async def _pause(self) -> None:
        from fastapi_crons.locking import PauseRequest

        self.begin("pausing the jobs")
        known = await self.source.lock.known()
        # Cut off, it might come to pass after they were resumed.
        await _to_its_end(self.source.lock.pause([PauseRequest(each.job, ACTOR, self._moved) for each in known]))
        while unended := await self._unended():
            self.begin(f"waiting for {unended} runs to end")
            await asyncio.sleep(_LOOK_AGAIN)

    async def _unended(self) -> int:
        """How many leases living instances have."""
        living = {each.instance.owner for each in await self.source.lock.instances()}
        return sum(lease.instance in living for each in await self.source.lock.known() for lease in each.leases)

    async def _resume(self) -> None:
        """Resume the jobs that were paused for the copy: what was due meanwhile is late."""
        from fastapi_crons.locking import ResumeRequest
        from fastapi_crons.state import Signal

        ours = [job for job, pause in (await self.source.lock.pauses()).items() if _is_ours(pause)]
        await self.source.lock.resume([ResumeRequest(job, f"{ACTOR} {job}", catch_up=True) for job in ours])
        for job in ours:
            await self.source.state.publish(Signal("resume", job, actor=ACTOR))

    async def _copy(self) -> Outcome:
        source, target = self.source, self.target
        known, newest = await source.lock.known(), await newest_of(source.state)
        jobs = {*(each.job for each in known), *await jobs_of(source.state)}
        self.begin("copying")
        await self._mark_unfinished(known, jobs)
        copied = await copy_history(source.state, target.state, jobs)
        if (_by_name(await source.lock.known()), await newest_of(source.state)) != (_by_name(known), newest):
            raise _error(
                f"{source.name} has changed while it was copied: a job was run by hand, or an instance started; try again"
            )
        if not self.live:
            await self._check_nobody_lives(source, "and try again")
        await self._finish([each._replace(pause=None) if _is_ours(each.pause) else each for each in known])
        return Outcome(len(known), copied)

    async def _mark_unfinished(self, known: Sequence[KnownJob], jobs: set[str]) -> None:
        """Have the jobs on record in the target, paused; whatever an earlier copy has left there goes."""
        from fastapi_crons.clock import SystemClock
        from fastapi_crons.locking import Pause

        lock, state = self.target.lock, self.target.state
        await lock.forget(-1)
        paused = Pause(SystemClock().now(), ACTOR, self._unfinished)
        await _to_its_end(lock.restore([each._replace(pause=paused, leases=()) for each in known]))
        await state.forget(jobs | await jobs_of(state))

    async def _finish(self, jobs: Sequence[KnownJob]) -> None:
        async def restore() -> None:
            try:
                await self.target.lock.restore(jobs)
            except BaseException:
                # Whether it came to pass is not known, unless the target says so.
                self._is_whole = await self._may_be_whole()
                raise
            self._is_whole = True

        await _to_its_end(restore())

    async def _may_be_whole(self) -> bool:
        from fastapi_crons.errors import CronsError

        try:
            pauses = await self.target.lock.pauses()
        except CronsError:
            return True
        return not any(_is_ours(pause) for pause in pauses.values())

    @property
    def is_whole(self) -> bool:
        """Whether the target has everything, or may have it: then nothing may run in the source."""
        return self._is_whole

    @property
    def _moved(self) -> str:
        return f"moved to {self.target.name}"

    @property
    def _unfinished(self) -> str:
        return f"the copy from {self.source.name} is not finished; make it again"


async def _to_its_end(call: Coroutine[Any, Any, object]) -> None:
    """Await a call that a cancellation does not cut off: it comes after the call's end."""
    task = asyncio.ensure_future(call)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise


def _is_ours(pause: Pause | None) -> bool:
    return pause is not None and pause.actor == ACTOR


def _by_name(known: Sequence[KnownJob]) -> dict[str, KnownJob]:
    return {each.job: each for each in known}


def _names(living: Sequence[LiveInstance]) -> str:
    ids = [repr(each.instance.id) for each in living]
    more = f" and {len(ids) - _NAMED} more" if len(ids) > _NAMED else ""
    return f"{', '.join(ids[:_NAMED])}{more} {'are' if len(ids) > 1 else 'is'}"


def _error(text: str) -> Exception:
    from fastapi_crons.errors import CronsError

    return CronsError(text)
