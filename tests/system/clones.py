"""Fresh clones, and programs that are run in them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

#: What a clone does not have.
NOT_OURS = shutil.ignore_patterns(
    ".git", ".venv", ".nox", ".*_cache", ".hypothesis", "__pycache__", "*.egg-info", "build", "dist", "*.db*", "uv.lock"
)


#: Quick, and about what is installed.
A_TEST = "tests/unit/test_names.py"


def run(clone: Path, *command: str | Path, path: Path | None = None) -> str:
    """Run a program in the clone, where uv is on PATH only if this folder of it is given; returns what it says."""
    places = [place for place in os.environ["PATH"].split(os.pathsep) if not (Path(place) / "uv").exists()]
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    environment["PATH"] = os.pathsep.join([*([] if path is None else [str(path)]), *places])
    environment |= {"UV_PYTHON": sys.executable, "UV_PYTHON_DOWNLOADS": "never"}
    done = subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
