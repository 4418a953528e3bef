"""Checks: what a copy is refused for. They read, so nothing is made or changed where one is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fastapi_crons_cli.commands.store.history import jobs_of
from fastapi_crons_cli.commands.store.marks import is_ours, moved, unfinished

if TYPE_CHECKING:
    from fastapi_crons.locking import LiveInstance
    from fastapi_crons_cli.commands.store.places import Place

#: How many instances an error names.
_NAMED = 3


async def check(source: Place, target: Place, *, live: bool) -> None:
    """Raises `CronsError` where there is something against the copy."""
    known = await source.lock.known()
    if not known:
        raise error(f"{source.name} knows no jobs in this namespace (CRON_NAMESPACE), so there is nothing to copy")
    others = {str(each.pause.note) for each in known if each.pause is not None and is_ours(each.pause)} - {
        moved(target)
    }
    if others:
        raise error(
            f"jobs in {source.name} are paused by another copy: {min(others)!r}, so ticks may have run elsewhere since; "
            "copy from there, or resume the jobs if it was given up"
        )
    if not live:
        await check_nobody_lives(source, "stop what uses it, or add --live")
    await check_nobody_lives(target, "stop what uses it: it must start after the copy")
    await check_no_backfill(source)
    await _check_is_empty(source, target)
    written_to = [target, *([source] if live else [])]
    for obstacle in (store.obstacle() for place in written_to for store in (place.lock, place.state)):
        if obstacle is not None:
            raise error(obstacle)


async def check_nobody_lives(place: Place, otherwise: str) -> None:
    """Raises `CronsError` where an instance is alive there."""
    living = await place.lock.instances()
    if living:
        raise error(f"{_names(living)} alive in {place.name}; {otherwise}")


async def check_no_backfill(place: Place) -> None:
    """Raises `CronsError` where a backfill is running. One whose instance is gone is not, whatever it says."""
    living = {each.instance.owner for each in await place.lock.instances()}
    running = [each.job for each in await place.state.backfills() if each.status == "running" and each.owner in living]
    if running:
        raise error(f"a backfill of job {running[0]!r} is running; cancel it, or wait for its end")


async def _check_is_empty(source: Place, target: Place) -> None:
    """An earlier copy from the same place that was not finished counts as nothing."""
    there = await target.lock.known()
    is_unfinished = bool(there) and all(
        each.pause is not None and is_ours(each.pause) and each.pause.note == unfinished(source) for each in there
    )
    if not is_unfinished and (there or await jobs_of(target.state)):
        raise error(
            f"{target.name} has jobs or a history in this namespace already; name an empty place, or set another "
            "CRON_NAMESPACE"
        )


def _names(living: Sequence[LiveInstance]) -> str:
    ids = [repr(each.instance.id) for each in living]
    more = f" and {len(ids) - _NAMED} more" if len(ids) > _NAMED else ""
    return f"{', '.join(ids[:_NAMED])}{more} {'are' if len(ids) > 1 else 'is'}"


def error(text: str) -> Exception:
    """A `CronsError`, which takes long to import."""
    from fastapi_crons.errors import CronsError

    return CronsError(text)
