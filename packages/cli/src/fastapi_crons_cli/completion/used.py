"""Remembers which modules of which folders a command has imported, so that completion imports no others.

A user may press Tab in a folder of unknown code, and importing an app runs it. For each module that a command has imported,
the user's cache folder has an empty file, named by a digest.
"""

from __future__ import annotations

import hashlib
import os
import sys
from contextlib import suppress
from pathlib import Path


def remember(folder: Path, module: str) -> None:
    """Remember that a command has imported this module. Where that fails, completion offers no names."""
    with suppress(OSError, RuntimeError):
        mark = _mark(folder, module)
        mark.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        mark.touch(mode=0o600)


def is_remembered(folder: Path, module: str) -> bool:
    """Whether a command of this user has imported this module."""
    try:
        mark = _mark(folder, module)
        return mark.is_file() and (os.name == "nt" or mark.stat().st_uid == os.getuid())
    except (OSError, RuntimeError):
        return False


def _mark(folder: Path, module: str) -> Path:
    place = folder.resolve()
    # A folder of another owner in the same place counts as another folder.
    key = f"{place}\0{module}\0{place.stat().st_uid}"
    return _cache() / "fastapi-crons" / "used" / hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


def _cache() -> Path:
    """The user's cache folder."""
    named = os.environ.get("LOCALAPPDATA" if os.name == "nt" else "XDG_CACHE_HOME", "")
    if os.path.isabs(named):
        return Path(named)
    return Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache")
