"""The page of a run."""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime, timezone
from zoneinfo import ZoneInfo

from fastapi_crons import Crons
from fastapi_crons.state import MemoryStateBackend
from fastapi_crons.testing import VirtualClock
from tests.conftest import MakeCrons
from tests.integration.dashboard.browsing import Dashboard, path
from tests.integration.dashboard.conftest import ODD
from tests.integration.dashboard.page import Page
from tests.support import nothing, runs_of

logger = logging.getLogger("shop")
MARKUP = "<script>alert(1)</script>"


def lines_of(page: Page) -> int:
    return len(list(page.all("li", class_="line")))


async def test_all_that_is_on_record_is_shown(crons: Crons, pages: Dashboard, clock: VirtualClock) -> None:
    @crons.cron("0 * * * *", name=ODD)
    async def job() -> str:
        logger.warning("a line with %s", MARKUP)
        return MARKUP

    await crons.start()
    await clock.advance(crons, hours=1)
    (run,) = await runs_of(crons, ODD)
    page = await pages.get(path(ODD, "runs", run.id))
    for words in (
        f"Run {run.id[-8:]} completed",
        f'Result "{MARKUP}"',
        f"WARNING shop a line with {MARKUP}",
        f"Id {run.id}",
        "Tick 2026-03-01 01:00:00 UTC",
        "Started by schedule",
        "Instance worker-001",
    ):
        assert words in page.text
    assert all("alert" not in str(script) for script in page.all("script"))
    assert page.href("/jobs/") == f"/api/dashboard{path(ODD)}"


async def test_an_error_is_shown_with_its_traceback_to_those_who_may_know(
    crons: Crons, pages: Dashboard, clock: VirtualClock
) -> None:
    @crons.cron("* * * * *", name="job", kwargs={"region": "a secret argument"})
    async def job(region: str) -> None:
        logger.info("a secret line")
        raise ValueError(f"a secret text {MARKUP}")

    await crons.start()
    await clock.advance(crons, minutes=1)
    (run,) = await runs_of(crons, "job")
    page = await pages.get(path("job", "runs", run.id))
    assert f"ValueError a secret text {MARKUP} Traceback (most recent call last):" in page.text
    assert {button.get("data-copies") for button in page.all("button", type="button")} == {"traceback"}
    assert "a secret argument" in page.text
    async with Dashboard(crons, stranger=True) as strangers:
        page = await strangers.get(path("job", "runs", run.id))
        assert "ValueError Its text and traceback are shown to those who may change things." in page.text
        assert "a secret" not in page.text
        assert page.actions == []
        assert (await strangers.ask("GET", path("job", "runs", run.id, "log"))).status_code == 403


async def test_its_log_is_shown_from_a_level_on(crons: Crons, pages: Dashboard, clock: VirtualClock) -> None:
    @crons.cron("* * * * *", name="job")
    async def job() -> None:
        for level in (logging.WARNING, logging.ERROR, logging.CRITICAL):
            logger.log(level, "one")

    await crons.start()
    await clock.advance(crons, minutes=1)
    (run,) = await runs_of(crons, "job")
    where = path("job", "runs", run.id)
    found = {level: lines_of(await pages.get(f"{where}?level={level}")) for level in ("", "INFO", "WARNING", "ERROR")}
    assert found == {"": 3, "INFO": 3, "WARNING": 3, "ERROR": 2}
    page = await pages.get(where)
    assert lines_of(await pages.get(page.link("error"))) == 2


async def test_the_times_of_its_log_are_on_the_clock_of_its_job(
    crons: Crons, pages: Dashboard, clock: VirtualClock
) -> None:
    @crons.cron("* * * * *", name="job", timezone="Asia/Kolkata")
    async def job() -> None:
        logger.warning("one")

    await crons.start()
    await clock.advance(crons, minutes=1)
    (run,) = await runs_of(crons, "job")
    instant = datetime.fromtimestamp(run.log[0].ts, timezone.utc).astimezone(ZoneInfo("Asia/Kolkata"))
    where = path("job", "runs", run.id)
    page = await pages.get(where)
    assert "times in Asia/Kolkata" in page.text
    assert f"{instant:%H:%M:%S}.{instant.microsecond // 1000:03} WARNING" in page.text
    followed = (await pages.ask("GET", f"{where}/log")).text
    assert f"{instant:%H:%M:%S}.{instant.microsecond // 1000:03}</time> <b>WARNING" in followed


async def test_its_log_says_which_attempt_failed_and_how(crons: Crons, pages: Dashboard, clock: VirtualClock) -> None:
    tries = 0

    @crons.cron("0 * * * *", name="job", max_retries=2, retry_delay=60)
    async def job() -> None:
        nonlocal tries
        tries += 1
        logger.warning("try %d", tries)
        if tries == 1:
            raise ConnectionError(f"no answer {MARKUP}")

    await crons.start()
    await clock.advance(crons, hours=1, minutes=5)
    (run,) = await runs_of(crons, "job")
    page = await pages.get(path("job", "runs", run.id))
    failed = (
        f"WARNING fastapi_crons.retry attempt 1 failed: ConnectionError: no answer {MARKUP}; the next one follows in"
    )
    assert page.text.index("try 1") < page.text.index(failed) < page.text.index("try 2")
    assert "Attempt 2 of up to 3 ; how the one before ended is in the log" in page.text
    assert len(list(page.all("li", class_="retry"))) == 1


async def test_it_says_how_much_of_a_log_is_kept(make_crons: MakeCrons) -> None:
    crons = make_crons(max_log_chars=1_000)

    @crons.cron("0 0 1 1 *", name="job")
    async def job() -> None:
        for number in range(100):
            logger.warning("line %d", number)

    await crons.start()
    run = await crons.run_job("job")
    async with Dashboard(crons) as pages:
        text = (await pages.get(path("job", "runs", run.id))).text
    assert f"{run.log_dropped} earlier records not kept: of its log, the newest 1,000 characters are kept" in text
    assert "CRON_MAX_LOG_CHARS" in text


async def test_while_it_runs_its_log_follows(crons: Crons, pages: Dashboard, clock: VirtualClock) -> None:
    goes_on, ends = asyncio.Event(), asyncio.Event()

    @crons.cron("0 0 1 1 *", name=ODD)
    async def job() -> None:
        logger.warning("the first")
        await goes_on.wait()
        logger.warning("the second %s", MARKUP)
        logger.info("not of that level")

    await crons.start()
    page = await pages.send(path(ODD, "run"))
    assert "running" in page.text
    # One stream is open, and there are no others: browsers have few connections for a site.
    ((tag, log),) = [found for found in page.elements if "hx-sse:connect" in found[1]]
    assert (tag, log["id"]) == ("ol", "lines")
    follows = str(log["hx-sse:connect"])
    async with Dashboard(crons, stranger=True) as strangers:
        seen = await strangers.get(page.href("/runs/"))
    assert [each["id"] for _, each in seen.elements if "hx-sse:connect" in each] == ["live"]
    goes_on.set()
    await clock.advance(crons, seconds=2)
    answer = await pages.ask("GET", follows.replace("after=1", "after=0&level=WARNING"))
    events = [event for event in answer.text.split("\n\n") if "data:" in event]
    assert ["the first" in events[0], "the second &lt;script&gt;" in events[1]] == [True, True]
    assert "event: ended" in events[2]
    assert len(events) == 3
    ends.set()


async def test_the_runs_before_and_after_are_linked(crons: Crons, pages: Dashboard, clock: VirtualClock) -> None:
    crons.cron("0 * * * *", name="job")(nothing)
    await crons.start()
    await clock.advance(crons, hours=4)
    first, second, third, fourth = await runs_of(crons, "job")
    page = await pages.get(path("job", "runs", second.id))
    around = {a["rel"]: str(a["href"]).rpartition("/")[2] for a in page.all("a") if "rel" in a}
    assert around == {"prev": first.id, "next": third.id}
    last = await pages.get(path("job", "runs", fourth.id))
    assert [a["rel"] for a in last.all("a") if "rel" in a] == ["prev"]


async def test_why_it_was_late_is_shown(crons: Crons, pages: Dashboard, clock: VirtualClock) -> None:
    crons.cron("0 * * * *", name="job")(nothing)
    await crons.start()
    await crons.stop()
    await clock.advance(hours=3, minutes=10)
    await crons.start()
    await clock.advance(crons, seconds=1)
    (run,) = await runs_of(crons, "job")
    text = (await pages.get(path("job", "runs", run.id))).text
    assert "Started by late tick" in text
    assert "Late 10 min after its tick: no instance ran the job until 2026-03-01 03:10:00 UTC" in text
    assert "Stands for 2 earlier ticks too, since 2026-03-01 01:00:00 UTC" in text


async def test_a_run_is_found_by_a_part_of_its_id_and_an_unknown_one_is_not(
    crons: Crons, pages: Dashboard, clock: VirtualClock
) -> None:
    crons.cron("0 * * * *", name="job")(nothing)
    crons.cron("0 0 1 1 *", name="other")(nothing)
    await crons.start()
    await clock.advance(crons, hours=1)
    (run,) = await runs_of(crons, "job")
    assert run.id in (await pages.get(path("job", "runs", run.id[-8:]))).text
    await pages.get(path("other", "runs", run.id), 404)
    await pages.get(path("job", "runs", "019ca8c1-6c00-7000-8000-0123456789ab"), 404)


async def test_a_run_that_was_just_started_elsewhere_is_waited_for(make_crons: MakeCrons, clock: VirtualClock) -> None:
    # A form is answered by one process of an app, and the page that it leads to may be asked of another.
    store, elsewhere = MemoryStateBackend(), make_crons(instance_id="worker-002")
    here = make_crons(instance_id="worker-001", state_backend=store)
    for each in (here, elsewhere):
        each.cron("0 0 1 1 *", name="job")(nothing)
        await each.start()
    run = await elsewhere.run_job("job")
    where = path("job", "runs", run.id)
    async with Dashboard(here) as pages:
        await pages.get(where, 404)
        asked = asyncio.create_task(pages.get(f"{where}?said=started"))
        await asyncio.sleep(0.05)
        await store.write([run])
        assert "The run has started." in (await asked).text
