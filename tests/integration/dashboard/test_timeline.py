"""The timeline: what ran, what did not, and what is due, on one axis of time."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

from httpx2 import AsyncClient

from fastapi_crons import Crons
from fastapi_crons.testing import VirtualClock
from tests.conftest import MakeCrons
from tests.integration.api.client import STRANGER
from tests.integration.dashboard.browsing import Dashboard
from tests.integration.dashboard.conftest import ODD
from tests.integration.dashboard.page import Page
from tests.support import nothing, runs_of


async def test_runs_are_bars_and_ticks_ahead_hollow_ones(
    crons: Crons, dashboard: AsyncClient, clock: VirtualClock
) -> None:
    @crons.cron("0 * * * *", name=ODD)
    async def half_an_hour() -> None:
        await clock.sleep(1_800)

    await crons.start()
    await clock.advance(crons, seconds=3 * 3_600 + 900)
    page = Page(await dashboard.get("/timeline", params={"zoom": "12h"}))
    (lane,) = page.all("svg", class_="lane")
    assert lane["aria-label"] == f"{ODD}: 3 runs, 0 failed; 0 ticks not run; 6 planned"
    *runs, _, _ = page.all("rect", class_="run")  # the last two are the legend's
    # Half an hour of twelve, the last one as far as it got.
    assert [bar["width"] for bar in runs] == ["4.17%", "4.17%", "2.08%"]
    assert [("busy" in str(bar["class"])) for bar in runs] == [False, False, True]
    *planned, _ = page.all("rect", class_="planned")
    # The last one reaches beyond the edge.
    assert [bar["width"] for bar in planned] == [*["4.17%"] * 5, "2.08%"]
    assert "<script>" not in page.text.replace(ODD, "")
    ids = [run.id for run in await runs_of(crons, ODD)]
    hrefs = [href for href, _ in page.links]
    assert all(any(href.endswith(run_id) for href in hrefs) for run_id in ids)


async def test_a_run_that_reaches_into_the_window_is_a_bar_and_one_that_ended_before_it_is_not_counted(
    crons: Crons, dashboard: AsyncClient, clock: VirtualClock
) -> None:
    @crons.cron("0 0,2 * * *", name="job")
    async def an_hour() -> None:
        await clock.sleep(3_600)

    await crons.start()
    await clock.advance(crons, hours=29)
    page = Page(await dashboard.get("/timeline", params={"zoom": "1h", "at": "2026-03-02T03:15Z"}))
    (lane,) = page.all("svg", class_="lane")
    assert str(lane["aria-label"]).startswith("job: 1 runs, 0 failed")
    (bar, *_) = page.all("rect", class_="run")
    assert bar["width"] == "25.0%"


async def test_a_tick_without_a_run_leads_to_why(crons: Crons, dashboard: AsyncClient, clock: VirtualClock) -> None:
    @crons.cron("*/10 * * * *", name="slow")
    async def slow() -> None:
        await clock.sleep(15 * 60)

    await crons.start()
    await clock.advance(crons, seconds=35 * 60)
    page = Page(await dashboard.get("/timeline", params={"zoom": "3h"}))
    why = [href for href, words in page.links if "the job was still running" in words]
    assert parse_qs(urlsplit(why[0]).query) == {"at": ["2026-03-01T00:20:00Z"]}
    assert (
        "It was not run: the job was still running" in Page(await dashboard.get(why[0].partition("/dashboard")[2])).text
    )
    # Marks are told apart by their shape, too, and are what the keyboard reaches.
    assert [mark["href"] for mark in page.all("use") if "held" in str(mark.get("class"))][:1] == ["#bar"]


async def test_ticks_that_meet_the_run_before_are_marked_as_collisions(
    crons: Crons, dashboard: AsyncClient, clock: VirtualClock
) -> None:
    @crons.cron("*/10 * * * *", name="slow")
    async def slow() -> None:
        await clock.sleep(15 * 60)

    crons.cron("*/10 * * * *", name="quick")(nothing)
    await crons.start()
    await clock.advance(crons, seconds=45 * 60)
    page = Page(await dashboard.get("/timeline", params={"zoom": "3h", "q": "slow"}))
    *colliding, _ = page.all("rect", class_="collides")
    assert len(colliding) == 4
    assert len(list(Page(await dashboard.get("/timeline?zoom=3h&q=quick")).all("rect", class_="collides"))) == 1


async def test_a_job_that_is_due_every_few_seconds_is_a_density_of_bounded_size(
    crons: Crons, dashboard: AsyncClient, clock: VirtualClock
) -> None:
    failing = False

    @crons.cron("* * * * * */5", name="often")
    async def often() -> None:
        if failing:
            raise ValueError("a secret error")

    await crons.start()
    await clock.advance(crons, seconds=600)
    failing = True
    await clock.advance(crons, seconds=25)
    failing = False
    await clock.advance(crons, seconds=575)
    answer = await dashboard.get("/timeline", params={"zoom": "1h"})
    page = Page(answer)
    *levels, _, _ = page.all("rect", class_="level")
    assert 3 <= len(levels) <= 50
    (bad,) = [level for level in levels if "bad" in str(level["class"])]
    assert bad.get("tabindex") is None
    closer = next(href for href, words in page.links if "5 failed or missed" in words)
    assert parse_qs(urlsplit(closer).query)["zoom"] == ["1h"]
    assert "a secret error" not in answer.text
    for zoom in ("1h", "2d", "7d"):
        elements = Page(await dashboard.get("/timeline", params={"zoom": zoom})).elements
        assert len(elements) < 400


async def test_nothing_is_drawn_before_the_job_was_known(
    crons: Crons, dashboard: AsyncClient, clock: VirtualClock
) -> None:
    crons.cron("* * * * * */5", name="often")(nothing)
    await crons.start()
    await clock.advance(crons, seconds=900)
    page = Page(await dashboard.get("/timeline"))
    *levels, _, _ = page.all("rect", class_="level")
    assert min(float(str(level["x"]).removesuffix("%")) for level in levels) > 48


async def test_what_a_pause_swallows_is_shown(crons: Crons, dashboard: AsyncClient, clock: VirtualClock) -> None:
    crons.cron("*/10 * * * *", name="paused one")(nothing)
    await crons.start()
    await crons.pause("paused one", actor="ops")
    await clock.advance(crons, seconds=1_800)
    page = Page(await dashboard.get("/timeline", params={"zoom": "1h"}))
    assert [words for _, words in page.links if "will not be run, the job is paused" in words]
    assert "#pause" in [mark["href"] for mark in page.all("use")]
    # Those that it has swallowed so far are on no record yet.
    so_far = [href for href, words in page.links if "not run, the job is paused" in words]
    assert [parse_qs(urlsplit(href).query)["at"] for href in so_far] == [
        ["2026-03-01T00:10:00Z"],
        ["2026-03-01T00:20:00Z"],
        ["2026-03-01T00:30:00Z"],
    ]
    assert "3 ticks not run" in str(next(page.all("svg", class_="lane"))["aria-label"])
    crons.cron("* * * * * */5", name="often")(nothing)
    await crons.pause("often")
    await clock.advance(crons, seconds=600)
    often = Page(await dashboard.get("/timeline", params={"zoom": "1h", "q": "often"}))
    *levels, _, _ = often.all("rect", class_="level")
    assert [level for level in levels if "held" in str(level["class"])]


async def test_lanes_are_paged_and_chosen_by_text_and_tag(crons: Crons, dashboard: AsyncClient) -> None:
    for number in range(60):
        crons.cron("0 0 * * *", name=f"job {number:02}", tags=["odd"] if number % 2 else ["even"])(nothing)
    await crons.start()
    first = Page(await dashboard.get("/timeline"))
    assert len(list(first.all("svg", class_="lane"))) == 25
    assert "Page 1 of 3" in first.text
    last = Page(await dashboard.get("/timeline", params={"page": 3}))
    assert len(list(last.all("svg", class_="lane"))) == 10
    assert len(list(Page(await dashboard.get("/timeline?tag=odd&page=2")).all("svg", class_="lane"))) == 5
    assert len(list(Page(await dashboard.get("/timeline?q=JOB%2007")).all("svg", class_="lane"))) == 1
    assert "No job matches" in Page(await dashboard.get("/timeline?q=nope")).text


async def test_one_query_for_each_kind_of_record(crons: Crons, dashboard: AsyncClient, clock: VirtualClock) -> None:
    for number in range(25):
        crons.cron(f"{number} * * * *", name=f"job {number}")(nothing)
    await crons.start()
    await clock.advance(crons, seconds=7_200)
    assert crons.engine is not None
    calls: list[str] = []
    state = crons.engine.state
    for name in ("find_runs", "find_missed", "figures", "states"):
        original = getattr(state, name)

        def counted(*args: object, _name: str = name, _call: object = original, **options: object) -> object:
            calls.append(_name)
            return _call(*args, **options)  # type: ignore[operator]

        setattr(state, name, counted)
    await dashboard.get("/timeline")
    # The third is for runs that made up for missed ticks.
    assert {name: calls.count(name) for name in set(calls)} == {
        "find_runs": 2,
        "find_missed": 1,
        "figures": 1,
        "states": 1,
    }


async def test_earlier_later_and_any_other_time(crons: Crons, dashboard: AsyncClient, clock: VirtualClock) -> None:
    crons.cron("0 * * * *", name="hourly")(nothing)
    await crons.start()
    await clock.advance(crons, seconds=7_200)
    page = Page(await dashboard.get("/timeline", params={"zoom": "6h", "q": "hour"}))
    earlier = parse_qs(urlsplit(page.link("← Earlier")).query)
    assert earlier == {"zoom": ["6h"], "q": ["hour"], "at": ["2026-02-28T23:00:00Z"], "page": ["1"]}
    past = Page(await dashboard.get("/timeline", params={"zoom": "1h", "at": "2026-03-01T01:00"}))
    assert [words for _, words in past.links if "completed: Sun 01 Mar 01:00:00" in words]
    assert urlsplit(past.link("Now")).query == "zoom=1h"
    ahead = Page(await dashboard.get("/timeline", params={"zoom": "1h", "at": "2026-03-09"}))
    assert [words for _, words in ahead.links if words.startswith("Mon 09 Mar 00:00:00 UTC: planned")]
    for wrong in ("yesterday-ish", "0001-01-01", "9999-12-31T23:59", "<b>"):
        refused = Page(await dashboard.get("/timeline", params={"at": wrong}), 422)
        assert "give a date and a time" in refused.text


async def test_times_of_a_lane_say_their_zone(make_crons: MakeCrons, clock: VirtualClock) -> None:
    crons = make_crons(timezone="Europe/Berlin")
    crons.cron("0 0 * * *", name="nightly")(nothing)
    crons.cron("* * * * * *", name="often")(nothing)
    await crons.start()
    async with Dashboard(crons) as pages:
        page = await pages.get("/timeline?zoom=2d&at=2026-03-29T12:00")
    titles = [words for _, words in page.links if "planned" in words]
    assert "Sun 29 Mar 00:00:00 CET: planned" in titles
    assert "Mon 30 Mar 00:00:00 CEST: planned" in titles
    assert any(title.startswith("Sat 28 Mar 11:00:00 CET – Mon 30 Mar 12:00:00 CEST: ") for title in titles)
    assert {each["data-zone"] for each in page.all("span") if "data-zone" in each} == {"Europe/Berlin"}


async def test_lanes_stand_in_the_order_of_the_table_of_jobs(crons: Crons, pages: Dashboard) -> None:
    for name in ("b", "C", "a", ODD, "A"):
        crons.cron("0 * * * *", name=name)(nothing)
    await crons.start()
    table = [row[1] for row in (await pages.get("")).rows]
    lanes = [
        str(lane["aria-label"]).rpartition(": ")[0] for lane in (await pages.get("/timeline")).all("svg", class_="lane")
    ]
    assert lanes == table == ["A", "a", ODD, "b", "C"]


async def test_error_types_are_for_those_who_may_see_details(
    crons: Crons, dashboard: AsyncClient, clock: VirtualClock
) -> None:
    @crons.cron("*/20 * * * *", name="job")
    async def job() -> None:
        raise ValueError("a secret error")

    await crons.start()
    await clock.advance(crons, seconds=1_200)
    mine = Page(await dashboard.get("/timeline?zoom=6h"))
    stranger = Page(await dashboard.get("/timeline?zoom=6h", headers=STRANGER))
    assert [words for _, words in mine.links if words.startswith("failed (ValueError): ")]
    assert [words for _, words in stranger.links if words.startswith("failed: ")]
    assert "You may only look" in stranger.text
    assert list(stranger.all("form", method="post")) == []


async def test_without_jobs_it_says_what_to_do(crons: Crons, dashboard: AsyncClient) -> None:
    await crons.start()
    assert "No jobs yet" in Page(await dashboard.get("/timeline?zoom=6h")).text


async def test_a_tick_after_the_window_is_not_drawn_in_it(
    crons: Crons, dashboard: AsyncClient, clock: VirtualClock
) -> None:
    crons.cron("0 23 * * *", name="daily")(nothing)
    await crons.start()

    async def planned(at: str) -> int:
        page = Page(await dashboard.get("/timeline", params={"zoom": "1h", "at": at}))
        return len(list(page.all("rect", class_="planned"))) - 1  # the last one is the legend's

    assert await planned("2026-02-28T12:00") == await planned("2026-03-10T12:00") == 0
    assert await planned("2026-03-10T23:00") == 1
