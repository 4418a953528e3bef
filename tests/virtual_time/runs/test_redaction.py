"""What is kept of a run passes the redaction hook, before anything is cut."""

from __future__ import annotations

import logging
import re
from typing import Any

import pytest

from fastapi_crons import SkipRun, hookimpl
from fastapi_crons.plugins.markers import HookContext
from tests.conftest import MakeCrons
from tests.support import kept_of


class Redacting:
    """Takes a secret out of everything."""

    def __init__(self) -> None:
        self.fields: list[str] = []

    @hookimpl
    def redact(self, job_name: str, field: str, value: str) -> str:
        self.fields.append(field)
        return value.replace("hunter2", "***")


async def test_what_is_kept_passes_the_redaction_hook(make_crons: MakeCrons, caplog: pytest.LogCaptureFixture) -> None:
    crons = make_crons()
    plugin, heard = Redacting(), []
    crons.plugins.register(plugin)
    crons.add_on_error_hook(lambda job, context: heard.append(context["error"]))

    @crons.cron("0 0 1 1 *", name="fails")
    def fails() -> None:
        logging.getLogger("app").warning("connecting with hunter2")
        raise ValueError("wrong password hunter2")

    crons.cron("0 0 1 1 *", name="works")(lambda: {"password": "hunter2"})
    await crons.start()
    await crons.run_job("fails")
    await crons.run_job("works")
    failed, worked = await kept_of(crons, "fails"), await kept_of(crons, "works")
    assert failed.error is not None
    assert failed.error.message == "wrong password ***"
    assert "hunter2" not in failed.error.traceback
    assert [line.message for line in failed.log] == ["connecting with ***"]
    assert worked.result == {"password": "***"}
    assert heard == ["wrong password ***"]
    assert set(plugin.fields) == {"error", "traceback", "log", "result"}
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("fastapi_crons")]
    assert not any("hunter2" in message for message in ours)


async def test_a_redaction_that_fails_keeps_nothing(make_crons: MakeCrons) -> None:
    class Broken:
        @hookimpl
        def redact(self, value: str) -> str:
            raise KeyError("no rule")

    crons = make_crons()
    crons.plugins.register(Broken(), "broken")
    crons.cron("0 0 1 1 *", name="job")(lambda: "secret")
    await crons.start()
    assert (await crons.run_job("job")).status == "completed"
    result = (await kept_of(crons)).result
    assert result == "<not kept: the redact hook of plugin 'broken' failed>"


async def test_a_secret_is_redacted_before_a_long_error_is_cut(make_crons: MakeCrons) -> None:
    crons = make_crons(max_error_chars=100)
    crons.plugins.register(Redacting())

    def job() -> None:
        raise ValueError("x" * 96 + "hunter2")

    crons.cron("0 0 1 1 *", name="job")(job)
    await crons.start()
    run = await crons.run_job("job")
    assert run.error is not None
    assert "hunt" not in run.error.message


async def test_a_secret_is_redacted_before_a_long_line_is_cut(make_crons: MakeCrons) -> None:
    crons = make_crons(max_log_chars=200)
    crons.plugins.register(Redacting())

    @crons.cron("0 0 1 1 *", name="job")
    def job() -> None:
        for _ in range(3):
            logging.getLogger("app").warning("x" * 96 + "hunter2" * 100)

    await crons.start()
    await crons.run_job("job")
    run = await kept_of(crons)
    (line,) = run.log
    assert line.message == "x" * 96 + "****… (396 characters)"
    assert run.log_dropped == 2


class Forgetting:
    """Takes a secret with everything in it that JSON and ASCII would escape out of every text."""

    secret = 'pä"ss\\wörd\nof mine'

    def __init__(self) -> None:
        self.fields: set[str] = set()

    @hookimpl
    def redact(self, field: str, value: str) -> str:
        self.fields.add(field)
        return value.replace(self.secret, "***")


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (Forgetting.secret, "***"),
        (f"it is {Forgetting.secret}!", "it is ***!"),
        (
            [Forgetting.secret, {Forgetting.secret: [Forgetting.secret, 1.5, None]}],
            ["***", {"***": ["***", 1.5, None]}],
        ),
        ({"ä": "ö\n"}, {"ä": "ö\n"}),
    ],
)
async def test_results_are_redacted_as_people_write_them(make_crons: MakeCrons, value: object, kept: object) -> None:
    crons = make_crons()
    crons.plugins.register(Forgetting())
    crons.cron("0 0 1 1 *", name="job")(lambda: value)
    await crons.start()
    await crons.run_job("job")
    assert (await kept_of(crons)).result == kept


async def test_a_redaction_may_look_at_a_result_as_a_whole(make_crons: MakeCrons) -> None:
    class Cards:
        @hookimpl
        def redact(self, value: str) -> str:
            return re.sub(r'"kärtchen": \d+', '"kärtchen": 0', value)

    crons = make_crons()
    crons.plugins.register(Cards())
    crons.cron("0 0 1 1 *", name="job")(lambda: {"kärtchen": 4711, "n": 1})
    await crons.start()
    await crons.run_job("job")
    assert (await kept_of(crons)).result == {"kärtchen": 0, "n": 1}


@pytest.mark.parametrize("before", [190, 200 - 3, 60_000])
async def test_texts_are_redacted_before_they_are_cut(make_crons: MakeCrons, before: int, caplog: Any) -> None:
    crons, plugin = make_crons(max_error_chars=100, max_log_chars=400), Forgetting()
    crons.plugins.register(plugin)
    text = "x" * before + Forgetting.secret

    def refuse(job_name: str, context: HookContext) -> None:
        raise SkipRun(text)

    @crons.cron("0 0 1 1 *", name="fails")
    def fails() -> None:
        logging.getLogger("app").warning(text)
        error = ValueError(text)
        error.__notes__ = [text]  # type: ignore[attr-defined]
        raise error

    crons.cron("0 0 1 1 *", name="vetoed")(lambda: None)
    crons.add_before_run_hook(refuse, job_name="vetoed")
    await crons.start()
    await crons.run_job("fails", note=text)
    await crons.run_job("vetoed")
    await crons.pause("vetoed", note="x" * (before + 800) + Forgetting.secret)
    kept = [await kept_of(crons, "fails"), await kept_of(crons, "vetoed"), await crons.pauses()]
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("fastapi_crons")]
    for told in (str(kept), str(ours)):
        assert "pä" not in told
        assert "p\\xe4" not in told
    assert plugin.fields == {"error", "traceback", "log", "reason", "note"}


async def test_no_half_of_a_secret_comes_into_view_where_redaction_shortens_a_text(make_crons: MakeCrons) -> None:
    class Dropping:
        @hookimpl
        def redact(self, value: str) -> str:
            return value.replace("hunter2", "")

    crons = make_crons()
    crons.plugins.register(Dropping())

    def fails() -> None:
        raise ValueError("hunter2" * 20_000)

    crons.cron("0 0 1 1 *", name="job")(fails)
    await crons.start()
    await crons.run_job("job")
    run = await kept_of(crons)
    assert run.error is not None
    assert "hu" not in run.error.message + run.error.traceback


async def test_why_a_result_is_not_kept_is_redacted_before_it_is_cut(make_crons: MakeCrons) -> None:
    class Refuses:
        def keys(self) -> list[str]:
            return ["a"]

        def __getitem__(self, key: str) -> str:
            raise ValueError("x")

        def __getattribute__(self, name: str) -> object:
            if name == "__dict__":
                raise ValueError("x" * 190 + Forgetting.secret * 3)
            return object.__getattribute__(self, name)

    crons = make_crons()
    crons.plugins.register(Forgetting())
    crons.cron("0 0 1 1 *", name="job")(Refuses)
    await crons.start()
    await crons.run_job("job")
    assert (await kept_of(crons)).result == {"type": "Refuses", "stored": False, "reason": "x" * 190 + "***" * 3}
