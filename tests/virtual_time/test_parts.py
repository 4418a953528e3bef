"""Parts: a started scheduler is one list of them, started in one order and stopped in the reverse one."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from functools import wraps
from typing import Any

import pytest

from fastapi_crons import CronConfig, StoreUnavailableError
from fastapi_crons._util.part import Part
from fastapi_crons.engine.engine import Role
from fastapi_crons.locking import Beat, DistributedLockManager, LocalLockBackend
from tests.conftest import MakeCrons


def kinds(of: type[Part] = Part) -> Iterator[type[Part]]:
    """All classes of parts."""
    for kind in of.__subclasses__():
        yield kind
        yield from kinds(kind)


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What parts are asked to do, and which."""
    noted: list[tuple[str, str]] = []

    def noting(kind: type[Part], step: str) -> None:
        called: Callable[..., Coroutine[Any, Any, None]] = getattr(kind, step)

        @wraps(called)
        async def note(part: Part, *arguments: float) -> None:
            noted.append((step, type(part).__name__))
            await called(part, *arguments)

        monkeypatch.setattr(kind, step, note)

    for kind in kinds():
        if kind.__module__.startswith("fastapi_crons."):
            for step in ("startup", "shutdown"):
                noting(kind, step)
    return noted


async def test_parts_are_stopped_in_the_reverse_order_of_their_start(
    make_crons: MakeCrons, steps: list[tuple[str, str]]
) -> None:
    crons = make_crons()
    await crons.start()
    started = [name for step, name in steps]
    assert {step for step, _ in steps} == {"startup"}
    assert {"Stores", "Recorder", "Membership", "Runner", "Dispatcher", "Maintenance"} <= set(started)
    await crons.stop()
    assert [name for step, name in steps if step == "shutdown"] == started[::-1]


@pytest.mark.parametrize("role", ["operator", "observer"])
async def test_who_runs_no_ticks_starts_and_stops_fewer_parts(
    make_crons: MakeCrons, steps: list[tuple[str, str]], role: Role
) -> None:
    crons = make_crons()
    await crons.start(role)
    started = [name for _, name in steps]
    await crons.stop()
    assert [name for step, name in steps if step == "shutdown"] == started[::-1]
    assert "Maintenance" not in started
    assert ("Recorder" in started) == (role == "operator")


async def test_a_start_that_fails_stops_the_part_that_failed_and_those_before_it(
    make_crons: MakeCrons, steps: list[tuple[str, str]]
) -> None:
    class Silent(LocalLockBackend):
        beats = 0

        async def beat(self, *arguments: Any) -> Beat:
            self.beats += 1
            if self.beats > 1:  # the first announces the instance, the second belongs to the membership
                raise StoreUnavailableError("no route to host")
            return await super().beat(*arguments)

    crons = make_crons(lock_manager=DistributedLockManager(Silent(), CronConfig()))
    with pytest.raises(StoreUnavailableError, match="no route"):
        await crons.start()
    started = [name for step, name in steps if step == "startup"]
    assert started[-1] == "Membership"
    assert [name for step, name in steps if step == "shutdown"] == started[::-1]
