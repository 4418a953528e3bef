"""What a page says once after a change: one of these sentences, which a link names. A link can bring in no other text."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qsl, urlencode

from fastapi_crons_dashboard.words.times import counted

_SENTENCES = {
    "started": "The run has started.",
    "paused": "Paused on all instances, until it is resumed.",
    "resumed": "Resumed with its next tick.",
    "caught-up": "Resumed; the ticks of the pause are run as late ones.",
    "not-paused": "It was not paused.",
    "draining": "It claims nothing more from now on, or from its next heartbeat. What runs there goes on.",
    "cancelling": "The run is being cancelled. Its record will say how it ended.",
}
_OF_MANY = {
    "ran-many": "{} started.",
    "paused-many": "{} paused on all instances, until they are resumed.",
    "resumed-many": "{} resumed with their next ticks.",
}
#: The parameters of a link that name a sentence. Links to the same page leave them out.
PARAMETERS = ("said", "n")


def left_out(link: str) -> str:
    """The same link, to a page that says nothing once."""
    path, _, query = link.partition("?")
    given = parse_qsl(query, keep_blank_values=True)
    kept = [(name, value) for name, value in given if name not in PARAMETERS]
    return link if kept == given else f"{path}?{urlencode(kept)}".rstrip("?")


def sentence(query: Mapping[str, str]) -> str | None:
    """The sentence that the query of a link names; None where it names none."""
    name, number = query.get("said", ""), query.get("n", "")
    if name in _OF_MANY and number.isdecimal() and number.isascii() and len(number) < 6:
        return _OF_MANY[name].format(counted(int(number), "job"))
    return _SENTENCES.get(name)
