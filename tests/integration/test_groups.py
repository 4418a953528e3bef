"""Groups in apps: factories, one app per test, several clients in one process, modules that are executed again."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from fastapi_crons import Crons, DuplicateJobError, JobGroup, get_cron_router
from fastapi_crons.state import MemoryStateBackend

jobs = JobGroup(prefix="billing.", tags=["billing"])
seen: list[str] = []


@jobs.cron("0 0 1 1 *")
async def invoices() -> str:
    return "sent"


jobs.add_after_run_hook(lambda job_name, context: seen.append(job_name))


def create_app() -> FastAPI:
    app = FastAPI()
    crons = Crons(app, state_backend=MemoryStateBackend())
    crons.include(jobs)
    app.include_router(get_cron_router(crons), prefix="/api")
    return app


def test_a_factory_makes_an_app_with_its_own_scheduler_for_each_client() -> None:
    seen.clear()
    with TestClient(create_app()) as one, TestClient(create_app()) as other:
        assert one.post("/api/crons/billing.invoices/run").json()["status"] == "success"
        assert len(one.get("/api/crons/billing.invoices/runs").json()["runs"]) == 1
        assert other.get("/api/crons/billing.invoices/runs").json()["runs"] == []
        (shown,) = other.get("/api/crons").json()
        assert (shown["name"], shown["tags"]) == ("billing.invoices", ["billing"])
    assert seen == ["billing.invoices"], "one hook, however many apps were made"


@pytest.mark.parametrize("number", range(3))
def test_one_app_per_test(number: int) -> None:
    with TestClient(create_app()) as client:
        assert [job["name"] for job in client.get("/api/crons").json()] == ["billing.invoices"]


def test_a_factory_that_gives_each_app_the_same_scheduler_includes_its_groups_again() -> None:
    seen.clear()
    crons = Crons()
    local = JobGroup(prefix="l.")
    apps = [FastAPI() for _ in range(3)]
    for app in apps:
        assert Crons(app, state_backend=crons.given.state_backend or MemoryStateBackend()) is crons
        crons.include(jobs)
        crons.include(local)
    local.cron("0 0 1 1 *")(invoices)
    assert [job.name for job in crons.jobs] == ["billing.invoices", "l.invoices"]
    apps[-1].include_router(get_cron_router(crons), prefix="/api")
    with TestClient(apps[-1]) as client:
        client.post("/api/crons/billing.invoices/run")
    assert seen == ["billing.invoices"]
    with pytest.raises(DuplicateJobError, match="is included twice under the same names"):
        crons.include(jobs)


def test_a_factory_that_makes_its_groups_itself() -> None:
    crons, told = Crons(), list[int]()

    def create(number: int) -> FastAPI:
        app = FastAPI()
        Crons(app, state_backend=crons.given.state_backend or MemoryStateBackend())
        group = JobGroup(prefix="g.")

        @group.cron("0 0 1 1 *")
        def made() -> int:
            return number

        group.add_after_run_hook(lambda job_name, context: told.append(number))
        crons.include(group)
        app.include_router(get_cron_router(crons), prefix="/api")
        return app

    create(1)
    with TestClient(create(2)) as client:
        client.post("/api/crons/g.made/run")
        assert client.get("/api/crons/g.made/runs").json()["runs"][0]["result"] == 2
    assert told == [2]


JOBS = """
from fastapi_crons import JobGroup
jobs = JobGroup(prefix="m.")

@jobs.cron("0 0 1 1 *", tags=["{tag}"])
def one(): ...

@jobs.add_on_error_hook
def alert(job, context): ...
"""
MAIN = """
from fastapi_crons import Crons
from group_of_test import jobs
crons = Crons()
crons.include(jobs)

@jobs.cron("0 0 1 1 *")
def here(): ...

@jobs.add_before_run_hook
def before(job, context): ...
"""


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[ModuleType, ModuleType]:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    for name, text in (("group_of_test", JOBS.format(tag="old")), ("main_of_test", MAIN)):
        Path(f"{name}.py").write_text(text)
        monkeypatch.delitem(sys.modules, name, raising=False)
    return importlib.import_module("group_of_test"), importlib.import_module("main_of_test")


def hooks_of(crons: Crons) -> list[str]:
    return sorted(added.function.__name__ for added in crons.plugins.added())


def test_a_main_module_that_is_executed_again_includes_the_same_group_once(
    modules: tuple[ModuleType, ModuleType],
) -> None:
    crons = modules[1].crons
    former = modules[1].here
    del sys.modules["main_of_test"]
    again = importlib.import_module("main_of_test")
    assert again.crons is crons
    assert [job.name for job in crons.jobs] == ["m.one", "m.here"]
    assert crons.jobs.named("m.here").func is again.here is not former
    assert hooks_of(crons) == ["alert", "before"]


def test_a_group_whose_module_was_reloaded_takes_the_place_of_the_former(
    modules: tuple[ModuleType, ModuleType],
) -> None:
    crons = modules[1].crons
    Path("group_of_test.py").write_text("\n" + JOBS.format(tag="new"))
    importlib.invalidate_caches()
    reloaded = importlib.reload(modules[0])
    reloaded_main = importlib.reload(modules[1])
    assert reloaded_main.crons is crons
    assert [job.name for job in crons.jobs] == ["m.one", "m.here"]
    assert crons.jobs.named("m.one").func is reloaded.one
    assert crons.jobs.named("m.one").tags == ("new",)
    assert hooks_of(crons) == ["alert", "before"]


async def test_a_reload_while_it_runs_is_an_error(modules: tuple[ModuleType, ModuleType]) -> None:
    async with modules[1].crons:
        reloaded = importlib.reload(modules[0])
        with pytest.raises(DuplicateJobError, match=r"m\.one"):
            modules[1].crons.include(reloaded.jobs)


async def test_a_start_without_jobs_beside_a_group_that_nothing_includes_is_a_warning_that_names_both(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "fastapi_crons")
    group, empty, outer = JobGroup(prefix="g."), JobGroup(), JobGroup()
    group.cron("0 0 1 1 *")(invoices)
    crons = Crons(state_backend=MemoryStateBackend())
    async with crons:
        pass
    (warning,) = [record for record in caplog.records if "0 jobs" in record.getMessage()]
    assert warning.levelname == "WARNING"
    assert warning.getMessage().count("test_groups.py, line") == 2
    assert "has 1 ('g.invoices'), and is included nowhere" in warning.getMessage()
    caplog.clear()
    outer.include(group)
    crons.include(outer)
    async with crons:
        pass
    assert "Cron scheduler started with 1 job" in caplog.text
    assert empty.jobs == ()


def test_cells_of_a_notebook_that_are_run_again() -> None:
    crons = Crons()
    names: dict[str, Any] = {"__name__": "__main__", "crons": crons, "JobGroup": JobGroup, "imported": jobs}
    cells = {
        "make": "group = JobGroup(prefix='n.')\n",
        "declare": "@group.cron('* * * * *')\ndef job():\n    return {}\n"
        "@group.add_after_run_hook\ndef after(job, context): ...\n",
        "include": "crons.include(group)\n",
        "imported": "crons.include(imported)\n",
        "hook": "@crons.add_on_error_hook\ndef failed(job, context): ...\n",
    }
    for number in range(3):
        for name, cell in cells.items():
            exec(compile(cell.format(number), f"/tmp/ipykernel_1/{name}{number % 2}.py", "exec"), names)
    exec(compile(cells["declare"].format(7), "/tmp/ipykernel_1/declare9.py", "exec"), names)
    assert [(job.name, job.func()) for job in crons.jobs if job.name == "n.job"] == [("n.job", 7)]
    assert [job.name for job in crons.jobs] == ["n.job", "billing.invoices"]
    assert hooks_of(crons) == ["<lambda>", "after", "failed"]
