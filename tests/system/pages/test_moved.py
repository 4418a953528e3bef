"""Apps of other schedulers, moved: their jobs are due at the same times, but where the guides of `docs/moving` say so."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from tests.conftest import Once
from tests.programs import run
from tests.system.conftest import ROOT, new_environment, pip, python_of
from tests.system.pages import fire_times
from tests.system.pages.pages import blocks

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

LIBRARIES = ("apscheduler>=3.11,<4", "celery>=5.5,<6", "fastapi-utils[all]>=0.8,<0.9", "fastapi-crons>=2.5,<3")
#: Three weeks. In Berlin, clocks go back on Sunday the 27th at 03:00; until then it is two hours ahead, then one.
AUTUMN = "2030-10-21T00:00:00Z"
WEEKS = 21.0
#: In Berlin, clocks go forward on Sunday the 31st at 02:00.
SPRING = "2030-03-30T12:00:00Z"
PAGES = {
    "apscheduler": "apscheduler.md",
    "celery": "celery-beat.md",
    "repeat_every": "repeat-every.md",
    "fastapi_crons_2": "fastapi-crons-2.md",
}
HEADERS = {
    "apscheduler": """
        from apscheduler.schedulers.asyncio import AsyncIOScheduler
        from apscheduler.triggers.calendarinterval import CalendarIntervalTrigger
        from apscheduler.triggers.combining import AndTrigger, OrTrigger
        from apscheduler.triggers.cron import CronTrigger
        from apscheduler.triggers.date import DateTrigger
        from apscheduler.triggers.interval import IntervalTrigger
        scheduler = AsyncIOScheduler(timezone="UTC")
        def job(trigger):
            scheduler.add_job(print, trigger, id="job")
        """,
    "celery": """
        from datetime import timedelta
        from celery import Celery
        from celery.schedules import crontab, schedule
        app = Celery()
        def job(schedule, timezone="UTC"):
            app.conf.update(timezone=timezone, beat_schedule={"job": {"task": "task", "schedule": schedule}})
        """,
    "repeat_every": """
        from contextlib import asynccontextmanager
        from fastapi import FastAPI
        from fastapi_utils.tasks import repeat_every
        def job(seconds, duration):
            import asyncio
            @repeat_every(seconds=seconds)
            async def job():
                await asyncio.sleep(duration)
            @asynccontextmanager
            async def lifespan(app):
                await job()
                yield
            return FastAPI(lifespan=lifespan)
        """,
    "fastapi_crons_2": """
        from fastapi_crons import Crons
        crons = Crons()
        def job(expr):
            crons.cron(expr, name="job")(print)
        """,
    "here": """
        from fastapi_crons import Crons
        from fastapi_crons.schedules import AnyOf, AtStart, Every, Except, Once, Within
        crons = Crons()
        def job(expr, timezone="UTC"):
            crons.cron(expr, name="job", timezone=timezone)(lambda: None)
        """,
}

Ticks = dict[str, list[str]]


@pytest.fixture(scope="session")
def before(once: Once) -> Path:
    """The Python of an environment with the other schedulers, and without what is tested here."""

    def make(folder: Path) -> None:
        done = pip(new_environment(folder), "install", "time-machine>=2.16", *LIBRARIES, check=False)
        if done.returncode:
            pytest.skip(f"the other schedulers can't be installed here: {done.stderr.strip().splitlines()[-1]}")

    return python_of(once("other-schedulers", make))


def ticks(python: Path, kind: str, path: Path, start: str, days: float) -> Ticks:
    """The ticks of the jobs of a file, in UTC."""
    command = (python, fire_times.__file__, kind, path, start, str(days))
    done = run(command)
    assert done.returncode == 0, done.stderr
    found: Ticks = json.loads(done.stdout)
    return found


def ticks_of(python: Path, kind: str, job: str, start: str = AUTUMN, days: float = WEEKS) -> list[str]:
    """The ticks of one job, that a call defines."""
    path = Path(f"{kind}_app.py")
    # Another app of the same length, written within the same second, passes for the one that was compiled.
    shutil.rmtree("__pycache__", ignore_errors=True)
    path.write_text(f"{dedent(HEADERS[kind])}\n{job}\n")
    return ticks(python, kind, path, start, days)["job"]


def ticks_here(job: str, start: str = AUTUMN, days: float = WEEKS) -> list[str]:
    return ticks_of(Path(sys.executable), "here", job, start, days)


def write_apps(page: str) -> tuple[Path, Path]:
    """The app that a guide begins with, and what becomes of it."""
    found = [block for block in blocks(ROOT / "docs/moving" / page) if block.path is not None]
    old, new = Path(found[0].path or ""), Path("app.py")
    old.write_text(found[0].text)
    new.write_text(next(block.text for block in found if block.path == "app.py"))
    return old, new


@pytest.mark.parametrize("kind", PAGES)
def test_the_app_of_a_guide_has_the_same_ticks_before_and_after(kind: str, before: Path) -> None:
    old, new = write_apps(PAGES[kind])
    there, here = ticks(before, kind, old, AUTUMN, WEEKS), ticks(Path(sys.executable), "here", new, AUTUMN, WEEKS)
    if kind == "repeat_every":
        assert there["cleanup"].pop(0) == "2030-10-21 00:00:00"  # at the start, where the new app calls it, too
    assert there == here
    assert all(there.values())
    # And this is when it really runs, in the days around the change of the clocks.
    ran = ticks(Path(sys.executable), "run_here", new, "2030-10-26T12:00:00Z", 1 + 60 / 86400)  # jitter is less
    expected = {
        job: [tick for tick in each if "2030-10-26 12:00:00" < tick <= "2030-10-27 12:00:00"]
        for job, each in here.items()
    }
    assert ran == {job: each for job, each in expected.items() if each}


@pytest.mark.parametrize(
    ("kind", "old", "new"),
    [
        ("apscheduler", "CronTrigger(hour=3, timezone='UTC')", "'0 3 * * *'"),
        ("apscheduler", "CronTrigger.from_crontab('*/20 9-17 * * mon-fri', timezone='UTC')", "'*/20 9-17 * * mon-fri'"),
        ("apscheduler", "CronTrigger(day='last', hour=1, timezone='UTC')", "'0 1 L * *'"),
        ("apscheduler", "CronTrigger(day='2nd fri', hour=1, timezone='UTC')", "'0 1 * * fri#2'"),
        ("apscheduler", "CronTrigger(day='last fri', hour=1, timezone='UTC')", "'0 1 * * L5'"),
        ("apscheduler", "CronTrigger(year=2030, hour=3, timezone='UTC')", "'0 3 * * * 0 2030'"),
        ("apscheduler", "DateTrigger('2030-10-31 17:00:00', timezone='UTC')", "Once('2030-10-31T17:00')"),
        (
            "apscheduler",
            "OrTrigger([CronTrigger.from_crontab(each, timezone='UTC') for each in ('0 9 * * mon-fri', '0 12 * * sat')])",
            "AnyOf('0 9 * * 1-5', '0 12 * * 6')",
        ),
        ("apscheduler", "AndTrigger([CronTrigger(day=1, hour=3, timezone='UTC')])", "'0 3 1 * *'"),
        ("apscheduler", "CalendarIntervalTrigger(days=1, hour=3, timezone='UTC')", "'0 3 * * *'"),
        (
            "apscheduler",
            "CronTrigger(minute='*/5', start_date='2030-10-22', end_date='2030-10-23 12:00:00', timezone='UTC')",
            "Within('*/5 * * * *', start='2030-10-22T00:00', end='2030-10-23T12:00')",
        ),
        ("celery", "crontab(minute='*/15', hour='8-17', day_of_week='mon-fri')", "'*/15 8-17 * * mon-fri'"),
        ("celery", "crontab(hour=3)", "'* 3 * * *'"),
        ("celery", "crontab(minute=0, hour=3, day_of_month='1,15', month_of_year='*/10')", "'0 3 1,15 */10 *'"),
        ("celery", "crontab.from_string('0 3 * * 1')", "'0 3 * * 1'"),
        ("celery", "crontab.from_string('0 3 * * 0')", "'0 3 * * 0'"),
    ],
)
def test_a_row_of_the_tables_has_the_same_ticks_on_both_sides(kind: str, old: str, new: str, before: Path) -> None:
    there = ticks_of(before, kind, f"job({old})")
    assert there
    assert there == ticks_here(f"job({new})")


@pytest.mark.parametrize(
    ("kind", "old", "new"),
    [
        ("apscheduler", "IntervalTrigger(seconds=10)", "'* * * * * */10'"),
        ("apscheduler", "IntervalTrigger(hours=2)", "'0 */2 * * *'"),
        ("apscheduler", "IntervalTrigger(seconds=90)", "Every(seconds=90)"),
        (
            "apscheduler",
            "IntervalTrigger(hours=6, start_date='2030-10-21 00:15:00', timezone='UTC')",
            "Every(hours=6, anchor='2030-10-21T00:15')",
        ),
        ("celery", "30.0", "'* * * * * */30'"),
        ("celery", "timedelta(minutes=5)", "'*/5 * * * *'"),
        ("celery", "90.0", "Every(seconds=90)"),
        ("celery", "schedule(3600, relative=True)", "Every(hours=1)"),
    ],
)
def test_an_interval_has_the_same_ticks_where_the_old_app_started_at_one(
    kind: str, old: str, new: str, before: Path
) -> None:
    there = ticks_of(before, kind, f"job({old})", days=1)
    assert there
    assert there == ticks_here(f"job({new})", days=1)


@pytest.mark.parametrize(("kind", "old"), [("apscheduler", "IntervalTrigger(seconds=90)"), ("celery", "90.0")])
def test_an_interval_is_counted_from_the_start_there_and_by_the_clock_here(kind: str, old: str, before: Path) -> None:
    start, days = "2030-10-21T00:00:37Z", 200 / 86400
    assert ticks_of(before, kind, f"job({old})", start, days) == ["2030-10-21 00:02:07", "2030-10-21 00:03:37"]
    assert ticks_here("job(Every(seconds=90))", start, days) == ["2030-10-21 00:01:30", "2030-10-21 00:03:00"]


def test_repeat_every_waits_after_each_run(before: Path) -> None:
    days = 240 / 86400
    there = ticks_of(before, "repeat_every", "app = job(seconds=60, duration=20)", days=days)
    assert [tick[-5:] for tick in there] == ["00:00", "01:20", "02:40", "04:00"]
    assert [tick[-5:] for tick in ticks_here("job(Every(seconds=60))", days=days)] == [
        "01:00",
        "02:00",
        "03:00",
        "04:00",
    ]


def test_celery_rounds_a_relative_interval_down_to_one_unit(before: Path) -> None:
    there = ticks_of(before, "celery", "job(schedule(90, relative=True))", days=200 / 86400)
    assert [tick[-5:] for tick in there] == ["01:00", "02:00", "03:00"]


def days_of(ticks: list[str]) -> list[str]:
    return [tick[5:10] for tick in ticks]


def test_apscheduler_counts_days_from_monday(before: Path) -> None:
    numbered = ticks_of(before, "apscheduler", "job(CronTrigger.from_crontab('0 1 * * 1', timezone='UTC'))")
    assert days_of(numbered) == ["10-22", "10-29", "11-05"]  # Tuesdays
    assert days_of(ticks_here("job('0 1 * * 1')")) == ["10-21", "10-28", "11-04"]


@pytest.mark.parametrize(
    ("kind", "old"),
    [
        ("apscheduler", "CronTrigger(day='1-7', day_of_week='mon', hour=1, timezone='UTC')"),
        ("celery", "crontab(0, 1, day_of_month='1-7', day_of_week=1)"),
    ],
)
def test_a_day_of_the_month_and_of_the_week_are_both_needed_there_and_one_of_them_here(
    kind: str, old: str, before: Path
) -> None:
    assert days_of(ticks_of(before, kind, f"job({old})")) == ["11-04"] == days_of(ticks_here("job('0 1 * * mon#1')"))
    either = ["10-21", "10-28", *(f"11-0{day}" for day in range(1, 8))]
    assert days_of(ticks_here("job('0 1 1-7 * mon')")) == either


@pytest.mark.parametrize(
    ("kind", "old", "autumn", "spring"),
    [
        (
            "apscheduler",
            "CronTrigger(hour=2, minute=30, timezone='Europe/Berlin')",
            ["10-27 00:30:00", "10-27 01:30:00"],
            ["03-31 01:30:00"],
        ),
        ("celery", "crontab(30, 2), timezone='Europe/Berlin'", ["10-27 00:30:00"], ["03-31 01:30:00"]),
        ("here", "'30 2 * * *', timezone='Europe/Berlin'", ["10-27 00:30:00"], ["03-31 01:00:00"]),
    ],
)
def test_half_past_two_in_the_nights_in_which_clocks_change(
    kind: str, old: str, autumn: list[str], spring: list[str], before: Path
) -> None:
    python = Path(sys.executable) if kind == "here" else before
    for start, expected in (("2030-10-26T12:00:00Z", autumn), (SPRING, spring)):
        assert [tick[5:] for tick in ticks_of(python, kind, f"job({old})", start, 1)] == expected


def test_an_hourly_task_of_celery_leaves_out_an_hour_when_clocks_go_back(before: Path) -> None:
    start, days = "2030-10-26T23:30:00Z", 3 / 24
    there = ticks_of(before, "celery", "job(crontab(0), timezone='Europe/Berlin')", start, days)
    assert [tick[-8:-3] for tick in there] == ["00:00", "02:00"]
    here = ticks_here("job('0 * * * *', timezone='Europe/Berlin')", start, days)
    assert [tick[-8:-3] for tick in here] == ["00:00", "01:00", "02:00"]


def test_a_step_of_days_and_a_weekday_are_one_of_them_in_2_and_both_here(before: Path) -> None:
    assert days_of(ticks_of(before, "fastapi_crons_2", "job('0 1 */2 * 1')"))[:4] == [
        "10-21",
        "10-23",
        "10-25",
        "10-27",
    ]
    assert days_of(ticks_here("job('0 1 */2 * 1')")) == ["10-21"]
