"""History: copied from one state store to another, by what every state store can do."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from fastapi_crons.state import StateBackend

T = TypeVar("T")

#: How many records are read at a time; how many runs, which have their logs, are written at a time.
_PAGE, _RUNS = 500, 50
#: Of how many jobs the figures, which are up to one a day, are read at a time.
_JOBS = 50


class Copied(NamedTuple):
    """How much of a history was copied."""

    runs: int
    missed: int
    backfills: int


async def jobs_of(state: StateBackend) -> set[str]:
    """The jobs that have a history."""
    return {*await state.states(), *await state.sums(None, since=0)}


async def summary_of(state: StateBackend) -> object:
    """What is another value when anything was added to a history: runs and missed ticks are counted."""
    return (
        await state.unfinished(),
        await state.backfills(),
        await state.states(),
        await state.sums(None, since=0),
    )


async def copy_history(
    source: StateBackend, target: StateBackend, jobs: Collection[str], show: Callable[[str], None]
) -> Copied:
    """Copy the history of all jobs, oldest first. `jobs` are those that have one; `show` is told how far it is."""
    copied = 0
    # A page of the runs of all jobs would cost a look at each job.
    run_ids = (await source.find_ids(""))[::-1]
    for ids in _parts(run_ids, _RUNS):
        show(f"copying: {copied:,} of {len(run_ids):,} runs")
        found = await source.runs_by_id(ids)
        await target.write([found[run_id] for run_id in ids if run_id in found])
        copied += len(found)
    show("copying missed ticks")
    missed = await _copy_missed(source, target, jobs)
    show("copying figures")
    # What these runs and ticks have been counted as is replaced: some that were counted are not on record any more.
    for states in _parts([*(await source.states()).values()], _PAGE):
        await target.restore(states, ())
    for names in _parts(sorted(jobs), _JOBS):
        for figures in _parts(await source.figures(names, since=0), _PAGE):
            await target.restore((), figures)
    backfills = (await source.backfills())[::-1]
    for backfill in backfills:
        await target.begin_backfill(backfill)
    return Copied(copied, missed, len(backfills))


async def _copy_missed(source: StateBackend, target: StateBackend, jobs: Collection[str]) -> int:
    from fastapi_crons.run import MissedTicks
    from fastapi_crons.state import MissedQuery

    found: list[MissedTicks] = []
    while page := await source.find_missed(MissedQuery(jobs, before=found[-1].id if found else None, limit=_PAGE)):
        found += page
    for part in _parts(found[::-1], _PAGE):
        await target.write(part)
    return len(found)


def _parts(records: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (records[first : first + size] for first in range(0, len(records), size))
