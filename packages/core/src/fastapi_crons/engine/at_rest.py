"""Whether an engine has nothing left to do until time passes: what a virtual clock waits for before it moves on."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from fastapi_crons.engine.engine import Engine


def is_at_rest(engine: Engine, asleep: Collection[asyncio.Task[object]], *, finish_runs: bool) -> bool:
    """Whether everything that is due is done and recorded. See `Crons.is_at_rest`."""

    def sleeps(*tasks: str) -> bool:
        return any(task in asleep for task in engine.supervisor.own_tasks(*tasks))

    if engine.waits_for_stores is not None:
        return sleeps("open")
    if engine.starting:
        return False
    for run in engine.runner.active.values():
        if (finish_runs or not run.in_function) and run.task not in asleep:
            return False
    if any(task not in asleep for task in engine.background.tasks):
        return False
    return (
        (not engine.runs_ticks or engine.dispatcher.idle or sleeps("dispatch"))
        and (engine.recorder.idle or sleeps("record", "release"))
        and all(task in asleep for task in engine.supervisor.own_tasks("prune"))
    )
