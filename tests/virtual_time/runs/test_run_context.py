"""What a job finds in its context, and what is kept of its log."""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import threading
from datetime import datetime, timezone
from typing import Any

import pytest

from fastapi_crons import CronJob, JobContext, JobDefinitionError
from fastapi_crons.testing import VirtualClock
from tests.conftest import MakeCrons
from tests.support import kept_of, runs_of


@pytest.mark.parametrize("sync", [False, True])
async def test_a_job_may_ask_for_its_context(make_crons: MakeCrons, clock: VirtualClock, sync: bool) -> None:
    seen: list[JobContext] = []
    crons = make_crons()

    async def on_the_loop(context: JobContext) -> None:
        seen.append(context)

    def in_a_thread(*, context: JobContext) -> None:
        seen.append(context)

    crons.cron("0 * * * *", name="job", tags=["a"])(in_a_thread if sync else on_the_loop)
    await crons.start()
    await clock.advance(crons, hours=1)
    (context,) = seen
    (run,) = await runs_of(crons, "job")
    assert (context.job, context.attempt, context.run_id) == ("job", 1, run.id)
    assert context.tick == datetime(2026, 3, 1, 1, tzinfo=timezone.utc)
    assert context.fencing_token == run.token > 0
    assert (context["job_name"], context["tags"], context["fencing_token"]) == ("job", ["a"], run.token)
    assert context["scheduled_time"] == "2026-03-01T01:00:00+00:00"
    json.dumps(dict(context))


async def test_each_attempt_sees_its_number_and_a_manual_run_has_no_tick(
    make_crons: MakeCrons, clock: VirtualClock
) -> None:
    seen: list[tuple[int, datetime | None]] = []
    crons = make_crons()

    @crons.cron("0 * * * *", name="job", max_retries=2)
    async def job(context: JobContext) -> None:
        seen.append((context.attempt, context.tick))
        raise ConnectionError

    await crons.start()
    asked = asyncio.create_task(crons.run_job("job"))
    await clock.advance(crons, minutes=1)
    assert (await asked).status == "failed"
    assert seen == [(1, None), (2, None), (3, None)]


def test_a_function_that_needs_arguments_is_refused_at_once() -> None:
    def needs(path: str, *, mode: int, context: object, size: int = 3) -> None: ...

    with pytest.raises(JobDefinitionError, match="no value is given for parameters 'path' and 'mode'; give kwargs=…"):
        CronJob(needs, "* * * * *")
    with pytest.raises(JobDefinitionError, match="no value is given for parameter 'mode'"):
        CronJob(functools.partial(needs, "here"), "* * * * *")
    CronJob(functools.partial(needs, "here", mode=1), "* * * * *")
    CronJob(functools.partial(needs, "here", mode=1, context=None), "* * * * *")


async def test_what_a_run_logs_comes_back_with_its_history(make_crons: MakeCrons, clock: VirtualClock) -> None:
    app = logging.getLogger("my.app")
    crons = make_crons()

    @crons.cron("0 * * * *", name="async")
    async def on_the_loop(context: JobContext) -> None:
        app.warning("step %d\nof many", 1)
        await asyncio.create_task(_helper())
        context.logger.info("by the context's logger")
        context.logger.debug("too fine")
        print("left alone")

    async def _helper() -> None:
        app.error("in a task of the job's")

    @crons.cron("0 * * * *", name="sync")
    def in_a_thread() -> None:
        try:
            raise ValueError("inside")
        except ValueError:
            app.exception("in %s", threading.current_thread().name.rstrip("-0123456789"))

    await crons.start()
    app.warning("outside of any run")
    await clock.advance(crons, hours=1)
    on_loop, in_thread = await kept_of(crons, "async"), await kept_of(crons, "sync")
    assert [(line.level, line.logger, line.message) for line in on_loop.log] == [
        ("WARNING", "my.app", "step 1\nof many"),
        ("ERROR", "my.app", "in a task of the job's"),
        ("INFO", "fastapi_crons.job", "by the context's logger"),
    ]
    (line,) = in_thread.log
    assert line.message.startswith("in fastapi-crons-job\nTraceback")
    assert line.message.endswith("ValueError: inside")


async def test_the_newest_lines_of_a_long_log_are_kept(make_crons: MakeCrons) -> None:
    crons = make_crons(max_log_chars=1_000)

    @crons.cron("0 0 1 1 *", name="job")
    def job() -> None:
        for number in range(1_000):
            logging.getLogger("chatty").warning("line %04d", number)
        logging.getLogger("chatty").warning("x" * 100_000)
        logging.getLogger("chatty").warning("wrong %d", "argument")

    await crons.start()
    await crons.run_job("job")
    run = await kept_of(crons)
    assert 100 <= sum(len(line.message) for line in run.log) <= 1_000
    assert run.log_dropped == 1_002 - len(run.log)
    assert run.log[-2].message.endswith("(100000 characters)")
    assert "with arguments that do not fit" in run.log[-1].message


async def test_nothing_is_captured_where_nothing_is_to_be_kept(make_crons: MakeCrons) -> None:
    crons = make_crons(max_log_chars=0)
    crons.cron("0 0 1 1 *", name="job")(lambda: logging.getLogger("app").warning("line"))
    await crons.start()
    await crons.run_job("job")
    assert (await kept_of(crons)).log == ()


async def test_log_lines_are_single_lines_with_their_facts_as_fields(
    make_crons: MakeCrons, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    crons = make_crons()
    crons.cron("0 * * * *", name="bad")(_raises_lines)
    crons.add_before_run_hook(_raises_lines_in_a_hook)
    await crons.start()
    with caplog.at_level(logging.INFO, "fastapi_crons"):
        await clock.advance(crons, hours=1)
    ours = [record for record in caplog.records if record.name.startswith("fastapi_crons")]
    assert len(ours) >= 2
    assert not any("\n" in record.getMessage() or "\r" in record.getMessage() for record in ours)
    assert not any(record.exc_info for record in ours)
    (run,) = await runs_of(crons, "bad")
    fields: dict[str, Any] = next(vars(record) for record in ours if getattr(record, "run_id", None))
    assert (fields["job"], fields["run_id"], fields["tick"], fields["attempt"]) == (
        "bad",
        run.id,
        "2026-03-01T01:00:00+00:00",
        1,
    )


def _raises_lines() -> None:
    raise ValueError("first\r\nERROR forged line\u2028more")


def _raises_lines_in_a_hook(job: str, context: dict[str, Any]) -> None:
    raise ValueError("first\nERROR forged line")


async def test_logging_inside_a_run_never_fails_because_it_is_kept(make_crons: MakeCrons) -> None:
    class Hostile:
        def __str__(self) -> str:
            raise RuntimeError("no text")

        __repr__ = __str__

    crons = make_crons()

    @crons.cron("0 0 1 1 *", name="job")
    def job() -> None:
        logging.makeLogRecord({"msg": "from another process", "name": "remote"})
        quiet = logging.getLogger("quiet")
        quiet.propagate = False
        quiet.warning(Hostile())
        quiet.warning(42)

    await crons.start()
    assert (await crons.run_job("job")).status == "completed"
    assert [line.message for line in (await kept_of(crons)).log][-1] == "42"


async def test_the_logger_of_the_context_says_where_and_keeps_what_it_is_given(
    make_crons: MakeCrons, caplog: pytest.LogCaptureFixture
) -> None:
    crons = make_crons()

    @crons.cron("0 0 1 1 *", name="job")
    def job(context: JobContext) -> None:
        context.logger.warning("shown", extra={"mine": 7})
        try:
            raise ValueError("of the job")
        except ValueError:
            context.logger.info("quiet", exc_info=True)
        context.logger.logger.getChild("sub").warning("of a child")

    await crons.start()
    await crons.run_job("job")
    (shown,) = [record for record in caplog.records if record.getMessage() == "shown"]
    assert (shown.funcName, vars(shown)["mine"], vars(shown)["job"]) == ("job", 7, "job")
    assert "quiet" not in caplog.text, "the levels of the app are left alone"
    lines = [line.message for line in (await kept_of(crons)).log]
    assert lines[0] == "shown"
    assert lines[1].startswith("quiet\nTraceback")
    assert lines[2] == "of a child"


async def test_a_record_factory_of_the_apps_own_keeps_working(make_crons: MakeCrons) -> None:
    before = logging.getLogRecordFactory()
    crons = make_crons()
    crons.cron("0 0 1 1 *", name="job")(lambda: logging.getLogger("app").warning("once"))
    await crons.start()
    inner = logging.getLogRecordFactory()
    logging.setLogRecordFactory(lambda *args, **kwargs: inner(*args, **kwargs))
    try:
        await crons.stop()
        await crons.start()
        await crons.run_job("job")
        assert [line.message for line in (await kept_of(crons)).log] == ["once"]
    finally:
        logging.setLogRecordFactory(before)


async def test_empty_lines_count_too(make_crons: MakeCrons) -> None:
    crons = make_crons(max_log_chars=2_000)

    @crons.cron("0 0 1 1 *", name="job")
    def job() -> None:
        for _ in range(5_000):
            logging.getLogger("app").warning("")

    await crons.start()
    await crons.run_job("job")
    run = await kept_of(crons)
    assert len(run.log) < 50
    assert len(run.log) + run.log_dropped == 5_000


async def test_an_error_class_can_not_forge_a_log_line(make_crons: MakeCrons, caplog: pytest.LogCaptureFixture) -> None:
    crons = make_crons()

    def job() -> None:
        raise type("X\nERROR forged", (Exception,), {})("a")

    crons.cron("0 0 1 1 *", name="job")(job)
    await crons.start()
    run = await crons.run_job("job")
    assert run.error is not None
    assert run.error.type == "X\\nERROR forged"
    assert not any("\n" in record.getMessage() for record in caplog.records)
