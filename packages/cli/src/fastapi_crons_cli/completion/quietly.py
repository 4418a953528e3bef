"""Completion prints nothing and never fails, whatever an app does on import."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from typing import TypeVar

T = TypeVar("T")


def quietly(ask: Callable[[], list[T]]) -> list[T]:
    """The answer, or nothing where there is none."""
    kept = sys.stdout, sys.stderr
    logging.disable()
    try:
        with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
            return ask()
    except BaseException:  # whatever an app does on import
        return []
    finally:
        sys.stdout, sys.stderr = kept
        logging.disable(logging.NOTSET)
