#!/usr/bin/env python3
"""Sets up a development environment in .venv and works in it. Needs only Python and pip.

python3 dev.py demo    start the example app and say what to look at
python3 dev.py test    run the linters, the type checker, all tests and the builds
"""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
STAMP = VENV / "installed"
OLDEST = (3, 10)
#: Installs in a fraction of pip's time. It compiles what it installs, or each program of a test would.
UV = {"UV_COMPILE_BYTECODE": "1", "VIRTUAL_ENV": str(VENV)}
_INPUTS = (
    "requirements-dev.txt",
    "*/requirements.txt",
    "VERSION",
    "packages/*/pyproject.toml",
    "packages/*/*/pyproject.toml",
)


def main(arguments: list[str]) -> int:
    """Do what the command line asks for; returns the exit code."""
    commands = {"demo": demo, "test": test}
    if sys.version_info < OLDEST:
        return complain(f"Python {'.'.join(map(str, OLDEST))} or newer is needed; this is {sys.version.split()[0]}")
    if len(arguments) < 1 or arguments[0] not in commands:
        print(__doc__)
        return 2
    try:
        set_up()
    except subprocess.CalledProcessError as error:
        return complain(f"setting up failed: {' '.join(map(str, error.cmd))} ended with {error.returncode}")
    try:
        return commands[arguments[0]](arguments[1:])
    except KeyboardInterrupt:
        return 130


def demo(arguments: list[str]) -> int:
    """Start the example app on a loopback port."""
    port = free_port(8000)
    site = f"http://127.0.0.1:{port}"
    folder = ROOT / "examples" / "quickstart"
    if not (folder / "crons.db").exists():
        run([PYTHON, "yesterday.py"], cwd=folder)
    print(
        f"""
The example app starts at {site}. Its jobs fire every few seconds; their runs are logged below. It has a day of history.

  open      {site}/api/dashboard    jobs and runs: what failed, what is due, and why a tick did not run
            {site}/docs             every endpoint
  try       see which runs of rates failed yesterday, and why invoices does not run; resume it;
            follow the log of slow_import while it runs, and see why every second tick of it is skipped;
            run daily_report, or do it by
            curl -X POST {site}/api/crons/daily_report/run
  then      stop it with Ctrl-C and start it again: the history is still there
            (examples/quickstart/crons.db), and what fell due in between is made up for
""",
        flush=True,
    )
    command: list[str | Path] = [
        PYTHON,
        "-m",
        "uvicorn",
        "app:app",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        *arguments,
    ]
    return run(command, cwd=folder)


def test(arguments: list[str]) -> int:
    """Run the checks and tests; arguments go to nox."""
    return run([PYTHON, "-m", "nox", "--non-interactive", *arguments], cwd=ROOT)


def set_up() -> None:
    """Make .venv and install the workspace into it, unless that is done already."""
    digest = hashlib.sha256(sys.version.encode())
    for pattern in _INPUTS:
        for path in sorted(ROOT.glob(pattern)):
            digest.update(path.read_bytes())
    if PYTHON.exists() and STAMP.exists() and STAMP.read_text() == digest.hexdigest():
        return
    print("Setting up .venv (once; takes a minute) ...", flush=True)
    pip = make_environment()
    wanted = ("install", "--quiet", "--requirement", "requirements-dev.txt")
    if not (runs([*pip, "install", "--quiet", "uv>=0.5"]) and runs([PYTHON, "-m", "uv", "pip", *wanted], UV)):
        # uv does not know pip's settings, so it may not find what pip does.
        subprocess.run([*pip, *wanted], cwd=ROOT, check=True)
    STAMP.write_text(digest.hexdigest())


def runs(command: list[str | Path], settings: dict[str, str] | None = None) -> bool:
    """Whether a program runs to its end without a fault; what it says of one is not shown."""
    environment = {**os.environ, **(settings or {})}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=False).returncode == 0


def make_environment() -> list[str]:
    """Make .venv; returns how pip is called for it."""
    try:
        venv.create(VENV, with_pip=True, clear=True)
    except (subprocess.CalledProcessError, ImportError):
        # Debian's Python comes without ensurepip; the pip of the machine can install into another environment.
        venv.create(VENV, with_pip=False, clear=True)
        return [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(PYTHON)]
    return [str(PYTHON), "-m", "pip", "--disable-pip-version-check"]


def free_port(wanted: int) -> int:
    """`wanted` where no server has it on the loopback interface, else any port that is free.

    It is tried as a server takes it: connections to the one that has just ended don't keep it from the next.
    """
    for port in (wanted, 0):
        try:
            with socket.create_server(("127.0.0.1", port)) as probe:
                return int(probe.getsockname()[1])
        except OSError:
            continue
    raise OSError("no free port on the loopback interface")


def run(command: list[str | Path], cwd: Path) -> int:
    """Run a program to its end, also through Ctrl-C, which it hears of by itself; returns its exit code."""
    process = subprocess.Popen(command, cwd=cwd)
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue


def complain(message: str) -> int:
    """Say what is wrong; returns the exit code for it."""
    print(message, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
