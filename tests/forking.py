"""The process that imports once what most programs import, and forks for each that a test starts. See `programs.py`."""

from __future__ import annotations

import array
import builtins
import gc
import json
import os
import runpy
import socket
import sys
import time
import warnings
from importlib import import_module
from importlib.util import find_spec
from io import TextIOWrapper
from multiprocessing import process
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

#: What most programs import of others, each where it is installed, and of us. Nothing of it does anything as it is imported.
LIBRARIES = (
    "aiosqlite",
    "asyncpg",
    "croniter",
    "fastapi",
    "jinja2",
    "packaging.requirements",
    "pluggy",
    "pydantic.v1",
    "pydantic_settings",
    "redis.asyncio",
    "sqlalchemy.ext.asyncio",
    "sqlite3",
    "typer",
    "uvicorn",
    "uvicorn.lifespan.on",
    "uvicorn.loops.auto",
    "uvicorn.protocols.http.auto",
    "uvicorn.protocols.websockets.auto",
)
OURS = (
    "fastapi_crons.api.router",
    "fastapi_crons.engine.engine",
    "fastapi_crons.management.management",
    "fastapi_crons_cli.main",
    "fastapi_crons_dashboard.router",
    "fastapi_crons_sqlite.lock",
    "fastapi_crons_sqlite.state",
)
_LONGEST, _STREAMS = 1_000_000, 3


def serve(connection: socket.socket) -> dict[str, Any]:
    """Fork for each request; returns in a process that is the program of one. Ends with the other side."""
    while True:
        descriptors = array.array("i")
        text, ancillary, _, _ = connection.recvmsg(_LONGEST, socket.CMSG_SPACE(_STREAMS * descriptors.itemsize))
        if not text:
            sys.exit()
        for _, _, given in ancillary:
            descriptors.frombytes(given)
        reading, writing = os.pipe()
        between = os.fork()
        if between == 0:
            parent = os.getpid()
            program = os.fork()
            if program == 0:
                while os.getppid() == parent:
                    time.sleep(0.001)
                for stream, descriptor in enumerate(descriptors):
                    os.dup2(descriptor, stream)
                connection.detach()
                os.closerange(3, os.sysconf("SC_OPEN_MAX"))
                request: dict[str, Any] = json.loads(text)
                return request
            os.write(writing, str(program).encode())
            # Its child has no parent any more, and becomes one of the test's process.
            os._exit(0)
        os.waitpid(between, 0)
        connection.send(os.read(reading, 100))
        for descriptor in (reading, writing, *descriptors):
            os.close(descriptor)


def become(request: dict[str, Any]) -> None:
    """Run a program as an interpreter does that has just started."""
    if request["new_session"]:
        os.setsid()
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.dont_write_bytecode = bool(os.environ.get("PYTHONDONTWRITEBYTECODE"))
    _open_streams(buffered=not os.environ.get("PYTHONUNBUFFERED"))
    sys.excepthook = _show
    process.ORIGINAL_DIR = request["cwd"]  # type: ignore[attr-defined]
    words = request["words"]
    if words[:2] == ["-W", "error"]:
        warnings.simplefilter("error")
        sys.warnoptions.append("error")
        words = words[2:]
    added = [part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part]
    main = ModuleType("__main__")
    main.__builtins__ = builtins  # type: ignore[attr-defined]
    sys.modules["__main__"] = main
    if words[0] == "-m":
        sys.path[:0] = [request["cwd"], *added]
        sys.argv = ["-m", *words[2:]]
        runpy._run_module_as_main(words[1])  # type: ignore[attr-defined]
    elif words[0] == "-c":
        sys.path[:0] = ["", *added]
        sys.argv = ["-c", *words[2:]]
        exec(compile(words[1], "<string>", "exec"), vars(main))
    else:
        sys.path[:0] = [str(Path(words[0]).resolve().parent), *added]
        sys.argv = words
        main.__file__ = str(Path(words[0]).absolute())
        exec(compile(Path(words[0]).read_bytes(), main.__file__, "exec"), vars(main))


def _open_streams(*, buffered: bool) -> None:
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        before, mode = getattr(sys, name), "rb" if name == "stdin" else "wb"
        raw = open(descriptor, mode, -1 if buffered or name == "stdin" else 0, closefd=False)
        stream = TextIOWrapper(
            raw,
            encoding=before.encoding,
            errors=before.errors,
            line_buffering=before.line_buffering,
            write_through=not buffered,
        )
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def _show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Show an error without what runs here before the program does."""
    frames, mine = trace, False
    while frames is not None and (not mine or frames.tb_frame.f_code.co_filename == __file__):
        mine = mine or frames.tb_frame.f_code.co_filename == __file__
        frames = frames.tb_next
    sys.__excepthook__(kind, error.with_traceback(frames), frames)


if __name__ == "__main__":
    # What this process has been started by is nothing that the programs find.
    sys.path.remove(str(Path.cwd()))
    for library in (*LIBRARIES, *OURS):
        if find_spec(library.partition(".")[0]) is not None:
            import_module(library)
    for name in [name for name in sys.modules if name.partition(".")[0] == "tests"]:
        del sys.modules[name]
    gc.freeze()
    become(serve(socket.socket(fileno=int(sys.argv[1]))))
