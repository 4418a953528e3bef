"""Compares the files of others that we ship with those in the npm packages that they came from. `nox -s vendored` runs it."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import TypedDict

DASHBOARD = Path(__file__).parents[1] / "packages/dashboard"


class Vendored(TypedDict):
    """A file of `packages/dashboard` that others have written."""

    file: str
    package: str
    version: str
    path: str
    """Where it is in that package of npm."""
    license: str
    sha256: str


def vendored() -> list[Vendored]:
    """All there are."""
    listed: list[Vendored] = json.loads((DASHBOARD / "vendored.json").read_text())
    return listed


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def main(folder: Path) -> int:
    """Fetch the packages into a folder; returns the exit code."""
    differ = []
    for name in sorted({f"{each['package']}@{each['version']}" for each in vendored()}):
        packed = subprocess.run(["npm", "pack", "--json", name], cwd=folder, check=True, stdout=subprocess.PIPE)
        (described,) = json.loads(packed.stdout)
        with tarfile.open(folder / described["filename"]) as package:
            for each in vendored():
                if f"{each['package']}@{each['version']}" == name:
                    member = package.extractfile(f"package/{each['path']}")
                    same = member is not None and digest(member.read()) == each["sha256"]
                    print(f"{each['file']}: {'as' if same else 'NOT as'} {each['path']} of {name}")
                    differ += [] if same else [each["file"]]
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
