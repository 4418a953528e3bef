"""Output: text that is safe on a terminal, tables, JSON, and progress."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from datetime import datetime, timezone
from threading import Lock, Timer
from typing import TYPE_CHECKING, TextIO

import typer

if TYPE_CHECKING:
    from types import TracebackType

    from rich.console import Console
    from rich.live import Live
    from rich.spinner import Spinner
    from rich.table import Table

#: Seconds after which the progress of a step is shown.
PATIENCE = 1.0
#: Columns with short cells, which are never folded.
_NOT_FOLDED = frozenset({"Last Run", "Next Run", "Status", "Source", "Version"})
#: The width of tables that are not for a terminal, wide enough for all.
_WIDE = 100_000


def shown(value: object) -> str:
    """A text as one line, with control characters and the like escaped."""
    from fastapi_crons._util.text import printable

    return printable(str(value))


def said(error: object) -> str:
    """The message of an error, as one line without secrets."""
    from fastapi_crons._util.hiding import without_secrets

    return shown(without_secrets(str(error)))


def shown_lines(text: str) -> str:
    """The same for a text of several lines."""
    return "\n".join(shown(line.expandtabs()) for line in text.splitlines())


def say(text: str) -> None:
    """Print lines to standard output."""
    typer.echo(_safe(text))


def warn(text: str) -> None:
    """Print lines to standard error."""
    typer.echo(_safe(text), err=True)


def _safe(text: str) -> str:
    """The lines with control characters and the like escaped, whatever they are made of."""
    return "\n".join(map(shown, text.split("\n")))


def show_cursor() -> None:
    """Show the cursor of a terminal, which a spinner may have hidden and can't show any more."""
    if sys.stderr.isatty():
        sys.stderr.write("\x1b[?25h")


def print_json(value: object) -> None:
    """Print a value as JSON."""
    typer.echo(json.dumps(value, indent=2))


def clock_time(instant: datetime | None, zone: str) -> str:
    """An instant on a zone's clock, to the second; a dash for none."""
    from zoneinfo import ZoneInfo

    return "-" if instant is None else instant.astimezone(ZoneInfo(zone)).strftime("%Y-%m-%d %H:%M:%S")


def with_z(instant: datetime | None) -> str | None:
    """An instant as in JSON: ISO 8601 in UTC with `Z`."""
    return None if instant is None else instant.astimezone(timezone.utc).isoformat().replace("+00:00", "Z")


def duration(seconds: float) -> str:
    """A duration in its largest unit."""
    for limit, size, unit in ((120, 1, "s"), (7_200, 60, "min"), (172_800, 3_600, "h")):
        if seconds < limit:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86_400:.0f} days"


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], caption: str | None = None) -> Table:
    """A table of texts. Long cells are folded, not cut."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    made = Table(box=box.SQUARE, caption=caption, caption_justify="left")
    for column in columns:
        made.add_column(column, overflow="fold", no_wrap=column in _NOT_FOLDED)
    for row in rows:
        made.add_row(*(Text(shown(cell)) for cell in row))
    return made


def console(*, stderr: bool = False) -> Console:
    """A console as wide as the terminal, or very wide where there is none."""
    from rich.console import Console

    is_terminal = (sys.stderr if stderr else sys.stdout).isatty()
    return Console(stderr=stderr, highlight=False, width=None if is_terminal else _WIDE)


def print_table(made: Table, narrower: Callable[[], Table] | None = None) -> None:
    """Print a table to standard output, or the narrower one if the terminal is too narrow."""
    target = console()
    with Progress() as progress:
        progress.begin("drawing the table")
        if narrower is not None and not _fits(made, target):
            made = narrower()
        with target.capture() as drawn:
            target.print(made)
    typer.echo(drawn.get(), nl=False)


def _fits(made: Table, target: Console) -> bool:
    return target.width == _WIDE or (
        made.__rich_measure__(target, target.options.update(width=_WIDE)).maximum <= target.width
    )


@contextmanager
def json_only(wanted: bool) -> Iterator[TextIO]:
    """Redirect whatever this process and its children print to standard error; yields the former standard output."""
    out = sys.stdout
    if not wanted:
        yield out
        return
    out.flush()
    with redirect_stdout(sys.stderr):
        try:
            descriptor, error_descriptor = out.fileno(), sys.stderr.fileno()
        except (OSError, AttributeError):  # no real files
            yield out
            return
        kept = os.dup(descriptor)
        os.dup2(error_descriptor, descriptor)
        try:
            with open(kept, "w", encoding="utf-8", closefd=False) as kept_out:
                yield kept_out
        finally:
            os.dup2(kept, descriptor)
            os.close(kept)


class Progress:
    """Shows on standard error which step is being done, where it takes longer than a second.

    On a terminal with a spinner, elsewhere as one line.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._timer: Timer | None = None
        self._live: Live | None = None
        self._spinner: Spinner | None = None
        self._what = ""

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def begin(self, what: str) -> None:
        """Begin the next step, and end the one before."""
        self.end()
        self._what = what
        self._timer = Timer(PATIENCE, self._show)
        self._timer.daemon = True
        self._timer.start()

    def tell(self, what: str) -> None:
        """Say how far the current step is. Where there is no terminal, only what is said when it begins to be shown."""
        with self._lock:
            self._what = what
            if self._spinner is not None:
                from rich.text import Text

                self._spinner.update(text=Text(what))

    def end(self) -> None:
        """End the current step."""
        if self._timer is not None:
            self._timer.cancel()
        with self._lock:
            self._timer = None
            if self._live is not None:
                self._live.stop()
                self._live = self._spinner = None

    def _show(self) -> None:
        with self._lock:
            if self._timer is None:
                return
            if not sys.stderr.isatty():
                warn(f"{self._what} …")
                return
            from rich.live import Live
            from rich.spinner import Spinner
            from rich.text import Text

            # Where both are on the same terminal, what a job prints goes above the spinner.
            above = sys.stdout.isatty()
            self._spinner = Spinner("dots", Text(self._what))
            self._live = Live(
                self._spinner,
                console=console(stderr=True),
                transient=True,
                redirect_stdout=above,
                redirect_stderr=above,
            )
            self._live.start()
