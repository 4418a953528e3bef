"""What a deploy would do, and what it does then."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fastapi_crons import Crons
from fastapi_crons.management.management import Management
from fastapi_crons.management.plan.deploy import Deploy
from fastapi_crons.schedules import AtStart, Every
from fastapi_crons.state import SQLiteStateBackend
from fastapi_crons.testing import VirtualClock
from tests.conftest import MakeCrons
from tests.support import nothing

Code = Callable[[Crons], object]


@pytest.fixture
def code_on_a_file(make_crons: MakeCrons) -> Callable[[Code], Crons]:
    def made(code: Code) -> Crons:
        crons = make_crons(state_backend=SQLiteStateBackend("jobs.db"))
        code(crons)
        return crons

    return made


async def planned(crons: Crons, hours: float = 24) -> Deploy:
    """What is said before the deploy, by an observer."""
    await crons.start("observer")
    try:
        return await Management(crons).deploy(hours=hours)
    finally:
        await crons.stop()


async def test_what_is_caught_up_with_and_what_is_lost_is_what_then_happens(
    code_on_a_file: Callable[[Code], Crons], clock: VirtualClock
) -> None:
    def old(crons: Crons) -> None:
        for name in ("same", "each", "edited"):
            crons.cron("*/10 * * * *", name=name, coalesce=name != "each")(nothing)
        crons.cron(AtStart(version="1"), name="start")(nothing)

    def new(crons: Crons) -> None:
        crons.cron("*/10 * * * *", name="same")(nothing)
        crons.cron("*/10 * * * *", name="each", coalesce=False)(nothing)
        crons.cron("*/15 * * * *", name="edited")(nothing)
        crons.cron(AtStart(version="2"), name="start")(nothing)

    first = code_on_a_file(old)
    await first.start()
    await clock.advance(first, minutes=30)
    await first.stop()
    clock.step(3_600 + 60)

    said = await planned(code_on_a_file(new), hours=1)
    assert {job.name: late.runs for job, late in said.late} == {"same": 1, "each": 6}
    assert said.late_runs == 7
    changed = {each.job.name: each for each in said.changed}
    (edited,) = (each for name, each in changed.items() if name == "edited")
    assert edited.lost is not None
    assert edited.lost.number == 6
    assert edited.edit is not None
    assert (edited.edit.before, edited.edit.after, edited.edit.removed, edited.edit.added) == (6, 4, 4, 2)
    assert [job.name for job in said.at_start] == ["start"]
    assert not said.is_safe, "late ticks are lost"
    assert (said.new, said.gone, said.instances) == ((), (), 0)

    deployed = code_on_a_file(new)
    counts = {job.name: len(await first_runs(deployed, job.name)) for job in deployed.jobs}
    await deployed.start()
    await clock.advance(deployed, minutes=1)
    ran = {name: len(await deployed.runs(name, limit=500)) - number for name, number in counts.items()}
    assert ran == {"same": 1, "each": 6, "edited": 0, "start": 1}
    (lost,) = await Management(deployed).missed("edited")
    assert (lost.count, lost.reason) == (6, "schedule_changed")
    again = await planned(code_on_a_file(new))
    assert again.is_safe
    assert (again.late, again.changed, again.at_start, again.instances) == ((), (), (), 1)


async def first_runs(crons: Crons, job: str) -> list[object]:
    await crons.start("observer")
    try:
        return list(await crons.runs(job, limit=500))
    finally:
        await crons.stop()


async def test_while_old_instances_live_their_ticks_are_not_late(
    code_on_a_file: Callable[[Code], Crons], clock: VirtualClock
) -> None:
    old = code_on_a_file(lambda crons: crons.cron(Every(seconds=1), name="each_second")(nothing))
    await old.start()
    await clock.advance(old, seconds=10)
    clock.step(1)  # one is due at this moment
    said = await planned(code_on_a_file(lambda crons: crons.cron(Every(seconds=2), name="each_second")(nothing)))
    assert said.is_safe
    (changed,) = said.changed
    assert changed.lost is None
    assert changed.edit is not None
    assert (changed.edit.removed, changed.edit.added) == (43_200, 0)


async def test_a_new_interval_that_is_shorter_than_a_run_is_named(
    code_on_a_file: Callable[[Code], Crons], clock: VirtualClock
) -> None:
    async def slow() -> None:
        await clock.sleep(400)

    old = code_on_a_file(lambda crons: crons.cron("*/10 * * * *", name="slow")(slow))
    await old.start()
    await clock.advance(old, minutes=59)

    def new(crons: Crons) -> None:
        crons.cron("*/5 * * * *", name="slow")(slow)
        for number in range(41):
            crons.cron("0 9 * * *", name=f"thread{number}")(lambda: None)

    said = await planned(code_on_a_file(new))
    assert [each.job.name for each in said.overlapping] == ["slow"]
    assert [(each.what, each.due, each.limit) for each in said.too_many] == [("threads", 41, 40)]
    assert len(said.new) == 41
    assert said.is_safe


@pytest.mark.parametrize(
    ("old", "new", "common"),
    [
        (("0 3 * * *", "load"), ("0 4 * * *", "fetch"), "function"),
        (("0 3 * * *", "load_orders"), ("0 3 * * *", "load_order"), "schedule"),
        (("0 3 * * *", "load_orders"), ("0 3 * * *", "backup"), None),
        (("0 3 * * *", "load_orders"), ("0 4 * * *", "load_order"), None),
    ],
)
async def test_what_was_perhaps_renamed(
    code_on_a_file: Callable[[Code], Crons], old: tuple[str, str], new: tuple[str, str], common: str | None
) -> None:
    async def other() -> None: ...

    first = code_on_a_file(lambda crons: crons.cron(old[0], name=old[1])(nothing))
    await first.start()
    await first.stop()
    function = nothing if common == "function" else other
    said = await planned(code_on_a_file(lambda crons: crons.cron(new[0], name=new[1])(function)))
    assert [known.job for known, _ in said.gone] == [old[1]]
    assert [pair.common for pair in said.renamed] == ([] if common is None else [common])
    assert not said.is_safe
