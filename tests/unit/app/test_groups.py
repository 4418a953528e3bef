"""JobGroup: what its jobs become in a scheduler, and what is refused."""

from __future__ import annotations

import gc
import itertools
import threading
import types
import weakref
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI
from hypothesis import given, settings
from hypothesis import strategies as st

from fastapi_crons import (
    CronConfig,
    CronJob,
    Crons,
    CronSchedule,
    DuplicateJobError,
    JobDefinitionError,
    JobGroup,
    PluginError,
    ScheduleError,
)
from fastapi_crons.state import MemoryStateBackend
from tests.support import examples


def a() -> None: ...


def b() -> None: ...


def c() -> None: ...


def scheduler(**settings: Any) -> Crons:
    return Crons(state_backend=MemoryStateBackend(), config=CronConfig(**settings))


def names(crons: Crons | JobGroup) -> list[str]:
    return [job.name for job in crons.jobs]


def group_of(*functions: Callable[..., object], **options: Any) -> JobGroup:
    group = JobGroup(**options)
    for function in functions:
        group.cron("0 * * * *")(function)
    return group


def test_a_decorated_function_stays_what_it_was_and_no_scheduler_is_made() -> None:
    group = JobGroup()
    assert group.cron("0 * * * *")(a) is a
    assert names(group) == ["a"]
    assert Crons.current() is None


def test_prefixes_are_joined_tags_added_up_and_the_innermost_option_counts() -> None:
    inner = JobGroup(prefix="billing.", tags=["billing"], timeout=5, timezone="Europe/Berlin")
    inner.cron("0 2 * * *", tags=["night", "billing"], timeout=1, name="invoices")(a)
    inner.cron("0 3 * * *")(b)
    outer = JobGroup(prefix="eu.", tags=["eu"], timeout=9, jitter=3, overlap="queue", max_retries=4, enabled=False)
    outer.include(inner, prefix="north.", tags=["north"])
    outer.cron("0 4 * * *", jitter=0, enabled=True)(a)
    crons = scheduler(default_timeout=77, timezone="Asia/Tokyo", default_retry_delay=8)
    crons.include(outer, prefix="app.", tags=["app"])
    invoices, second, own = crons.jobs
    assert names(crons) == ["app.eu.north.billing.invoices", "app.eu.north.billing.b", "app.eu.a"]
    assert invoices.tags == ("app", "eu", "north", "billing", "night")
    assert (invoices.timeout, invoices.jitter, invoices.overlap, invoices.max_retries) == (1, 3, "queue", 4)
    assert (invoices.schedule_zone, invoices.retry_delay, invoices.enabled) == ("Europe/Berlin", 8, False)
    assert (second.timeout, own.timeout, own.jitter, own.schedule_zone, own.enabled) == (5, 9, 0, "Asia/Tokyo", True)
    assert (invoices.func, own.func) == (a, a)


def test_every_option_of_a_job_can_be_a_default() -> None:
    options: dict[str, Any] = {
        "timezone": "Asia/Tokyo",
        "coalesce": False,
        "misfire_grace_time": 60,
        "overlap": "allow",
        "max_retries": 3,
        "retry_delay": 7,
        "retry_on": iter([OSError]),
        "timeout": 9,
        "jitter": 2,
        "enabled": False,
        "store_result": False,
    }
    group = group_of(a, b, **options)
    crons = scheduler()
    crons.include(group)
    for job in crons.jobs:
        known = {option: getattr(job, option) for option in options}
        assert known == {**options, "retry_on": (OSError,)}


def test_none_is_an_option_that_is_left_out() -> None:
    group = JobGroup(timeout=5, coalesce=None)
    group.cron("0 * * * *", timeout=None, tags=None)(a)
    crons = scheduler(coalesce=False)
    crons.include(group)
    assert (crons.jobs[0].timeout, crons.jobs[0].coalesce, crons.jobs[0].tags) == (5, False, ())


def test_a_zone_is_a_default_for_expressions_only() -> None:
    group = JobGroup(timezone="Asia/Tokyo")
    group.cron(CronSchedule("0 9 * * *", "Europe/Berlin"), name="schedule")(a)
    group.cron("0 9 * * *", name="expression")(a)
    crons = scheduler()
    crons.include(group)
    assert [job.schedule_zone for job in crons.jobs] == ["Europe/Berlin", "Asia/Tokyo"]


PARTS = st.sampled_from(["", "x.", "yy-", "z "])


@given(st.lists(st.tuples(PARTS, PARTS, st.sampled_from([None, 1, 2, 3])), min_size=1, max_size=5), PARTS)
@settings(max_examples=examples(60))
def test_a_chain_of_groups_is_read_from_the_outside_in(chain: list[tuple[str, str, int | None]], last: str) -> None:
    (prefix, _, jitter), *rest = chain
    outermost = innermost = JobGroup(prefix=prefix, tags=[f"t{prefix}"], jitter=jitter or 0.0)
    expected, tags, jitters = prefix, [f"t{prefix}"], [jitter or 0.0]
    for number, (own, between, jitter) in enumerate(rest):
        options: dict[str, Any] = {} if jitter is None else {"jitter": jitter}
        group = JobGroup(prefix=own, tags=[str(number)], **options)
        innermost.include(group, prefix=between)
        innermost, expected = group, f"{expected}{between}{own}"
        tags.append(str(number))
        jitters += [jitter] if jitter is not None else []
    innermost.cron("* * * * *")(a)
    crons = scheduler()
    crons.include(outermost, prefix=last, tags=["last"])
    (job,) = crons.jobs
    assert job.name == f"{last}{expected}a"
    assert job.tags == ("last", *tags)
    assert job.jitter == jitters[-1]


def test_one_group_in_several_schedulers_and_several_times_in_one() -> None:
    group = group_of(a, b, prefix="g.")
    first, second = scheduler(), scheduler(timezone="Asia/Tokyo")
    first.include(group)
    second.include(group, prefix="one.")
    second.include(group, prefix="two.", tags=["two"])
    assert names(first) == ["g.a", "g.b"]
    assert names(second) == ["one.g.a", "one.g.b", "two.g.a", "two.g.b"]
    assert [job.tags for job in second.jobs] == [(), (), ("two",), ("two",)]
    assert (first.jobs[0].schedule_zone, second.jobs[0].schedule_zone) == ("UTC", "Asia/Tokyo")
    assert names(group) == ["g.a", "g.b"], "the group itself stays as it is"


def test_what_is_declared_after_the_inclusion_is_registered_too() -> None:
    inner, outer = JobGroup(prefix="i."), JobGroup(prefix="o.")
    crons, other = scheduler(), scheduler()
    crons.include(outer)
    other.include(outer, prefix="x.")
    outer.include(inner, tags=["late"])
    inner.cron("0 * * * *")(a)
    outer.cron("0 * * * *")(b)
    assert names(crons) == ["o.i.a", "o.b"]
    assert names(other) == ["x.o.i.a", "x.o.b"]
    assert crons.jobs[0].tags == ("late",)


def test_a_clash_registers_nothing_and_names_both_places() -> None:
    crons = scheduler()
    crons.cron("0 * * * *", name="g.b")(c)
    group = group_of(a, b, prefix="g.")
    with pytest.raises(DuplicateJobError) as raised:
        crons.include(group)
    assert names(crons) == ["g.b"]
    assert str(raised.value).count("test_groups.py, line") == 4
    assert "the JobGroup made at test_groups.py, line" in str(raised.value)
    assert "another prefix=" in str(raised.value)
    crons.include(group, prefix="x.")
    assert names(crons) == ["g.b", "x.g.a", "x.g.b"]


def test_the_same_group_twice_without_another_prefix_names_both_inclusions() -> None:
    crons, group = scheduler(), group_of(a)
    crons.include(group)
    with pytest.raises(
        DuplicateJobError, match=r"is included twice under the same names: at .*, and at .* another prefix="
    ):
        crons.include(group)
    assert names(crons) == ["a"]


def test_a_later_job_that_clashes_somewhere_is_registered_nowhere() -> None:
    group, first, second = JobGroup(), scheduler(), scheduler()
    first.include(group)
    second.include(group)
    second.cron("0 * * * *", name="a")(b)
    with pytest.raises(DuplicateJobError):
        group.cron("0 * * * *")(a)
    assert (names(first), names(second), names(group)) == ([], ["a"], [])
    other = group_of(a)
    with pytest.raises(DuplicateJobError):
        group.include(other)
    other.cron("0 * * * *", name="c")(b)
    assert (names(first), names(second), names(group)) == ([], ["a"], [])


def test_names_are_unique_within_a_group() -> None:
    group = group_of(a, prefix="g.")
    with pytest.raises(
        DuplicateJobError, match=r"test_groups:a \(test_groups.py, line \d+\); give the job of .*test_groups:b"
    ):
        group.cron("0 * * * *", name="a")(b)
    inner = group_of(b)
    group.include(inner)
    for again in (inner, group_of(b)):
        with pytest.raises(DuplicateJobError, match=r"test_groups:b \(test_groups.py, line \d+\)"):
            group.include(again)
    assert names(group) == ["g.a", "g.b"]


def test_a_circle_of_groups_is_refused() -> None:
    groups = [group_of(a, prefix=f"{number}.") for number in range(3)]
    groups[0].include(groups[1])
    groups[1].include(groups[2])
    for outer, inner in ((0, 0), (1, 0), (2, 0), (2, 1)):
        with pytest.raises(JobDefinitionError, match="can't include"):
            groups[outer].include(groups[inner])
    assert names(groups[0]) == ["0.a", "0.1.a", "0.1.2.a"]


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"prefix": "a/b"}, JobDefinitionError, "prefix 'a/b' contains '/'"),
        ({"prefix": None}, JobDefinitionError, "prefix must be text, not None"),
        ({"prefix": "x" * 201}, JobDefinitionError, "prefix .* has 201 characters"),
        ({"tags": "billing"}, JobDefinitionError, "tags of a JobGroup must be a list of texts, not 'billing'"),
        ({"tags": [""]}, JobDefinitionError, "tags of a JobGroup must be non-blank"),
        ({"timeout": 0}, JobDefinitionError, "timeout of a JobGroup can't be 0; give seconds"),
        ({"overlap": "wait"}, JobDefinitionError, "overlap of a JobGroup can't be 'wait'; choose one of"),
        ({"max_retries": -1}, JobDefinitionError, "max_retries of a JobGroup can't be -1"),
        ({"retry_on": ["OSError"]}, JobDefinitionError, "retry_on of a JobGroup can't be"),
        ({"kwargs": 3}, JobDefinitionError, "kwargs of a JobGroup can't be 3"),
        ({"run_in": "moon"}, JobDefinitionError, "run_in of a JobGroup can't be 'moon'"),
        ({"timezone": "Mars"}, ScheduleError, "timezone 'Mars' is unknown"),
        ({"timout": 3}, TypeError, "no option 'timout'; it has prefix, tags, and .*timeout"),
        ({"expr": "* * * * *"}, TypeError, "no option 'expr'"),
    ],
)
def test_what_no_job_can_have_is_refused_when_the_group_is_made(
    options: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        JobGroup(**options)


@pytest.mark.parametrize("where", ["crons", "group"])
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"prefix": "a/"}, "prefix 'a/' contains '/'"),
        ({"tags": "eu"}, "must be a list of texts"),
        ({"prefix": 3}, "prefix"),
    ],
)
def test_what_can_not_be_added_at_an_inclusion_is_refused_whole(where: str, options: dict[str, Any], said: str) -> None:
    target = scheduler() if where == "crons" else JobGroup()
    with pytest.raises(JobDefinitionError, match=said):
        target.include(group_of(a), **options)
    assert names(target) == []


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (types, "not the module 'types'"),
        (CronJob(a, "* * * * *"), "not CronJob"),
        (None, "not None"),
        ([], r"not \[\]"),
    ],
)
@pytest.mark.parametrize("where", ["crons", "group"])
def test_only_groups_can_be_included(where: str, given: Any, said: str) -> None:
    with pytest.raises(JobDefinitionError, match=f"only a JobGroup can be included, {said}"):
        (scheduler() if where == "crons" else JobGroup()).include(given)


def test_routers_and_groups_that_are_mixed_up_are_told_where_each_is_included() -> None:
    group = JobGroup()
    with pytest.raises(AttributeError, match=r"a group is included in a scheduler: crons\.include\(group\)"):
        FastAPI().include_router(group)  # type: ignore[arg-type]
    with pytest.raises(JobDefinitionError, match=r"endpoints belong to the app: app\.include_router\(router\)"):
        scheduler().include(APIRouter())  # type: ignore[arg-type]
    with pytest.raises(JobDefinitionError, match=r"give an object of it: JobGroup\(\)"):
        scheduler().include(JobGroup)  # type: ignore[arg-type]
    module = types.ModuleType("jobs")
    vars(module)["billing"] = group
    with pytest.raises(JobDefinitionError, match=r"give the group in it: jobs\.billing"):
        scheduler().include(module)  # type: ignore[arg-type]


def test_a_job_that_can_not_be_is_refused_where_it_is_declared() -> None:
    group = JobGroup(prefix="p" * 150)
    with pytest.raises(ScheduleError):
        group.cron("61 * * * *")(a)
    with pytest.raises(JobDefinitionError, match="250 characters"):
        group.cron("* * * * *", name="n" * 100)(a)
    with pytest.raises(JobDefinitionError, match="write it like"):
        group.cron(a)  # type: ignore[arg-type]
    with pytest.raises(JobDefinitionError, match="no value is given for parameter 'region'"):
        group.cron("* * * * *")(lambda region: region)
    assert names(group) == []
    fine = group_of(a, prefix="p" * 150)
    crons = scheduler()
    with pytest.raises(JobDefinitionError, match="251 characters"):
        crons.include(fine, prefix="q" * 100)
    assert names(crons) == []


def test_a_hook_that_can_not_be_called_is_refused_at_once() -> None:
    group = JobGroup()
    with pytest.raises(PluginError, match="must be callable"):
        group.add_before_run_hook("alert")  # type: ignore[call-overload]
    with pytest.raises(PluginError, match="would get no value"):
        group.add_on_error_hook(lambda job, context, more: None)


def test_a_group_keeps_no_scheduler_alive() -> None:
    group = group_of(a)
    crons = scheduler()
    crons.include(group)
    held = weakref.ref(crons)
    from fastapi_crons.testing import reset

    reset()
    del crons
    gc.collect()
    assert held() is None
    group.cron("0 * * * *")(b)
    assert names(group) == ["a", "b"]


def test_threads_declare_include_and_register_without_losing_a_job() -> None:
    group, crons, numbers = JobGroup(prefix="g."), scheduler(), itertools.count()

    def declare() -> None:
        for _ in range(50):
            group.cron("0 * * * *", name=str(next(numbers)))(a)

    threads = [threading.Thread(target=declare) for _ in range(4)]
    for thread in threads[:2]:
        thread.start()
    crons.include(group)
    for thread in threads[2:]:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(names(crons)) == sorted(f"g.{number}" for number in range(200))


def test_what_a_group_shows() -> None:
    group = group_of(a, prefix="billing.")
    assert repr(group) == "<JobGroup 'billing.' with 1 job>"
    assert isinstance(group.jobs, tuple)
    (job,) = group.jobs
    following = job.schedule.next_after(datetime.fromisoformat("2026-03-01T00:00:00+00:00"))
    assert following is not None
    assert following.utcoffset() == timedelta(0)
