"""Part: what is started and stopped as one of many, and what health should know of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

#: How many names a finding lists.
_NAMES = 5


class Finding(NamedTuple):
    """Something that an operator should look at."""

    text: str
    """One sentence, without secrets."""
    failure: bool = False
    """Whether work is not done because of it."""
    cause: str = ""
    """The text of the error behind it, which not everybody is shown."""


class Part:
    """A long-lived part. All parts are started in one order, and stopped in the reverse one.

    Made, started and stopped on one event loop. What a part does not need is left as it is here.
    """

    async def startup(self) -> None:
        """Begin. Where it raises, it is called again later, or `shutdown` is called."""

    def quiesce(self) -> None:
        """Begin nothing new: a stop follows soon. May be called more than once."""

    async def shutdown(self, timeout: float) -> None:
        """End. `timeout` (seconds) bounds each thing that a store is asked for."""

    def findings(self) -> Iterable[Finding]:
        """What an operator should look at; asks no store."""
        return ()


def listed(names: Sequence[str]) -> str:
    """Names for a finding: the first few, and how many more there are."""
    shown = ", ".join(map(repr, names[:_NAMES]))
    return shown if len(names) <= _NAMES else f"{shown} and {len(names) - _NAMES} more"
