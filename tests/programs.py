"""Python programs that tests start: what all of them import is imported once, by a process that forks for each.

`Program` and `run` are `subprocess.Popen` and `subprocess.run`, for commands that begin with this interpreter. To import
FastAPI, its like and our modules takes longer than what most programs do. A program is a child of the test's process, with its
own signals, exit code, streams and plugins. What a running interpreter can't be given (an option, another user, a terminal) is
left to `subprocess`, and so is what is about starts: entry points, installed distributions, workers of servers, main modules.
"""

from __future__ import annotations

import array
import atexit
import ctypes
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).parents[1]
_SUBREAPER = 36  # of prctl
_OPTIONS = {"stdin", "stdout", "stderr", "env", "cwd", "start_new_session", "text", "encoding"}


class Program(subprocess.Popen[str]):
    """A command that begins with this interpreter. `options` are those of `Popen`."""

    def __init__(self, command: Sequence[str | Path], **options: Any) -> None:
        self._words = [str(word) for word in command]
        self._new_session = bool(options.get("start_new_session"))
        self._forks = (
            sys.platform == "linux"
            and self._words[0] == sys.executable
            and _is_known(self._words[1:])
            and options.keys() <= _OPTIONS
        )
        super().__init__(self._words, **{"text": True, **options})

    def _execute_child(self, *given: Any) -> None:
        if not self._forks:
            super()._execute_child(*given)  # type: ignore[misc]
            return
        cwd, given_environment = given[5:7]
        environment = dict(os.environ if given_environment is None else given_environment)
        # Reading and writing ends of the three pipes; -1 where the program has what the test has.
        pipes = given[10:16]
        streams = [own if end == -1 else end for own, end in enumerate((pipes[0], pipes[3], pipes[5]))]
        request = {
            "words": self._words[1:],
            "cwd": str(cwd or Path.cwd()),
            "environment": environment,
            "new_session": self._new_session,
        }
        self.pid = _Forking.of(environment).fork(request, streams)
        self._child_created = True
        self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]


def run(
    command: Sequence[str | Path], *, check: bool = False, timeout: float = 180, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; returns what it wrote, as text. Raises as `subprocess.run` does."""
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with Program(command, **{**streams, **options}) as program:
        try:
            out, err = program.communicate(timeout=timeout)
        except BaseException:
            program.kill()
            raise
    done = subprocess.CompletedProcess(program.args, program.returncode, out, err)
    if check:
        done.check_returncode()
    return done


def _is_known(words: Sequence[str]) -> bool:
    """Whether this is a module, a text or a file, with no options of the interpreter but `-W error`."""
    rest = words[2:] if words[:2] == ["-W", "error"] else words
    return bool(rest) and (rest[0] in ("-m", "-c") or rest[0].endswith(".py"))


def _settings_of(environment: Mapping[str, str]) -> dict[str, str]:
    """What an interpreter reads as it starts, but for what can still be changed then."""
    read, changed = ("PYTHON", "LANG", "LC_", "LD_"), ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED")
    return {name: value for name, value in environment.items() if name.startswith(read) and name not in changed}


class _Forking:
    """The process that forks, which ends with this one."""

    def __init__(self, settings: Mapping[str, str]) -> None:
        self._lock = threading.Lock()
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            command = [sys.executable, "-m", "tests.forking", str(theirs.fileno())]
            environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
            self._process = subprocess.Popen(
                command,
                cwd=_ROOT,
                env={**environment, **settings},
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
        atexit.register(self._end)

    @staticmethod
    def of(environment: Mapping[str, str]) -> _Forking:
        """The one whose interpreter has been started with the settings of an environment."""
        return _forking(tuple(sorted(_settings_of(environment).items())), os.getpid())

    def fork(self, request: Mapping[str, Any], streams: Sequence[int]) -> int:
        """Have it start a program; returns the pid of what is a child of this process then."""
        with self._lock:
            _adopt(True)
            try:
                descriptors = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", streams))]
                self._ours.sendmsg([json.dumps(request).encode()], descriptors)
                pid = self._ours.recv(100)
            finally:
                _adopt(False)
            assert pid, "the process that forks has ended"
            return int(pid)

    def _end(self) -> None:
        self._ours.close()
        self._process.wait()


@cache
def _forking(settings: tuple[tuple[str, str], ...], _pid: int) -> _Forking:
    return _Forking(dict(settings))


def _adopt(yes: bool) -> None:
    """Whether what has lost its parent below this process becomes its child."""
    if ctypes.CDLL(None, use_errno=True).prctl(_SUBREAPER, int(yes), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")
