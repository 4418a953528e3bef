"""The entry point of `fastapi-crons`: Ctrl-C ends it without a traceback from the start."""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import suppress
from types import FrameType


def main() -> None:
    """Run the command line."""
    _on_interrupt(signal.SIG_DFL)  # nothing needs cleaning up while modules are imported
    from fastapi_crons_cli.main import main as run

    _on_interrupt(interrupted)
    run()


def interrupted(number: int, frame: FrameType | None) -> None:
    """The handler of Ctrl-C: raises, so that everything is closed; another Ctrl-C ends the process at once."""
    signal.signal(number, signal.SIG_DFL)
    raise KeyboardInterrupt


def _on_interrupt(handler: signal.Handlers | Callable[[int, FrameType | None], None]) -> None:
    with suppress(ValueError):  # in another thread than the main one
        signal.signal(signal.SIGINT, handler)
