"""Plugins while a scheduler starts and runs."""

from __future__ import annotations

from typing import Any

import pytest

from fastapi_crons import Crons, PluginError, hookimpl
from tests.conftest import Install, MakeCrons


async def test_a_broken_plugin_stops_the_start_and_no_weaker_lock_takes_the_place_of_its_own(install: Install) -> None:
    install("import nothing_of_that_name")
    crons = Crons()
    with pytest.raises(PluginError, match="'acme'"):
        await crons.start()
    assert not crons.running


async def test_hooks_are_called_in_the_order_that_is_documented(make_crons: MakeCrons) -> None:
    crons, called = make_crons(), []

    def plugin(label: str, *, tryfirst: bool = False, trylast: bool = False) -> object:
        class Plugin:
            @hookimpl(tryfirst=tryfirst, trylast=trylast)
            def after_run(self) -> None:
                called.append(label)

        return Plugin()

    crons.plugins.register(plugin("trylast", trylast=True))
    crons.add_after_run_hook(lambda job, context: called.append("added first"))
    crons.plugins.register(plugin("earlier"))
    crons.plugins.register(plugin("tryfirst", tryfirst=True))
    crons.plugins.register(plugin("later"))
    crons.add_after_run_hook(lambda job, context: called.append("added last"))
    crons.cron("0 0 1 1 *", name="job")(lambda: None)
    await crons.start()
    await crons.run_job("job")
    assert called == ["tryfirst", "later", "earlier", "trylast", "added first", "added last"]


async def test_hooks_about_runs_and_ticks_are_given_the_scheduler(make_crons: MakeCrons) -> None:
    crons, given = make_crons(), []

    class Plugin:
        @hookimpl
        async def before_run(self, crons: Crons) -> None:
            given.append(crons)

        @hookimpl
        def run_scope(self, crons: Crons) -> None:
            given.append(crons)

        @hookimpl
        async def after_run(self, job_name: str, context: dict[str, Any], crons: Crons) -> None:
            given.append(crons)
            # What ran before is on record, and this run need not be yet.
            assert [run.status for run in await crons.runs(job_name, before=context["run_id"])] == ["completed"] * first

    first = 0
    crons.plugins.register(Plugin())
    crons.add_after_run_hook(lambda job, crons: given.append(crons))
    crons.add_after_run_hook(lambda job, context, more=None: given.append(more))
    crons.cron("0 0 1 1 *", name="job")(lambda: None)
    await crons.start()
    await crons.run_job("job")
    first = 1
    await crons.run_job("job")
    assert given == [crons, crons, crons, crons, None] * 2
    assert crons.engine is not None
    assert crons.engine.hooks.failures == 0
    assert [run.status for run in await crons.runs(None, status="completed")] == ["completed"] * 2
