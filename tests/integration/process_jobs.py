"""Jobs that the tests of `run_in="process"` run: a child process imports this module."""

from __future__ import annotations

import contextvars
import logging
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from typing import NoReturn

from fastapi_crons import JobContext

logger = logging.getLogger(__name__)
tenant: contextvars.ContextVar[str] = contextvars.ContextVar("tenant", default="nobody")


class NotReadableError(Exception):
    """Can be pickled, and not be read again."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(first)


def where(context: JobContext) -> list[object]:
    return [os.getpid(), context.job, context["job_name"], tenant.get()]


async def on_a_loop(times: int = 2) -> int:
    return times * 21


def touch(path: str) -> None:
    open(path, "w").close()


def busy() -> NoReturn:
    logger.warning("busy from now on")
    while True:
        pass


def fails() -> NoReturn:
    raise LookupError("no such report")


def fails_unreadably() -> NoReturn:
    raise NotReadableError("one", "two")


def dies() -> NoReturn:
    os._exit(7)


def says(context: JobContext) -> None:
    logger.warning("a warning of %s", "the module")
    context.logger.info("a word of the context")
    print("lost")


def large() -> str:
    return "x" * 1_000_000


def lock() -> object:
    return threading.Lock()


def sleeps(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def _double(number: int) -> int:
    return number * 2


def has_children() -> list[object]:
    with multiprocessing.get_context("fork").Pool(1) as pool:
        doubled = pool.map(_double, [1, 2])
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as child:
        child.terminate()
    return [doubled, child.returncode]


class CodedError(Exception):
    """Takes other arguments than it keeps."""

    def __init__(self, *, code: int) -> None:
        super().__init__(f"code {code}")
        self.code = code


def fails_once(context: JobContext) -> str:
    if context.attempt == 1:
        raise CodedError(code=7)
    return "ok"


def fails_locally() -> NoReturn:
    class LocalError(Exception): ...

    raise LocalError("known nowhere else")


class UnmakeableError(Exception):
    """Can be pickled by its parts, and not be made of them."""

    def __new__(cls, *, code: int) -> UnmakeableError:
        return super().__new__(cls, code)

    def __init__(self, *, code: int) -> None:
        super().__init__(code)


def fails_to_be_made() -> NoReturn:
    raise UnmakeableError(code=7)


def uses_the_streams() -> list[object]:
    os.write(1, b"progress 10%\n")
    read = subprocess.run(["cat"], capture_output=True, check=True).stdout
    return [subprocess.run(["echo", "hello"], check=False).returncode, read.decode(), os.read(0, 10).decode()]


def leaves_a_child(file: str) -> None:
    with subprocess.Popen(["sleep", "60"]) as child, open(file, "w") as note:
        note.write(str(child.pid))
        note.flush()
        child.wait()


def takes_anything(value: object) -> None: ...
