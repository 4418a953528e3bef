"""Hooks: when they are called, what they are told, and which job they are for."""

from __future__ import annotations

import functools
import json
from collections.abc import Coroutine
from typing import Any

import pytest
from typing_extensions import assert_type

from fastapi_crons import ConfigurationError, SkipRun, hookimpl
from fastapi_crons.testing import VirtualClock
from tests.conftest import MakeCrons
from tests.support import missed_of, runs_of
from tests.virtual_time.hooks.functions import Context, ok

DOCUMENTED = {
    "job_name": str,
    "tags": list,
    "expr": str,
    "instance_id": str,
    "manual_trigger": bool,
    "triggered_by": str,
    "start_time": str,
    "end_time": str,
    "duration": float,
    "success": bool,
}


async def _broken() -> None:
    raise ValueError("no rows")


async def test_hooks_are_told_what_is_documented(make_crons: MakeCrons, clock: VirtualClock) -> None:
    crons = make_crons()
    seen: dict[str, Context] = {}
    crons.cron("0 * * * *", name="ok", tags=["a", "b"])(ok)
    crons.cron("0 * * * *", name="broken")(_broken)
    crons.add_before_run_hook(lambda job, context: seen.setdefault(f"before {job}", context))
    crons.add_after_run_hook(lambda job, context: seen.setdefault(f"after {job}", context))
    crons.add_on_error_hook(lambda job, context: seen.setdefault(f"error {job}", context))
    await crons.start()
    await clock.advance(crons, hours=1)
    assert set(seen) == {"before ok", "before broken", "after ok", "error broken"}
    for context in seen.values():
        json.dumps(context)
        assert set(context) == set(seen["after ok"])
    after, error, before = seen["after ok"], seen["error broken"], seen["before ok"]
    for key, kind in DOCUMENTED.items():
        assert isinstance(after[key], kind), key
    assert (after["result"], after["error"], after["success"]) == ({"rows": 3}, None, True)
    assert (error["result"], error["error"], error["success"]) == (None, "no rows", False)
    assert (before["end_time"], before["duration"], before["success"]) == (None, None, None)
    assert (after["manual_trigger"], after["triggered_by"], after["trigger_time"]) == (False, "schedule", None)
    assert after["scheduled_time"] == "2026-03-01T01:00:00+00:00"
    assert (after["tags"], after["expr"]) == (["a", "b"], "0 * * * *")


async def test_every_kind_of_hook_is_called(make_crons: MakeCrons) -> None:
    crons = make_crons()
    called: list[str] = []

    class Hooks:
        def method(self, job: str, context: Context) -> None:
            called.append("method")

        async def __call__(self, job: str, context: Context) -> None:
            called.append("callable object")

    async def coroutine(label: str, job: str, context: Context) -> None:
        called.append(label)

    crons.cron("0 0 1 1 *", name="job")(ok)
    crons.add_after_run_hook(Hooks().method)
    crons.add_after_run_hook(Hooks())
    crons.add_after_run_hook(functools.partial(coroutine, "partial"))
    crons.add_after_run_hook(lambda job, context: coroutine("lambda", job, context))
    crons.add_after_run_hook(Hooks().method)
    await crons.start()
    await crons.run_job("job")
    assert called == ["method", "callable object", "partial", "lambda", "method"]


async def test_a_hook_can_be_for_one_job(make_crons: MakeCrons) -> None:
    crons = make_crons()
    called: list[str] = []
    crons.add_before_run_hook(lambda job, context: called.append(job), job_name="one")
    for name in ("one", "two"):
        crons.cron("0 0 1 1 *", name=name)(ok)
    await crons.start()
    for name in ("one", "two"):
        await crons.run_job(name)
    assert called == ["one"]


async def test_hooks_are_added_by_decorator_for_all_jobs_or_for_one(make_crons: MakeCrons) -> None:
    crons = make_crons()
    called: list[str] = []

    @crons.add_before_run_hook
    def before(job: str, context: Context) -> None:
        called.append(f"before {job}")

    @crons.add_after_run_hook(job_name="one")
    async def after(job: str, context: Context) -> None:
        called.append(f"after {job}")

    @crons.add_after_run_hook()
    @crons.add_on_error_hook(job_name="broken")
    async def ended(job: str, context: Context) -> None:
        called.append(f"ended {job}")

    # They are what they were, for mypy too.
    assert_type(before("x", {}), None)
    assert_type(ended("y", {}), Coroutine[Any, Any, None]).close()
    assert crons.add_on_error_hook(before, "one") is before
    called.clear()
    crons.cron("0 0 1 1 *", name="one")(ok)
    crons.cron("0 0 1 1 *", name="broken")(_broken)
    await crons.start()
    await crons.run_job("one")
    await crons.run_job("broken")
    assert called == ["before one", "after one", "ended one", "before broken", "ended broken"]


async def test_a_hook_for_a_job_that_does_not_exist_stops_the_start(make_crons: MakeCrons) -> None:
    crons = make_crons()
    crons.add_before_run_hook(lambda job, context: None, job_name="tyop")
    with pytest.raises(ConfigurationError, match="'tyop'"):
        await crons.start()
    assert not crons.running


async def test_each_hook_gets_a_context_of_its_own(make_crons: MakeCrons) -> None:
    crons = make_crons()
    sizes: list[tuple[int, int]] = []

    def spoil(job: str, context: Context) -> str:
        sizes.append((len(context), len(context["tags"])))
        context["tags"].clear()
        context.clear()
        return "junk"

    crons.cron("0 0 1 1 *", name="job", tags=["a"])(ok)
    crons.add_before_run_hook(spoil)
    crons.add_before_run_hook(spoil)
    await crons.start()
    assert (await crons.run_job("job")).status == "completed"
    assert sizes[0] == sizes[1]


async def test_a_before_hook_can_veto_a_run(make_crons: MakeCrons, clock: VirtualClock) -> None:
    crons = make_crons()
    ran, skipped = [], []

    class Plugin:
        @hookimpl
        def run_skipped(self, context: Context) -> None:
            skipped.append((context["reason"], context["detail"]))

    async def veto(job: str, context: Context) -> None:
        raise SkipRun("maintenance window")

    crons.plugins.register(Plugin())
    crons.cron("0 * * * *", name="job")(lambda: ran.append(1))
    crons.add_before_run_hook(veto)
    await crons.start()
    await clock.advance(crons, hours=1)
    assert ran == []
    assert [run.status for run in await runs_of(crons, "job")] == ["cancelled"]
    (missed,) = await missed_of(crons, "job")
    assert (missed.reason, missed.detail) == ("vetoed", "maintenance window")
    await clock.settle(crons)
    assert skipped == [("vetoed", "maintenance window")]


async def test_a_hook_for_a_job_that_does_not_exist_is_refused_while_running(make_crons: MakeCrons) -> None:
    crons = make_crons()
    crons.cron("0 0 1 1 *", name="job")(ok)
    await crons.start()
    for add in (crons.add_before_run_hook, crons.add_after_run_hook, crons.add_on_error_hook):
        add(lambda job, context: None, "job")
        with pytest.raises(ConfigurationError, match="'jbo'"):
            add(lambda job, context: None, "jbo")
    assert {added.job_name for added in crons.plugins.added()} == {"job"}


async def test_hooks_share_nothing_of_a_result(make_crons: MakeCrons) -> None:
    crons = make_crons()
    seen: list[Any] = []

    def spoils(job: str, context: Context) -> None:
        seen.append(context["result"]["rows"].copy())
        context["result"]["rows"].clear()

    crons.cron("0 0 1 1 *", name="job")(lambda: {"rows": [1, 2]})
    crons.add_after_run_hook(spoils)
    crons.add_after_run_hook(spoils)
    await crons.start()
    await crons.run_job("job")
    assert seen == [[1, 2], [1, 2]]
