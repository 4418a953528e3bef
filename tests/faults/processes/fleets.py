"""Stores and fleets that are shared by tests of processes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from tests.faults.conftest import Place
from tests.support import until

#: For jobs that do something in one process only, and once.
ONCE = """
def once(name):
    try:
        os.close(os.open(name, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True
"""


def attempts(place: Place, tick: int, job: str = "long") -> list[tuple[int, str]]:
    """The runs of a tick on record: attempt and status."""
    return [(run.attempt, run.status) for run in place.runs(job) if run.tick_ts == tick]


SAYS_HOW_IT_IS = """
start_it, keeps = crons.start, []

async def start():
    await start_it()
    keeps.append(asyncio.create_task(say()))

async def say():
    path = f"health-{os.getpid()}"
    while True:
        with open(f"{path}.new", "w") as file:
            json.dump([crons.health().status, crons.health().findings], file)
        os.rename(f"{path}.new", f"{path}.json")
        await asyncio.sleep(0.2)

crons.start = start
"""


def health_of(pid: int, fits: Callable[[str, list[str]], bool]) -> None:
    """Wait until a process's own view of its health fits."""
    path = Path(f"health-{pid}.json")
    until(lambda: path.exists() and fits(*json.loads(path.read_text())), what=f"the health of {pid} {path}")
