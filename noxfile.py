"""Checks, tests, builds and benchmarks: `nox -l` lists them, and marks with a star those that `nox` runs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nox
from packaging.requirements import Requirement
from packaging.version import Version

nox.needs_version = ">=2024.10"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.reuse_existing_virtualenvs = True

ROOT = Path(__file__).parent
OLDEST = (3, 10)
NEWEST = (3, 14)
PACKAGES = (
    "packages/core",
    "packages/backend-sqlite",
    "packages/backend-postgres",
    "packages/backend-redis/redis",
    "packages/backend-redis/state",
    "packages/backend-redis/lock",
    "packages/cli",
    "packages/dashboard",
    ".",
)


def interpreters() -> list[str]:
    """A CPython of each minor version from 3.10 up that works on this machine: on PATH, or where pyenv keeps them."""
    kept = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = []
    for minor in range(OLDEST[1], NEWEST[1] + 1):
        if sys.version_info[:2] == (3, minor):
            found.append(sys.executable)
            continue
        candidates = [
            shutil.which(f"python3.{minor}"),
            *sorted(map(str, kept.glob(f"3.{minor}.*/bin/python")), reverse=True),
        ]
        # A shim of pyenv is on PATH even where the version it stands for is not selected.
        found += [path for path in candidates if path is not None and _is_version(path, minor)][:1]
    return found


def _is_version(path: str, minor: int) -> bool:
    code = "import sys; print(sys.implementation.name, *sys.version_info[:2])"
    answer = subprocess.run([path, "-c", code], capture_output=True, text=True, check=False)
    return answer.stdout.split() == ["cpython", "3", str(minor)]


#: Where `dev.py` has installed everything, nox runs in that environment, and needs no other for the same interpreter.
HERE = "none" if Path(sys.prefix).resolve() == (ROOT / ".venv").resolve() else None
OTHERS = [python for python in interpreters() if python != sys.executable]
#: The oldest one on this machine has the oldest dependencies, too; the newest of the others has the newest.
OLDEST_HERE = interpreters()[0]
#: For uv, which else leaves it to the many programs of a session to compile what they import. pip does it by itself.
COMPILED = {"UV_COMPILE_BYTECODE": "1"}
#: Most tests wait for something; a file's tests share what they have set up. Folders come in their order: whole programs before
#: the many short files of `unit` and `virtual_time`, which keep all processes busy to the end.
TOGETHER = ["-n", "4", "--dist", "loadfile", "--no-loadscope-reorder"]
#: Without what `once` marks: on another interpreter, or with other versions of dependencies, it comes out the same. They
#: hardly wait, and each process collects them all first: one process less is quicker.
LIGHT = ["-n", "3", "-m", "not slow and not full and not once", "--hypothesis-profile", "light"]


def named(folder: str, *names: str) -> list[str]:
    """The files of these names, wherever they are below a folder."""
    return [str(path) for name in names for path in sorted((ROOT / "tests" / folder).rglob(f"test_{name}.py"))]


#: What another interpreter may change: contexts, tasks, threads, tracebacks, signatures, time zones, SQLite. The rest of
#: `virtual_time` is our own arithmetic.
OF_THE_INTERPRETER = [
    "tests/unit",
    *(f"tests/virtual_time/{folder}" for folder in ("hooks", "logs", "runs")),
    *named("virtual_time", "at_start", "each_tick_once", "foreign_schedules", "schedules"),
    *named("virtual_time", "arguments", "dependencies", "parts", "real_waits", "start_stop", "stops", "unforeseen"),
    "tests/integration/sqlite",
    *named("integration", "events", "process_jobs"),
]
#: What older dependencies may change, too: frameworks, clients, the command line. A few of its files stand for all commands and
#: endpoints.
OF_DEPENDENCIES = [
    "tests/integration/redis",
    *named("integration", "fastapi_life", "groups", "moving", "reloads", "which_scheduler"),
    *named(
        "integration/api", "access", "health", "jobs", "manual_runs", "paths", "plugins", "requests", "runs", "sockets"
    ),
    *named("integration/cli", "finding_the_app", "output", "running", "settings"),
]
# The oldest one and the newest of the others stand for those in between, which can be asked for by name.
nox.options.sessions = [
    "lint",
    "types",
    "tests",
    "lowest",
    *(f"tests_elsewhere-{python}" for python in OTHERS[-1:] if python != OLDEST_HERE),
    "docs",
    "build",
]


@nox.session
def lint(session: nox.Session) -> None:
    """ruff: rules and format."""
    session.install("ruff>=0.9")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session(venv_backend=HERE)
def types(session: nox.Session) -> None:
    """mypy, strict."""
    _install(session)
    session.run("mypy" if HERE is None else str(Path(sys.executable).with_name("mypy")))


@nox.session(venv_backend=HERE)
def tests(session: nox.Session) -> None:
    """All tests but those that take long, on this interpreter."""
    _install(session)
    python = "python" if HERE is None else sys.executable
    _compile(session, python)
    session.run(python, "-m", "pytest", *TOGETHER, *session.posargs)


@nox.session(python=OTHERS or None)
def tests_elsewhere(session: nox.Session) -> None:
    """On another interpreter, the tests that it may change; the others are run on this one."""
    session.install("-r", "tests/requirements.txt", env=COMPILED)
    _compile(session, "python")
    session.run("pytest", *OF_THE_INTERPRETER, *TOGETHER, *LIGHT, *session.posargs)


@nox.session(python=OLDEST_HERE)
def lowest(session: nox.Session) -> None:
    """On the oldest interpreter, with the oldest version of every dependency that we allow, the tests that these may change."""
    constraints = Path(session.create_tmp()) / "lowest.txt"
    constraints.write_text("".join(f"{line}\n" for line in lowest_versions()), encoding="utf-8")
    session.install("-r", "tests/requirements.txt", "-c", str(constraints), env=COMPILED)
    _compile(session, "python")
    session.run("pytest", *OF_THE_INTERPRETER, *OF_DEPENDENCIES, *TOGETHER, *LIGHT, *session.posargs)


def lowest_versions() -> list[str]:
    """Constraints: each dependency of a distribution of ours at its lower bound, the highest where they have several."""
    bounds: dict[str, dict[Version, str]] = {}
    for package in PACKAGES:
        for text in nox.project.load_toml(ROOT / package / "pyproject.toml")["project"]["dependencies"]:
            requirement = Requirement(text)
            if requirement.name.startswith("fastapi-crons"):
                continue
            (lowest,) = (Version(each.version) for each in requirement.specifier if each.operator == ">=")
            marker = f"; {requirement.marker}" if requirement.marker else ""
            bounds.setdefault(requirement.name, {})[lowest] = f"{requirement.name}=={lowest}{marker}"
    return [bounds[name][max(bounds[name])] for name in sorted(bounds)]


def _compile(session: nox.Session, python: str) -> None:
    """For all programs that tests start: where PYTHONDONTWRITEBYTECODE is set, each would compile our modules anew."""
    session.run(python, "-m", "compileall", "-q", "packages")


def _install(session: nox.Session) -> None:
    if HERE is None:
        session.install("-r", "requirements-dev.txt")


@nox.session(venv_backend=HERE)
def docs(session: nox.Session) -> None:
    """Build the documentation; `nox -s docs -- links` asks the links to other sites, too, whether they lead somewhere."""
    if HERE is None:
        session.install("-r", "requirements-dev.txt")
    python = "python" if HERE is None else sys.executable
    for builder in ("html", *(["linkcheck"] if "links" in session.posargs else [])):
        folder = Path(session.create_tmp()) / builder
        session.run(python, "-m", "sphinx", "-W", "--keep-going", "-q", "-E", "-b", builder, "docs", str(folder))
        session.log(f"{builder}: {folder}")


@nox.session
def full(session: nox.Session) -> None:
    """What `tests` leaves out as it takes long, but for faults; for each night."""
    session.install("-r", "requirements-dev.txt")
    session.run("pytest", "--ignore", "tests/faults", *TOGETHER, "-m", "full", *session.posargs)


@nox.session
def faults(session: nox.Session) -> None:
    """Every fault, with real processes and servers; a table at the end says what became of the ticks."""
    session.install("-r", "requirements-dev.txt")
    session.run("pytest", "tests/faults", "-m", "slow or full", "--timeout", "300", *session.posargs)


@nox.session
def mutants(session: nox.Session) -> None:
    """Change the modules that decide, one operator at a time; at least 95 % of the changes must fail a test."""
    session.install("-r", "tests/requirements.txt", "mutmut>=3.8,<4")
    session.run("python", "tests/mutants.py", session.create_tmp(), *session.posargs)


@nox.session
def screenshots(session: nox.Session) -> None:
    """Make the pictures of the dashboard in README and docs anew, by the Chromium on PATH."""
    session.install("-r", "tests/requirements.txt", "pillow>=11", "playwright>=1.49")
    session.run("python", "-m", "docs.screenshots")


@nox.session
def vendored(session: nox.Session) -> None:
    """Compare the files of others that the dashboard ships with the npm packages that they came from."""
    session.run("python", "tests/vendored.py", session.create_tmp())


@nox.session
def build(session: nox.Session) -> None:
    """Build every distribution, install each wheel alone with core in a fresh environment, and find its plugin."""
    session.install("build", "hatchling>=1.27", "pip")
    dist = Path(session.create_tmp()) / "dist"
    shutil.rmtree(dist, ignore_errors=True)
    for package in PACKAGES:
        session.run("python", "-m", "build", "--no-isolation", "--outdir", str(dist), package, silent=True)
    core = next(dist.glob("fastapi_crons_core-*.whl"))
    for wheel in sorted(dist.glob("*.whl")):
        name = re.sub(r"-.*", "", wheel.name)
        if name == "fastapi_crons":
            continue  # no code: it names the others
        fresh = Path(session.create_tmp()) / f"fresh-{name}"
        python = fresh / "bin" / "python"
        # Without a pip of its own, which would take longest of all to install.
        session.run("python", "-m", "venv", "--clear", "--without-pip", str(fresh))
        # What a wheel requires of ours is the one built here.
        pip = ("python", "-m", "pip", "--python", str(python))
        session.run(*pip, "install", "-q", "--find-links", str(dist), str(core), str(wheel))
        session.run(str(python), "tests/system/check_installed.py", name, external=True)


@nox.session
def benchmarks(session: nox.Session) -> None:
    """What a run costs, beside bare asyncio and other schedulers; `-- --docs` puts the figures into the docs."""
    session.install("-r", "benchmarks/requirements.txt")
    session.run("python", "-m", "benchmarks", *session.posargs)
