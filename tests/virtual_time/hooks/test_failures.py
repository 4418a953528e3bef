"""Hooks that fail or hang: none of them can hurt a run, a scheduler or another hook."""

from __future__ import annotations

import asyncio
import logging
import threading

import pytest

from fastapi_crons.run import short_id
from fastapi_crons.testing import VirtualClock
from tests.conftest import MakeCrons
from tests.virtual_time.hooks.functions import Context, ok


@pytest.mark.parametrize(
    "error", [ValueError("no"), SystemExit(1), KeyboardInterrupt(), asyncio.CancelledError()], ids=repr
)
@pytest.mark.parametrize("sync", [True, False])
async def test_a_hook_that_raises_stops_neither_the_job_nor_other_hooks(
    make_crons: MakeCrons, caplog: pytest.LogCaptureFixture, error: BaseException, sync: bool
) -> None:
    crons = make_crons()
    called: list[str] = []

    def bad(job: str, context: Context) -> None:
        raise error

    async def bad_coroutine(job: str, context: Context) -> None:
        raise error

    crons.cron("0 0 1 1 *", name="job")(ok)
    for add in (crons.add_before_run_hook, crons.add_after_run_hook):
        add(bad if sync else bad_coroutine)
        add(lambda job, context: called.append(job))
    await crons.start()
    with caplog.at_level(logging.ERROR, "fastapi_crons"):
        assert (await crons.run_job("job")).status == "completed"
    assert called == ["job", "job"]
    assert "bad" in caplog.text


async def test_a_hook_that_hangs_is_left_behind(make_crons: MakeCrons, caplog: pytest.LogCaptureFixture) -> None:
    crons = make_crons(hook_timeout=0.05)
    let_go = threading.Event()

    async def stubborn(job: str, context: Context) -> None:
        while not let_go.is_set():
            try:
                await asyncio.sleep(0.2)
            except asyncio.CancelledError:
                continue

    crons.cron("0 0 1 1 *", name="job")(ok)
    crons.add_before_run_hook(lambda job, context: let_go.wait())
    crons.add_before_run_hook(stubborn)
    await crons.start()
    assert (await crons.run_job("job")).status == "completed"
    let_go.set()
    assert caplog.text.count("did not end within 0.05 s") == 2
    await asyncio.sleep(0.25)


async def test_hooks_that_hang_starve_no_other_and_are_not_called_for_ever(
    make_crons: MakeCrons, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    crons = make_crons(hook_timeout=0.02)
    let_go, called, healthy = threading.Event(), [], []

    def hangs(job: str, context: Context) -> None:
        called.append(job)
        let_go.wait()

    crons.cron("* * * * *", name="job")(ok)
    crons.add_after_run_hook(hangs)
    crons.add_after_run_hook(lambda job, context: healthy.append(job))
    await crons.start()
    await clock.advance(crons, minutes=12)
    let_go.set()
    assert len(healthy) == 12
    assert len(called) == 4
    assert "is not called: 4 of its calls hang" in caplog.text


async def test_the_time_limit_of_a_hook_begins_when_it_is_called_and_health_names_a_full_pool(
    make_crons: MakeCrons,
) -> None:
    crons = make_crons(hook_timeout=1)
    let_go, ended = threading.Event(), []

    def waits(job: str) -> None:
        let_go.wait(0.6)
        ended.append(job)

    crons.add_after_run_hook(waits)
    for number in range(12):
        crons.cron("0 0 1 1 *", name=f"job {number}")(ok)
    await crons.start()
    engine = crons.engine
    assert engine is not None
    asked = [asyncio.create_task(crons.run_job(job.name)) for job in crons.get_jobs()]
    full = ("the pool of threads for hooks is full, and 4 calls wait: all 8 are taken",)
    while crons.health().findings != full:  # noqa: ASYNC110 - there is no event for it
        await asyncio.sleep(0.01)
    await asyncio.gather(*asked)
    assert (len(ended), engine.hooks.failures) == (12, 0), "none was given up before it was called"


async def test_an_error_class_of_the_apps_own_that_is_named_like_a_veto_is_an_error(make_crons: MakeCrons) -> None:
    crons, heard = make_crons(), []
    mine = type("SkipRun", (Exception,), {})

    async def job() -> None:
        raise mine

    crons.cron("0 0 1 1 *", name="job")(job)
    crons.add_on_error_hook(lambda job, context: heard.append(context["error_type"]))
    await crons.start()
    assert (await crons.run_job("job")).status == "failed"
    assert heard == ["SkipRun"]


async def test_a_complaint_about_a_hook_names_job_and_run(
    make_crons: MakeCrons, caplog: pytest.LogCaptureFixture
) -> None:
    crons = make_crons()

    def fails(job: str, context: Context) -> None:
        raise ValueError("two\nlines")

    crons.cron("0 0 1 1 *", name="job")(ok)
    crons.add_after_run_hook(fails)
    await crons.start()
    run = await crons.run_job("job")
    (record,) = [record for record in caplog.records if "hook after_run" in record.getMessage()]
    assert f"about job 'job' (run {short_id(run.id)}) failed: ValueError: two\\nlines" in record.getMessage()
    assert (vars(record)["job"], vars(record)["run_id"]) == ("job", run.id)
