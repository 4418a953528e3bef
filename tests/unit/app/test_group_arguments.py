"""Arguments that a group gives all its jobs."""

from __future__ import annotations

import pytest

from fastapi_crons import Crons, JobDefinitionError, JobGroup
from fastapi_crons.state import MemoryStateBackend


def report(region: str = "all", rows: int = 1) -> None: ...


def takes_none() -> None: ...


def takes_any(**arguments: object) -> None: ...


def arguments_of(crons: Crons | JobGroup) -> dict[str, dict[str, object]]:
    return {job.name: dict(job.kwargs) for job in crons.jobs}


def scheduler() -> Crons:
    return Crons(state_backend=MemoryStateBackend())


def test_arguments_are_joined_by_name_and_the_job_has_the_last_word() -> None:
    group = JobGroup(kwargs={"region": "eu"}, run_in="thread")
    group.cron("0 * * * *", name="default")(report)
    group.cron("0 * * * *", name="none", kwargs={})(report)
    group.cron("0 * * * *", name="more", kwargs={"rows": "7"})(report)
    group.cron("0 * * * *", name="own", kwargs={"region": "us"})(report)
    crons = scheduler()
    crons.include(group)
    assert arguments_of(crons) == {
        "default": {"region": "eu"},
        "none": {"region": "eu"},
        "more": {"region": "eu", "rows": 7},
        "own": {"region": "us"},
    }
    assert {job.run_in for job in crons.jobs} == {"thread"}


def test_of_nested_groups_the_innermost_counts_for_each_argument() -> None:
    inner = JobGroup(prefix="inner.", kwargs={"rows": 2})
    inner.cron("0 * * * *")(report)
    outer = JobGroup(kwargs={"region": "eu", "rows": 9})
    outer.include(inner)
    inner.cron("0 * * * *", kwargs={"region": "us"}, name="later")(report)
    crons = scheduler()
    crons.include(outer)
    expected = {"inner.report": {"region": "eu", "rows": 2}, "inner.later": {"region": "us", "rows": 2}}
    assert arguments_of(crons) == arguments_of(outer) == expected
    assert arguments_of(inner)["inner.report"] == {"rows": 2}, "the group itself is as before"


def test_what_is_done_with_the_mapping_later_changes_nothing() -> None:
    given = {"region": "eu"}
    group = JobGroup(kwargs=given)
    given["region"] = "us"
    group.cron("0 * * * *")(report)
    assert arguments_of(group) == {"report": {"region": "eu"}}


def test_an_argument_that_a_job_does_not_take_is_refused_with_job_group_and_argument() -> None:
    group = JobGroup(kwargs={"region": "eu"})
    group.cron("0 * * * *")(takes_any)
    where = r"the JobGroup made at test_group_arguments\.py, line \d+"
    refused = f"job 'takes_none' can't have argument 'region' of {where}.*there is no parameter named 'region'"
    with pytest.raises(JobDefinitionError, match=refused):
        group.cron("0 * * * *")(takes_none)
    assert arguments_of(group) == {"takes_any": {"region": "eu"}}


def test_a_value_that_a_job_does_not_take_is_refused_with_job_group_and_argument() -> None:
    group = JobGroup(kwargs={"rows": "many"})
    with pytest.raises(JobDefinitionError, match="job 'weekly' can't have argument 'rows' of the JobGroup made at"):
        group.cron("0 * * * *", name="weekly")(report)


def test_a_fault_of_the_jobs_own_is_its_own() -> None:
    group = JobGroup(kwargs={"rows": 3})
    with pytest.raises(JobDefinitionError, match="kwargs of job 'report': there is no parameter named 'nope'"):
        group.cron("0 * * * *", kwargs={"nope": 1})(report)
    with pytest.raises(JobDefinitionError, match="kwargs of job 'report' can't be 3"):
        group.cron("0 * * * *", kwargs=3)(report)  # type: ignore[arg-type]
    with pytest.raises(JobDefinitionError, match="timeout of job 'report'"):
        group.cron("0 * * * *", timeout=-1)(report)
    assert group.jobs == ()


@pytest.mark.parametrize("target", [scheduler, JobGroup])
def test_an_inclusion_that_brings_an_argument_which_a_job_does_not_take_is_refused_whole(
    target: type[Crons] | type[JobGroup],
) -> None:
    into = target()
    outer, inner = JobGroup(kwargs={"region": "eu"}), JobGroup()
    inner.cron("0 * * * *")(takes_none)
    outer.cron("0 * * * *")(report)
    into.include(outer)
    with pytest.raises(
        JobDefinitionError, match="job 'takes_none' can't have argument 'region' of the JobGroup made at"
    ):
        outer.include(inner)
    assert arguments_of(into) == arguments_of(outer) == {"report": {"region": "eu"}}


def test_what_a_function_can_not_do_without_comes_from_the_job_or_its_own_group() -> None:
    def needs(region: str) -> None: ...

    inner, outer = JobGroup(), JobGroup(kwargs={"region": "eu"})
    outer.include(inner)
    with pytest.raises(
        JobDefinitionError, match=r"parameter 'region'; give kwargs=… to the job or to its own JobGroup"
    ):
        inner.cron("0 * * * *")(needs)
    outer.cron("0 * * * *")(needs)
    assert arguments_of(outer) == {"needs": {"region": "eu"}}
