"""What the log says of runs: which run it was, in a form that finds it again, and the traceback of one that failed."""

from __future__ import annotations

import asyncio
import io
import logging
import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastapi_crons import UnknownRunError, hookimpl
from fastapi_crons.management.management import Management
from fastapi_crons.run import RETRY_LOGGER, RunIds, short_id
from fastapi_crons.testing import VirtualClock
from tests.conftest import MakeCrons
from tests.support import nothing, runs_of


def _fail() -> None:
    raise ValueError("no answer of the\npartner")


def _formatted(caplog: pytest.LogCaptureFixture) -> str:
    """What a handler with the usual formatter writes."""
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    for record in caplog.records:
        if record.name == "fastapi_crons.runner":
            handler.handle(record)
    return out.getvalue()


async def test_a_failed_run_is_logged_with_its_traceback_and_its_id(
    make_crons: MakeCrons, caplog: pytest.LogCaptureFixture
) -> None:
    crons = make_crons()
    crons.cron("0 0 1 1 *", name="report")(_fail)
    await crons.start()
    run = await crons.run_job("report")
    (first, *traceback) = _formatted(caplog).splitlines()
    assert first == f"ERROR job 'report' failed (run {run.id[-8:]}): ValueError: no answer of the\\npartner"
    assert traceback[0] == "  Traceback (most recent call last):"
    assert "in _fail" in traceback[1]
    assert "test_failed_runs_in_the_log.py" in traceback[1]
    assert traceback[-2:] == ["  ValueError: no answer of the", "  partner"]
    assert not any("runner.py" in line or "invocation.py" in line for line in traceback)
    assert run.error is not None
    assert "runner.py" not in run.error.traceback


@pytest.mark.parametrize("how", ["full", "short", "off"])
async def test_tracebacks_in_the_log_can_be_shortened(
    make_crons: MakeCrons, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    crons = make_crons(log_tracebacks=how)

    async def outer() -> None:
        _fail()

    crons.cron("0 0 1 1 *", name="report")(outer)
    await crons.start()
    run = await crons.run_job("report")
    said = _formatted(caplog).splitlines()
    frames = [line for line in said if line.startswith('    File "')]
    assert len(frames) == {"full": 2, "short": 1, "off": 0}[how]
    assert ("in _fail" in said[-4]) if how != "off" else len(said) == 1
    assert run.error is not None
    assert "in outer" in run.error.traceback


async def test_the_traceback_in_the_log_is_the_redacted_one(
    make_crons: MakeCrons, caplog: pytest.LogCaptureFixture
) -> None:
    class Redactor:
        @hookimpl
        def redact(self, job_name: str, field: str, value: str) -> str:
            return value.replace("hunter2", "[hidden]")

    crons = make_crons()
    crons.plugins.register(Redactor())

    def leak() -> None:
        raise ValueError("password hunter2 was refused")

    crons.cron("0 0 1 1 *", name="leak")(leak)
    await crons.start()
    await crons.run_job("leak")
    assert "password [hidden] was refused" in _formatted(caplog)
    assert "ValueError: password [hidden] was refused" in (caplog.records[-1].exc_text or "")
    assert not any(record.exc_info for record in caplog.records)


async def test_every_line_about_a_run_says_which_run(
    make_crons: MakeCrons, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    crons = make_crons()
    crons.cron("0 0 1 1 *", name="fine")(nothing)
    crons.cron("0 0 1 1 *", name="bad", max_retries=1)(_fail)
    crons.add_on_error_hook(lambda job, context: 1 / 0)
    await crons.start()
    caplog.clear()
    fine, failing = await crons.run_job("fine"), asyncio.ensure_future(crons.run_job("bad"))
    await clock.advance(crons, seconds=5)
    bad = await failing
    about = [record for record in caplog.records if getattr(record, "run_id", None)]
    assert len(about) == 4
    for record in about:
        run = fine if record.__dict__["job"] == "fine" else bad
        assert record.__dict__["run_id"] == run.id
        assert f"(run {short_id(run.id)})" in record.getMessage()


@given(st.lists(st.floats(0, 0.002), min_size=1, max_size=300), st.integers(0, 2**32))
def test_ids_sort_by_time_and_their_ends_tell_them_apart(steps: list[float], seed: int) -> None:
    now = 1_700_000_000.0
    new_id = RunIds(lambda: now)
    new_id._randbits = random.Random(seed).getrandbits
    ids = []
    for step in steps:
        now += step
        ids.append(new_id())
    assert ids == sorted(ids)
    assert len(set(ids)) == len(ids)
    assert all(len(run_id) == 36 and run_id[14] == "7" and run_id[19] in "89ab" for run_id in ids)
    # Those of one millisecond for certain; others differ by chance.
    for first, second in pairwise(ids):
        if first[:13] == second[:13]:
            assert short_id(first) != short_id(second)


async def test_a_run_is_found_by_either_end_of_its_id(make_crons: MakeCrons, clock: VirtualClock) -> None:
    crons = make_crons()
    crons.cron("* * * * *", name="often")(nothing)
    crons.cron("* * * * *", name="other")(nothing)
    await crons.start()
    await clock.advance(crons, minutes=30)
    runs, management = await runs_of(crons, "often"), Management(crons)
    for run in runs:
        ends = (run.id[-8:], run.id[-8:].upper(), run.id[-12:], run.id.replace("-", "")[-20:], run.id[:20], run.id)
        for given_id in ends:
            assert (await management.run("often", given_id)).id == run.id, given_id
        assert (await management.find_run(short_id(run.id))).id == run.id
        with pytest.raises(UnknownRunError, match="job 'other' has no run"):
            await management.run("other", short_id(run.id))
    with pytest.raises(UnknownRunError, match=r"matches 30 runs: .* and 27 more; give more of the id"):
        await management.run("often", runs[0].id[:6])
    for too_short in ("", "7", "abc"):
        with pytest.raises(UnknownRunError, match="too short for a run's id; give at least 4 characters"):
            await management.run("often", too_short)


async def test_a_run_that_goes_on_is_found_and_cancelled_by_the_end_of_its_id(
    make_crons: MakeCrons, clock: VirtualClock
) -> None:
    crons = make_crons()

    @crons.cron("* * * * *", name="long")
    async def long() -> None:
        await clock.sleep(1000)

    await crons.start()
    await clock.advance(crons, minutes=1)
    (run,) = await runs_of(crons, "long")
    assert await Management(crons).cancel_run("long", run.id[-8:]) == run.id
    await clock.advance(crons, seconds=1)
    assert [run.status for run in await runs_of(crons, "long")] == ["cancelled"]


async def test_a_run_says_in_its_own_log_how_each_attempt_but_the_last_ended(
    make_crons: MakeCrons, clock: VirtualClock
) -> None:
    crons = make_crons()
    tries = 0

    @crons.cron("0 0 1 1 *", name="report", max_retries=2, retry_delay=1, timeout=5)
    async def report() -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            await clock.sleep(60)
        raise ValueError("no answer of the\npartner")

    await crons.start()
    started = asyncio.create_task(crons.run_job("report"))
    await clock.advance(crons, minutes=1)
    run = await started
    said = [line.message.partition("; the next one follows in")[0] for line in run.log if line.logger == RETRY_LOGGER]
    assert said == [
        "attempt 1 failed: TimeoutError: did not end within its time limit of 5 s",
        "attempt 2 failed: ValueError: no answer of the\\npartner",
    ]
