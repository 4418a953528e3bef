"""What registers a second time: modules that are executed again, cells of a notebook, two functions of one name."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from fastapi import FastAPI

from fastapi_crons import Crons, DuplicateJobError
from fastapi_crons.state import MemoryStateBackend
from tests.support import nothing

JOBS = """
from fastapi_crons import Crons
crons = Crons()

@crons.cron("0 0 1 1 *", tags=["{tag}"])
def one(): ...

@crons.cron("0 0 1 1 *")
def two(): ...

def alert(job, context): ...

class Plugin: ...
plugin = Plugin()
crons.add_on_error_hook(alert, "one")
crons.add_on_error_hook(lambda job, context: None)
"""


@pytest.fixture
def jobs_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(tmp_path)
    Path("jobs_of_test.py").write_text(JOBS.format(tag="old"))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.delitem(sys.modules, "jobs_of_test", raising=False)
    return importlib.import_module("jobs_of_test")


def test_a_reload_takes_the_place_of_what_was_there(jobs_module: ModuleType) -> None:
    crons = jobs_module.crons
    former = jobs_module.one
    Path("jobs_of_test.py").write_text("\n\n\n" + JOBS.format(tag="new"))
    importlib.invalidate_caches()
    reloaded = importlib.reload(jobs_module)
    assert reloaded.crons is crons
    assert [job.name for job in crons.jobs] == ["one", "two"]
    assert crons.jobs.named("one").func is reloaded.one is not former
    assert crons.jobs.named("one").tags == ("new",)
    assert len(crons.plugins.calls["on_error"]) == 2
    assert {call.function for call in crons.plugins.calls["on_error"]} >= {reloaded.alert}
    # Executed anew, as another module object.
    del sys.modules["jobs_of_test"]
    importlib.import_module("jobs_of_test")
    assert len(crons.jobs) == len(crons.plugins.calls["on_error"]) == 2


async def test_a_reload_while_it_runs_is_an_error(jobs_module: ModuleType) -> None:
    crons = jobs_module.crons
    Crons(FastAPI(), state_backend=MemoryStateBackend())
    async with crons:
        with pytest.raises(DuplicateJobError, match="'one'"):
            importlib.reload(jobs_module)


def test_two_different_functions_of_one_name_stay_an_error(jobs_module: ModuleType) -> None:
    Path("more_jobs_of_test.py").write_text(JOBS.format(tag="more"))
    with pytest.raises(
        DuplicateJobError,
        match=r"jobs_of_test:one \(jobs_of_test.py, line \d\); give the job of more_jobs_of_test:one \(more_",
    ):
        importlib.import_module("more_jobs_of_test")
    sys.modules.pop("more_jobs_of_test", None)
    crons: Crons = jobs_module.crons
    with pytest.raises(DuplicateJobError):
        crons.cron("* * * * *", name="one")(jobs_module.one)
    crons.jobs.append(crons.jobs.named("one").__class__(nothing, "* * * * *", "three"))
    with pytest.raises(DuplicateJobError):
        crons.jobs.append(crons.jobs.named("three"))


def test_a_cell_of_a_notebook_that_is_run_again_takes_the_place_of_what_was_there() -> None:
    crons = Crons()
    names: dict[str, Any] = {"__name__": "__main__", "crons": crons}
    cell = "@crons.cron('* * * * *')\ndef job():\n    return {}\n"
    for number in range(3):
        exec(compile(cell.format(number), f"/tmp/ipykernel_1/{number % 2}.py", "exec"), names)
    assert [job.func() for job in crons.jobs] == [2]
    # Python's prompt gives all that it reads one name.
    for _ in range(2):
        exec(compile("@crons.cron('* * * * *')\ndef typed(): ...\n", "<stdin>", "exec"), names)
    piped = "@crons.cron('* * * * *')\ndef piped(): ...\n@crons.cron('0 * * * *')\ndef piped(): ...\n"
    with pytest.raises(DuplicateJobError, match="'piped'"):
        exec(compile(piped, "<stdin>", "exec"), names)
    loop = "for n in range(2):\n    @crons.cron('* * * * *', name='looped')\n    def looped(): ...\n"
    with pytest.raises(DuplicateJobError):
        exec(compile(loop, "/tmp/ipykernel_1/3.py", "exec"), names)
