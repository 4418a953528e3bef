"""A file that several processes append lines to, and write anew now and then. Everything here blocks."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from filelock import FileLock

#: The end of a line that is followed by others of its batch; JSON does not mind the space.
_AND = b" \n"


class LineFile:
    """One process's view of the file. Reading needs no lock: what counts is only ever added at the end."""

    def __init__(self, path: Path, lock_timeout: float) -> None:
        self.path = path
        self._lock = FileLock(f"{path}.lock", timeout=lock_timeout, poll_interval=0.01)
        self._descriptor = -1
        #: Up to where whole batches have been read.
        self._end = 0

    def locked(self) -> AbstractContextManager[object]:
        """While this is held no other process writes. Raises `filelock.Timeout`."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        return self._lock

    def read(self) -> tuple[bool, list[tuple[int, bytes]]]:
        """The lines since the last call, each with its place; and whether it is another file, of which these are all."""
        anew = self._open()
        data = os.pread(self._descriptor, os.fstat(self._descriptor).st_size - self._end, self._end)
        place, found = self._end, []
        for line in data[: _whole(data)].splitlines(keepends=True):
            found.append((place, line.rstrip()))
            place += len(line)
        self._end = place
        return anew, found

    def append(self, lines: Sequence[bytes]) -> None:
        """Add a batch, all or nothing. For one who holds the lock and has just read."""
        data = _AND.join(lines) + b"\n"
        try:
            # What a killed process has left half written goes.
            os.ftruncate(self._descriptor, self._end)
            if os.pwrite(self._descriptor, data, self._end) < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            os.ftruncate(self._descriptor, self._end)
            raise

    def line(self, place: int, length: int) -> bytes:
        return os.pread(self._descriptor, length, place)

    def replace(self, lines: Sequence[bytes]) -> None:
        """Write the file anew. For one who holds the lock and has just read."""
        new = Path(f"{self.path}.new")
        with new.open("wb") as file:
            file.writelines(line + b"\n" for line in lines)
            file.flush()
            os.fsync(file.fileno())
        new.replace(self.path)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1

    def _open(self) -> bool:
        """Open the file where it is not open, or is another by now; says whether."""
        if self._descriptor >= 0:
            seen = os.fstat(self._descriptor)
            # While it is open, no other file can be given its number.
            if self.path.exists() and os.path.samestat(seen, self.path.stat()) and seen.st_size >= self._end:
                return False
            self.close()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor, self._end = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644), 0
        return True


def _whole(data: bytes) -> int:
    """How much of this is whole batches: up to the last line that none of its batch follows."""
    end = data.rfind(b"\n") + 1
    while end and data[:end].endswith(_AND):
        end = data.rfind(b"\n", 0, end - 1) + 1
    return end
