"""The file of a database: whether its path can be used, how it is made, and who may write to it."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path
from threading import Lock

from fastapi_crons.errors import StoreUnavailableError, StoreUnusableError

#: The database may hold secrets: results, error texts, log lines.
_MODE = 0o600
#: Held while a file is made. Closing a descriptor drops the locks that this process holds on the file (POSIX `fcntl`), so
#: nothing may open a file that is still being made.
_making = Lock()


def check_path(path: str) -> None:
    """Refuse a path that can't lead to a file."""
    folder = os.path.dirname(path)
    try:
        is_folder = stat.S_ISDIR(os.stat(folder).st_mode)
    except PermissionError as error:
        raise StoreUnusableError(
            f"{path} can't be reached: {error.strerror} ({rights(folder)}); {_ELSEWHERE}"
        ) from error
    except (FileNotFoundError, NotADirectoryError):
        is_folder = False
    if not is_folder:
        raise StoreUnusableError(f"{path} can't be made: there is no folder {folder}; make it, or {_ELSEWHERE}")
    if os.path.isdir(path):
        raise StoreUnusableError(f"{path} is a folder; set CRON_SQLITE_PATH to a file")
    if os.path.islink(path) and not os.path.exists(path):
        raise StoreUnusableError(
            f"{path} is a link to {os.readlink(path)}, which is not there; make that file, remove the link, or {_ELSEWHERE}"
        )


_ELSEWHERE = "set CRON_SQLITE_PATH to a file elsewhere"


def make_file(path: str) -> None:
    """Make the file where there is none, for its owner alone; SQLite's other files get the same mode."""
    try:
        # Exclusively: a link that leads nowhere is not followed.
        with _making, suppress(FileExistsError):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), _MODE))
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE):
            raise StoreUnavailableError(f"{path} can't be made: {error.strerror}") from error
        folder = os.path.dirname(path)
        raise StoreUnusableError(
            f"{path} can't be made: {error.strerror}; {rights(folder)}: give it the right to write there, or {_ELSEWHERE}"
        ) from error


def has_log(path: str) -> bool:
    """Whether a part of the database lies in a write-ahead log."""
    try:
        return os.path.getsize(f"{path}-wal") > 0
    except OSError:
        return False


def uri_of(path: str, *, snapshot: bool | None = None) -> str:
    """The URI by which SQLite opens a file, without making one: to write, to read, or as a snapshot where no process writes.

    With a write-ahead log, only a snapshot can be read without SQLite making other files in the folder.
    """
    mode = "mode=rw" if snapshot is None else "mode=ro&immutable=1" if snapshot else "mode=ro"
    return f"{Path(path).as_uri()}?{mode}"


def why_not(path: str) -> str:
    """What keeps this process from writing to a file, where that is a matter of rights; else nothing."""
    folder = os.path.dirname(path)
    places = [place for place in (path, folder) if os.path.exists(place) and not os.access(place, os.W_OK)]
    if not places:
        return ""
    return f" ({'; '.join(map(rights, places))}: give it the right to write there, or {_ELSEWHERE})"


def rights(place: str) -> str:
    """What this process may do with a file or folder, for people."""
    kind = "folder" if os.path.isdir(place) else "file"
    try:
        found = os.stat(place)
    except OSError:
        return f"the {kind} {place} can't be looked at"
    about = f"the {kind} {place} is {stat.filemode(found.st_mode)}"
    if not hasattr(os, "geteuid"):
        return about
    return f"{about} and belongs to user {found.st_uid}, this process runs as user {os.geteuid()}"
