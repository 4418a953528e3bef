"""Resting: all jobs of a running fleet are paused for a copy, and resumed where it fails."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any

from fastapi_crons_cli.commands.store.marks import ACTOR, is_ours

if TYPE_CHECKING:
    from fastapi_crons.locking import KnownJob
    from fastapi_crons_cli.commands.store.places import Place

#: How often (seconds) to look again.
_LOOK_AGAIN = 0.3
#: How long (seconds) to wait for what instances have still to write of runs that have ended.
_WRITTEN_WITHIN = 10.0
#: How long (seconds) to try to resume the jobs while their store does not answer.
_RESUMED_WITHIN = 30.0
#: How many jobs the progress names.
_NAMED = 3


async def bring_to_rest(place: Place, note: str, begin: Callable[[str], None]) -> list[KnownJob]:
    """Pause all jobs, and wait until no instance is at work; returns the jobs as they are then."""
    from fastapi_crons.locking import PauseRequest

    begin("pausing the jobs")
    said = ""
    while True:
        known = await place.lock.known()
        unpaused = [each.job for each in known if each.pause is None]
        if unpaused:
            # Cut off, it might come to pass after they were resumed.
            await to_its_end(place.lock.pause([PauseRequest(job, ACTOR, note) for job in unpaused]))
            continue
        at_work = await _at_work(place, known)
        if not at_work:
            break
        if (text := _waiting_for(at_work)) != said:
            begin(said := text)
        await asyncio.sleep(_LOOK_AGAIN)
    await _until_written(place)
    return known


async def _at_work(place: Place, known: Sequence[KnownJob]) -> list[str]:
    """The jobs of which living instances have leases."""
    living = {each.instance.owner for each in await place.lock.instances()}
    return sorted(each.job for each in known if any(lease.instance in living for lease in each.leases))


async def _until_written(place: Place) -> None:
    """An instance whose history is slow releases a lease before it has written how the run ended."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _WRITTEN_WITHIN
    while loop.time() < deadline:
        living = {each.instance.id for each in await place.lock.instances()}
        if not any(run.instance in living for run in await place.state.unfinished()):
            return
        await asyncio.sleep(_LOOK_AGAIN)


async def resume(place: Place) -> None:
    """Resume the jobs that were paused for a copy: what was due meanwhile is late. Raises `StoreError`, after some tries."""
    from fastapi_crons.errors import StoreUnavailableError

    loop = asyncio.get_running_loop()
    deadline = loop.time() + _RESUMED_WITHIN
    while True:
        try:
            return await _resume(place)
        except StoreUnavailableError:
            if loop.time() >= deadline:
                raise
        await asyncio.sleep(_LOOK_AGAIN)


async def _resume(place: Place) -> None:
    from fastapi_crons.locking import ResumeRequest
    from fastapi_crons.state import Signal

    ours = [job for job, pause in (await place.lock.pauses()).items() if is_ours(pause)]
    await place.lock.resume([ResumeRequest(job, f"{ACTOR} {job}", catch_up=True) for job in ours])
    for job in ours:
        await place.state.publish(Signal("resume", job, actor=ACTOR))


def _waiting_for(jobs: Sequence[str]) -> str:
    more = f" and {len(jobs) - _NAMED} more" if len(jobs) > _NAMED else ""
    return f"waiting for the end of what runs: {', '.join(map(repr, jobs[:_NAMED]))}{more}"


async def to_its_end(call: Coroutine[Any, Any, object]) -> None:
    """Await a call that a cancellation does not cut off: it comes after the call's end."""
    task = asyncio.ensure_future(call)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise
