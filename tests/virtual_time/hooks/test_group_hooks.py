"""Hooks of groups: called for the jobs of their group, and for no others."""

from __future__ import annotations

from typing import Any

import pytest

from fastapi_crons import ConfigurationError, JobGroup, SkipRun
from fastapi_crons.testing import VirtualClock
from tests.conftest import MakeCrons
from tests.support import nothing, runs_of


async def fails() -> None:
    raise ValueError("no")


class Log(list[tuple[str, str]]):
    """What hooks were called for."""

    def hook(self, label: str) -> Any:
        def hook(job_name: str, context: dict[str, Any]) -> None:
            self.append((label, job_name))

        return hook


async def test_hooks_are_for_the_jobs_of_the_group_and_of_the_groups_in_it(
    make_crons: MakeCrons, clock: VirtualClock
) -> None:
    log, crons = Log(), make_crons()
    inner, outer = JobGroup(prefix="i."), JobGroup(prefix="o.")
    inner.cron("0 * * * *", name="a")(nothing)
    inner.cron("0 * * * *", name="b")(fails)
    outer.cron("0 * * * *", name="a")(nothing)
    crons.cron("0 * * * *", name="a")(nothing)
    crons.cron("0 * * * *", name="b")(fails)
    outer.include(inner)
    outer.add_before_run_hook(log.hook("before outer"))
    inner.add_after_run_hook(log.hook("after inner"))
    inner.add_after_run_hook(log.hook("after inner a"), job_name="a")
    outer.add_after_run_hook(log.hook("after outer's inner a"), job_name="i.a")
    decorated = inner.add_on_error_hook(job_name="b")(log.hook("error inner b"))
    assert callable(decorated)
    crons.include(outer, prefix="x.")
    await crons.start()
    await clock.advance(crons, hours=1)
    assert sorted(log) == [
        ("after inner", "x.o.i.a"),
        ("after inner a", "x.o.i.a"),
        ("after outer's inner a", "x.o.i.a"),
        ("before outer", "x.o.a"),
        ("before outer", "x.o.i.a"),
        ("before outer", "x.o.i.b"),
        ("error inner b", "x.o.i.b"),
    ]


async def test_a_group_that_is_included_twice_has_its_hooks_for_both(
    make_crons: MakeCrons, clock: VirtualClock
) -> None:
    log, crons, other = Log(), make_crons(), make_crons()
    group = JobGroup()
    group.cron("0 * * * *", name="a")(nothing)
    group.add_after_run_hook(log.hook("one"), job_name="a")
    group.add_after_run_hook(log.hook("all"))
    crons.include(group, prefix="x.")
    crons.include(group, prefix="y.")
    other.include(group)
    other.cron("0 * * * *", name="x.a")(nothing)
    await crons.start()
    await other.start()
    await clock.advance(crons, other, hours=1)
    assert sorted(log) == [(label, job) for label in ("all", "one") for job in ("a", "x.a", "y.a")]


async def test_a_hook_of_a_group_may_veto_its_jobs(make_crons: MakeCrons, clock: VirtualClock) -> None:
    crons, group = make_crons(), JobGroup(prefix="g.")

    @group.add_before_run_hook
    async def veto(job_name: str, context: dict[str, Any]) -> None:
        raise SkipRun("a holiday")

    group.cron("0 * * * *", name="a")(nothing)
    crons.cron("0 * * * *", name="a")(nothing)
    crons.include(group)
    await crons.start()
    await clock.advance(crons, hours=1)
    assert [run.status for run in await runs_of(crons, "g.a") + await runs_of(crons, "a")] == ["cancelled", "completed"]


@pytest.mark.parametrize("job_name", ["g.a", "b", "other"])
async def test_a_hook_for_a_job_that_the_group_does_not_have_stops_the_start(
    make_crons: MakeCrons, clock: VirtualClock, job_name: str
) -> None:
    crons, group, log = make_crons(), JobGroup(prefix="g."), Log()
    group.cron("0 * * * *", name="a")(nothing)
    crons.cron("0 * * * *", name="g.other")(nothing)
    group.add_before_run_hook(log.hook("?"), job_name=job_name)
    crons.include(group)
    with pytest.raises(ConfigurationError, match=f"'g.{job_name}'; check job_name, which for a hook of a group is"):
        await crons.start()


async def test_groups_are_included_and_grow_while_the_scheduler_runs(
    make_crons: MakeCrons, clock: VirtualClock
) -> None:
    log, crons, group = Log(), make_crons(), JobGroup(prefix="g.")
    group.cron("0 * * * *", name="a")(nothing)
    group.add_before_run_hook(log.hook("before"))
    group.add_before_run_hook(log.hook("before b"), job_name="b")
    await crons.start()
    await clock.advance(crons, minutes=30)
    with pytest.raises(ConfigurationError, match=r"'g\.b'"):
        crons.include(group)
    assert (list(crons.jobs), crons.plugins.added()) == ([], [])
    group.cron("0 * * * *", name="b")(nothing)
    crons.include(group)
    await clock.advance(crons, hours=1)
    assert sorted(log) == [("before", "g.a"), ("before", "g.b"), ("before b", "g.b")]
    log.clear()
    group.cron("45 * * * *", name="c")(nothing)
    group.add_after_run_hook(log.hook("after"))
    with pytest.raises(ConfigurationError, match=r"'g\.d'"):
        group.add_after_run_hook(log.hook("after d"), job_name="d")
    await clock.advance(crons, minutes=30)
    assert [(label, name) for label, name in log if name == "g.c"] == [("before", "g.c"), ("after", "g.c")]
    log.clear()
    crons.jobs.remove("g.c")
    crons.cron("10 * * * *", name="g.c")(nothing)
    await clock.advance(crons, minutes=15)
    assert log == [], "a job of that name that is not the group's"
