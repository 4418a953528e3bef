"""Which ticks did not run: those on record as missed, and those that no instance has handled."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from fastapi_crons import Crons, UnknownJobError
from fastapi_crons.management.management import Management
from fastapi_crons.management.unhandled import UnhandledTicks
from fastapi_crons.schedules import AtStart, Every
from fastapi_crons.state import MissedQuery, SQLiteStateBackend
from fastapi_crons.testing import VirtualClock
from tests.conftest import MakeCrons
from tests.support import nothing

EVERYTHING = MissedQuery()
NOBODY = (
    "no instance has claimed it: no instance that runs jobs is running. The next one to start treats it as a late tick."
)


def at(time: str) -> float:
    """A time of the first of March."""
    return datetime.fromisoformat(f"2026-03-01T{time}:00+00:00").timestamp()


def told(found: tuple[list[UnhandledTicks], int]) -> list[str]:
    return [
        f"{each.job}: {each.ticks.number} from {datetime.fromtimestamp(each.ticks.first, timezone.utc):%H:%M} to "
        f"{datetime.fromtimestamp(each.ticks.last, timezone.utc):%H:%M}, {each.fate.fate}"
        for each in found[0]
    ]


@pytest.fixture
def make_night(make_crons: MakeCrons) -> MakeCrons:
    """Makes schedulers with the same jobs on the same file."""

    def make(**options: object) -> Crons:
        crons = make_crons(state_backend=SQLiteStateBackend("jobs.db"), **options)
        crons.cron("0 * * * *", name="hourly", tags=["often"])(nothing)
        crons.cron("0 2 * * *", name="daily", coalesce=False)(nothing)
        crons.cron("30 * * * *", name="paused", timezone="Europe/Berlin")(nothing)
        crons.cron("15 * * * *", name="disabled", enabled=False)(nothing)
        return crons

    return make


async def test_ticks_while_no_instance_runs_are_overdue_until_one_handles_them(
    make_night: MakeCrons, clock: VirtualClock
) -> None:
    before = make_night()
    await before.start()
    await clock.advance(before, minutes=50)
    await before.pause("paused", note="the disk is full")
    await before.stop()
    clock.step(3 * 3_600)
    watching = make_night()
    await watching.start("observer")
    management = Management(watching)
    overdue = await management.unhandled(EVERYTHING)
    assert told(overdue) == [
        "disabled: 4 from 00:15 to 03:15, missed",
        "hourly: 3 from 01:00 to 03:00, waiting",
        "paused: 3 from 01:30 to 03:30, paused",
        "daily: 1 from 02:00 to 02:00, waiting",
    ]
    to_make_up_for, number = await management.unhandled(EVERYTHING, only_open=True)
    assert ([each.job for each in to_make_up_for], number) == (["hourly", "paused", "daily"], 3), (
        "nobody waits for others"
    )
    text = {each.job: each.fate.text for each in overdue[0]}
    assert text["hourly"] == f"It was due 2 hours and 50 minutes ago, and {NOBODY}"
    assert text["paused"].endswith(": the disk is full; it was due during the pause, and is not run.")
    (paused, *_), _ = await management.unhandled(MissedQuery(["paused"]), details=False)
    assert "disk" not in paused.fate.text
    await watching.stop()

    after = make_night()
    await after.start()
    await clock.advance(after, minutes=1)
    assert [line.split(":")[0] for line in told(await Management(after).unhandled(EVERYTHING))] == [
        "disabled",
        "paused",
    ]
    (record,) = await Management(after).find_missed(EVERYTHING)
    assert (record.ticks.job, record.ticks.reason, record.ticks.count) == ("hourly", "coalesced", 2), (
        "the run of 03:00 stands for them"
    )


async def test_overdue_ticks_of_a_span_and_of_some_jobs(make_night: MakeCrons, clock: VirtualClock) -> None:
    before = make_night()
    await before.start()
    await before.stop()
    clock.step(6 * 3_600 + 5)
    watching = make_night()
    await watching.start("observer")
    management = Management(watching)
    assert told(await management.unhandled(MissedQuery(["hourly"]))) == ["hourly: 5 from 01:00 to 05:00, waiting"], (
        "the tick of 06:00 is just being claimed"
    )
    span = MissedQuery(management.names_of((), ["often"]), at("02:00"), at("04:00"))
    assert told(await management.unhandled(span)) == ["hourly: 2 from 02:00 to 03:00, waiting"]
    shown, jobs = await management.unhandled(MissedQuery(limit=1))
    assert (len(shown), jobs) == (1, 4)
    assert await management.unhandled(MissedQuery(["hourly"], since=at("05:30"))) == ([], 0)
    assert await management.unhandled(MissedQuery([])) == ([], 0)
    with pytest.raises(UnknownJobError):
        await management.unhandled(MissedQuery(["nope"]))


async def test_ticks_that_wait_for_a_run_are_told_with_that_run(make_crons: MakeCrons, clock: VirtualClock) -> None:
    crons = make_crons(instance_id="worker-1")

    @crons.cron("* * * * *", name="long", overlap="queue")
    async def long() -> None:
        await clock.sleep(150)

    await crons.start()
    await clock.advance(crons, minutes=3, seconds=20)
    (waiting,), _ = await Management(crons).unhandled(EVERYTHING)
    assert waiting.ticks.number == 2
    assert "it waits for run" in waiting.fate.text
    assert "of worker-1, which holds the job" in waiting.fate.text


@pytest.mark.parametrize("memory", [True, False])
async def test_records_of_missed_ticks_over_all_jobs(make_crons: MakeCrons, clock: VirtualClock, memory: bool) -> None:
    crons = make_crons(state_backend=None if memory else SQLiteStateBackend("jobs.db"))

    @crons.cron("*/10 * * * *", name="slow")
    async def slow() -> None:
        await clock.sleep(900)

    crons.cron("*/30 * * * *", name="paused", tags=["calm"])(nothing)
    await crons.start()
    await crons.pause("paused", note="deploy")
    await clock.advance(crons, hours=1, minutes=5)
    await crons.resume("paused")
    await clock.advance(crons, minutes=1)
    management = Management(crons)

    async def found(query: MissedQuery) -> list[tuple[str, str, int]]:
        return [(each.ticks.job, each.ticks.reason, each.ticks.count) for each in await management.find_missed(query)]

    assert await found(EVERYTHING._replace(limit=1)) == [("paused", "paused", 2)]
    assert set(await found(EVERYTHING)) == {("paused", "paused", 2), ("slow", "overlap", 1)}
    calm = management.names_of((), ["calm"])
    assert await found(MissedQuery(calm, since=at("00:50"))) == [("paused", "paused", 2)]
    assert await found(MissedQuery(calm, since=at("01:01"))) == []
    assert await management.unhandled(EVERYTHING) == ([], 0)
    with pytest.raises(UnknownJobError):
        await management.find_missed(MissedQuery(["nope"]))


async def test_ticks_that_runs_and_starts_make(make_crons: MakeCrons, clock: VirtualClock) -> None:
    def make() -> Crons:
        crons = make_crons(state_backend=SQLiteStateBackend("jobs.db"))
        crons.cron(Every(minutes=10, after="end"), name="after")(nothing)
        crons.cron(AtStart(), name="start")(nothing)
        return crons

    before = make()
    await before.start()
    await clock.advance(before, minutes=15)
    await before.stop()
    clock.step(3_600)
    watching = make()
    await watching.start("observer")
    assert told(await Management(watching).unhandled(EVERYTHING)) == ["after: 1 from 00:20 to 00:20, waiting"]


async def test_a_changed_schedule_counts_as_it_is_in_force(make_crons: MakeCrons, clock: VirtualClock) -> None:
    def make(expr: str) -> Crons:
        crons = make_crons(state_backend=SQLiteStateBackend("jobs.db"))
        crons.cron(expr, name="job")(nothing)
        return crons

    before = make("0 * * * *")
    await before.start()
    await before.stop()
    clock.step(2 * 3_600 + 60)
    deployed = make("*/15 * * * *")
    await deployed.start("observer")
    assert told(await Management(deployed).unhandled(EVERYTHING)) == ["job: 2 from 01:00 to 02:00, waiting"]


async def test_of_many_jobs_that_wait_as_many_are_shown_as_are_wanted(
    make_crons: MakeCrons, clock: VirtualClock
) -> None:
    def make() -> Crons:
        crons = make_crons(state_backend=SQLiteStateBackend("jobs.db"))
        for number in range(500):
            crons.cron(f"*/{number % 5 + 1} * * * *", name=f"job-{number}")(nothing)
        return crons

    before = make()
    await before.start()
    await before.stop()
    clock.step(86_400 + 30)
    watching = make()
    await watching.start("observer")
    shown, jobs = await Management(watching).unhandled(MissedQuery(limit=10))
    assert (len(shown), jobs) == (10, 500)
    assert {each.ticks.number for each in shown} == {1440}
