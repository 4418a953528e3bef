"""Marks: the pauses by which people, and other copies, see what a copy has done to jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastapi_crons.locking import Pause
    from fastapi_crons_cli.commands.store.places import Place

#: Who pauses jobs for a copy.
ACTOR = "fastapi-crons store copy"


def is_ours(pause: Pause) -> bool:
    """Whether a copy has paused this job."""
    return pause.actor == ACTOR


def moved(target: Place) -> str:
    """The note of jobs in the source of a copy with `--live`."""
    return f"moved to {target.name}"


def unfinished(source: Place) -> str:
    """The note of jobs in the target, until the copy is whole."""
    return f"the copy from {source.name} is not finished; make it again"
