"""Apps whose modules are executed twice, as real processes: `python main.py` that serves `"main:app"`, and its kin."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import until

pytestmark = pytest.mark.slow

TASKS = """
import pathlib

def write(text):
    with open("ran.txt", "a") as file:
        file.write(text + "\\n")

def imported():
    write("imported")
"""
JOBS = """
from fastapi_crons import Crons
from tasks import write

crons = Crons()

@crons.cron("* * * * * *")
def in_jobs():
    write("in_jobs")
"""
HOOK = """
def after(job, context):
    write("hook of " + job)
crons.add_after_run_hook(after, "in_main")
"""
IN_MAIN = """
@crons.cron("* * * * * *")
async def in_main():
    write("in_main")

crons.cron("* * * * * *")(imported)
"""
GROUP = JOBS.replace("Crons", "JobGroup").replace("crons = ", "group = ").replace("@crons", "@group")
IN_GROUP = (IN_MAIN + HOOK).replace("crons.", "group.")
#: Each with the modules' texts; `{serve}` stands for how it is served.
LAYOUTS = {
    "jobs first": {
        "jobs.py": JOBS,
        "main.py": "import uvicorn\nfrom fastapi import FastAPI\nfrom fastapi_crons import Crons\nimport jobs\n"
        "from tasks import imported, write\napp = FastAPI()\ncrons = Crons(app)\n" + IN_MAIN + HOOK,
    },
    "jobs last": {
        "jobs.py": JOBS,
        "main.py": "import uvicorn\nfrom fastapi import FastAPI\nfrom fastapi_crons import Crons\n"
        "from tasks import imported, write\napp = FastAPI()\ncrons = Crons(app)\n" + IN_MAIN + HOOK + "import jobs\n",
    },
    "jobs on what main makes": {
        "jobs.py": JOBS.replace("from fastapi_crons import Crons", "from main import crons").replace(
            "crons = Crons()", ""
        ),
        "main.py": "import uvicorn\nfrom fastapi import FastAPI\nfrom fastapi_crons import Crons\n"
        "from tasks import imported, write\napp = FastAPI()\ncrons = Crons(app)\nimport jobs\n" + IN_MAIN + HOOK,
    },
    "a store first": {
        "jobs.py": JOBS,
        "main.py": "import uvicorn\nfrom fastapi import FastAPI\nfrom fastapi_crons import Crons\n"
        "from fastapi_crons.state import MemoryStateBackend\nfrom tasks import imported, write\n"
        "crons = Crons(state_backend=MemoryStateBackend())\nimport jobs\n"
        + IN_MAIN
        + HOOK
        + "app = FastAPI()\nCrons(app)\n",
    },
    "jobs before the app": {
        "jobs.py": JOBS,
        "main.py": "import uvicorn\nfrom fastapi import FastAPI\nfrom fastapi_crons import Crons\nfrom jobs import crons\n"
        "from tasks import imported, write\n" + IN_MAIN + HOOK + "app = FastAPI()\nCrons(app)\n",
    },
    "a factory": {
        "jobs.py": JOBS,
        "main.py": "import uvicorn\nfrom fastapi import FastAPI\nfrom fastapi_crons import Crons\nimport jobs\n"
        "from tasks import imported, write\n\ndef make():\n    app = FastAPI()\n    crons = Crons(app)\n"
        + "".join(f"    {line}\n" for line in (IN_MAIN + HOOK).splitlines())
        + "    return app\n\napp = make()\n",
    },
    "groups": {
        "jobs.py": GROUP,
        "main.py": "import uvicorn\nfrom fastapi import FastAPI\nfrom fastapi_crons import Crons, JobGroup\nimport jobs\n"
        "from tasks import imported, write\ngroup = JobGroup()\n"
        + IN_GROUP
        + "app = FastAPI()\ncrons = Crons(app)\ncrons.include(jobs.group)\ncrons.include(group)\n",
    },
    "a group that main adds to": {
        "jobs.py": GROUP,
        "main.py": "import uvicorn\nfrom fastapi import FastAPI\nfrom fastapi_crons import Crons, JobGroup\n"
        "from jobs import group\nfrom tasks import imported, write\ncrons = Crons()\nouter = JobGroup()\n"
        "crons.include(outer)\nouter.include(group)\n" + IN_GROUP + "app = FastAPI()\nCrons(app)\n",
    },
}
SERVED = {
    "its name": 'uvicorn.run("main:app", port={port}, host="127.0.0.1")',
    "the object": 'uvicorn.run(app, port={port}, host="127.0.0.1")',
    "a worker": 'uvicorn.run("main:app", port={port}, host="127.0.0.1", workers=2)',
}


def _served(layout: str, served: str) -> str:
    """The output of `python main.py` until all jobs and the hook ran."""
    Path("tasks.py").write_text(TASKS)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    for name, text in LAYOUTS[layout].items():
        Path(name).write_text(text)
    with Path("main.py").open("a") as main:
        main.write(f"\nif __name__ == '__main__':\n    {SERVED[served].format(port=port)}\n")
    ran = Path("ran.txt")
    with Path("server.log").open("w") as log:
        process = subprocess.Popen([sys.executable, "main.py"], stdout=log, stderr=subprocess.STDOUT)
    try:
        wanted = {"in_jobs", "in_main", "imported", "hook of in_main"}
        until(lambda: process.poll() is not None or (ran.exists() and wanted <= set(ran.read_text().split("\n"))))
    finally:
        process.terminate()
        process.wait(30)
    return Path("server.log").read_text()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("served", ["its name", "the object"])
def test_a_script_that_serves_itself_runs_its_jobs_once_each(layout: str, served: str) -> None:
    output = _served(layout, served)
    assert "Cron scheduler started with 3 jobs" in output, output
    assert "0 jobs" not in output
    assert "Traceback" not in output
    ran = Path("ran.txt").read_text().split("\n")
    assert abs(ran.count("in_main") - ran.count("hook of in_main")) <= 1, "the hook was added once"


def test_workers_of_a_script_that_serves_itself_run_its_jobs() -> None:
    output = _served("jobs first", "a worker")
    assert output.count("Cron scheduler started with 3 jobs") == 2, output
    assert "elsewhere" not in output


def test_a_package_that_is_run_by_its_name_has_one_scheduler() -> None:
    Path("shop").mkdir()
    for name, text in LAYOUTS["jobs last"].items():
        inside = text.replace("from tasks", "from shop.tasks").replace("import jobs", "import shop.jobs")
        Path("shop", name).write_text(inside)
    Path("shop/tasks.py").write_text(TASKS)
    with Path("shop/main.py").open("a") as file:
        file.write(
            "if __name__ == '__main__':\n    import importlib\n    again = importlib.import_module('shop.main')\n"
            "    assert again.crons is crons and again.app is not app\n"
            "    print([(job.name, job.function_name) for job in crons.jobs])\n"
        )
    run = subprocess.run([sys.executable, "-m", "shop.main"], capture_output=True, text=True, check=False)
    assert run.stderr == ""
    assert run.stdout.strip() == (
        "[('in_main', 'shop.main:in_main'), ('imported', 'shop.tasks:imported'), ('in_jobs', 'shop.jobs:in_jobs')]"
    )
