"""JobRegistry: the jobs of one scheduler; and ManualRun, a request to run one of them."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from fastapi_crons import CronConfig, CronJob, DuplicateJobError, JobDefinitionError, UnknownJobError
from fastapi_crons.job import ManualRun
from fastapi_crons.registry import JobRegistry
from tests.support import nothing


class Made:
    """A registry, and what it called."""

    def __init__(self, **settings: Any) -> None:
        self.running = False
        self.calls: list[str] = []
        self.jobs = JobRegistry(
            CronConfig(**settings),
            before_append=lambda: self.calls.append("before"),
            on_append=lambda job: self.calls.append(job.name),
            on_change=lambda name: self.calls.append(f"changed {name}"),
            is_running=lambda: self.running,
        )


def test_jobs_are_kept_in_order_and_named_once() -> None:
    made = Made()
    made.jobs.extend([CronJob(nothing, "* * * * *", "b"), CronJob(nothing, "* * * * *", "a")])
    assert [job.name for job in made.jobs] == ["b", "a"]
    assert made.calls == ["before", "b", "a"]
    with pytest.raises(DuplicateJobError, match="'a'"):
        made.jobs.append(CronJob(print, "* * * * *", "a"))
    assert made.jobs.named("a").func is nothing
    assert made.calls == ["before", "b", "a", "before"], "a job that is refused is not announced"
    with pytest.raises(UnknownJobError, match="no job named 'c'"):
        made.jobs.named("c")
    with pytest.raises(JobDefinitionError, match="only a CronJob"):
        made.jobs.append("a")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", [None, 5, nothing])
def test_a_job_is_removed_by_its_name(name: Any) -> None:
    with pytest.raises(UnknownJobError, match=r"there is no job named .*; give the name of a job, as a text"):
        Made().jobs.remove(name)


def test_what_is_no_job_is_told_how_one_is_made() -> None:
    with pytest.raises(JobDefinitionError, match=r"make one: CronJob\(function, "):
        Made().jobs.replace(nothing)  # type: ignore[arg-type]


def test_a_cell_of_a_notebook_that_is_run_again_while_the_scheduler_runs_is_told_of_replace() -> None:
    def cell() -> CronJob:
        def tidy() -> None: ...

        return CronJob(tidy, "* * * * *")

    made = Made()
    made.jobs.append(cell())
    made.running = True
    with pytest.raises(
        DuplicateJobError, match=r"crons\.jobs\.replace\(CronJob\(…\)\), or crons\.jobs\.remove\('tidy'\)"
    ):
        made.jobs.append(cell())
    with pytest.raises(DuplicateJobError) as other:
        made.jobs.append(CronJob(nothing, "* * * * *", "tidy"))
    assert "crons.jobs.replace" not in str(other.value)


def test_unset_options_follow_the_settings_and_the_given_job_is_still_found() -> None:
    made = Made(timezone="Asia/Tokyo", default_timeout=7.0)
    job = CronJob(nothing, "0 9 * * *", "job")
    made.jobs.append(job)
    assert (made.jobs.named("job").timezone, made.jobs.named("job").timeout) == ("Asia/Tokyo", 7.0)
    assert job in made.jobs
    assert CronJob(nothing, "0 8 * * *", "job") not in made.jobs
    made.jobs.use_settings(CronConfig(timezone="Europe/Berlin", default_max_retries=2, default_retry_delay=0))
    assert (made.jobs.named("job").schedule_zone, made.jobs.named("job").timeout) == ("Europe/Berlin", None)
    assert (made.jobs.named("job").max_retries, made.jobs.named("job").retry_delay) == (2, 0)


@pytest.mark.parametrize("running", [False, True])
def test_a_job_is_replaced_once_where_its_module_is_executed_again_and_never_while_running(running: bool) -> None:
    made = Made()
    made.jobs.append(CronJob(nothing, "* * * * *", "job", tags=["old"]))
    made.jobs.expect_again(moved=False)
    made.running = running
    again = CronJob(nothing, "* * * * *", "job", tags=["new"])
    if running:
        with pytest.raises(DuplicateJobError, match="registered twice"):
            made.jobs.append(again)
        assert made.jobs.named("job").tags == ("old",)
        return
    made.jobs.append(again)
    assert [job.tags for job in made.jobs] == [("new",)]
    with pytest.raises(DuplicateJobError, match="registered twice"):
        made.jobs.append(again)


def test_another_function_of_the_name_never_replaces_a_job() -> None:
    made = Made()
    made.jobs.append(CronJob(nothing, "* * * * *", "job"))
    made.jobs.expect_again(moved=True)
    with pytest.raises(DuplicateJobError, match=r"give the job of .* another name"):
        made.jobs.append(CronJob(print, "* * * * *", "job"))


def test_threads_append_without_losing_a_job() -> None:
    made = Made()

    def append(thread: int) -> None:
        for number in range(200):
            made.jobs.append(CronJob(nothing, "* * * * *", f"{thread}-{number}"))

    threads = [threading.Thread(target=append, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made.jobs) == len(made.jobs.names()) == 800


@pytest.mark.parametrize("timeout", [0, -1, 1e10, float("nan"), True, "5"])
def test_a_manual_run_refuses_a_timeout_that_can_not_be_used(timeout: Any) -> None:
    with pytest.raises(ValueError, match="timeout can't be"):
        ManualRun(CronJob(nothing, "* * * * *", "job"), timeout=timeout)


def test_a_manual_run_refuses_a_trigger_that_is_not_manual() -> None:
    job = CronJob(nothing, "* * * * *", "job")
    with pytest.raises(ValueError, match="choose one of cli, api, code"):
        ManualRun(job, trigger="schedule")
    assert ManualRun(job, trigger="cli").timeout is None
