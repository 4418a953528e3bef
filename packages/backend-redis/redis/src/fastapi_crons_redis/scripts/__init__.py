"""The Lua scripts of the two stores: each is joined from its parts, and gets from Python what both languages need to agree on.

In a part, a name in capitals that it does not define itself is one of these: a limit of the rule, the position of a field, or a
key. They are put in as literals, and not as local variables, because a server makes those anew at each call.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from typing import get_args

from fastapi_crons._util.damage import EARLIEST, LATEST, LONGEST_NAME
from fastapi_crons.locking.base import ClaimRequest, Lease
from fastapi_crons.locking.rule import LIMITS
from fastapi_crons.run import MissedReason
from fastapi_crons.schedule.base import FROM_END
from fastapi_crons.state.figures import MOST_DAYS

#: The keys of the lock store, as `lock/store.lua` explains them.
LOCK_KEYS = (
    "jobs", "registrars", "leases", "holders", "instances", "beats", "cancels", "pauses", "registered", "layout",
)  # fmt: skip
#: The keys of the state store, as `history/records.lua` explains them.
HISTORY_KEYS = ("states", "running", "oldest", "layout", "successes", "failed", "missed", "days", "again", "backfills")
_UPKEEP = ("open", "prune", "prune_figures", "cut_back", "forget", "jobs", "index", "restore_states", "restore_figures")
_HISTORY_PARTS = {
    "write": ("cutting", "counting", "publish", "write"),
    "publish": ("publish",),
    **dict.fromkeys(("sums", "figured_jobs"), ("sums",)),
    **dict.fromkeys(("begin_backfill", "change_backfill", "backfills"), ("backfills",)),
    **dict.fromkeys(_UPKEEP, ("cutting", "counting", "read", "backfills", "upkeep")),
}
#: How long the ids of runs are: they are UUIDs.
_ID_LENGTH = 36
#: The fields of a job's record in Redis. Append only: older and newer scripts share the records.
RECORD = (
    "schedule", "timezone", "enabled", "function", "last_handled", "token", "since", "pause", "held", "settled_at",
    "arguments",
)  # fmt: skip


@cache
def lock_script() -> str:
    """The lock store: the rule, what may be read of a record, the store around the rule, and its operations."""
    reasons = ", ".join(f"{reason} = true" for reason in get_args(MissedReason))
    names = {
        **{name: str(limit) for name, limit in LIMITS.items()},
        "EARLIEST": str(EARLIEST),
        "LATEST": str(LATEST),
        "LONGEST_NAME": str(LONGEST_NAME),
        "FROM_END": f'"{FROM_END}"',
        "REASONS": f"({{{reasons}}})",
        **_keys(LOCK_KEYS),
        **_positions("", RECORD),
        **_positions("L_", Lease._fields),
        **_positions("C_", ClaimRequest._fields),
    }
    return _joined(names, "shared", "lock/rule", "lock/checks", "lock/store", "lock/operations")


@cache
def history_script(operation: str) -> str:
    """The part of the state store that does an operation: a server makes all functions of a script anew at each call."""
    names = {"MOST_DAYS": str(MOST_DAYS), "ID_LENGTH": str(_ID_LENGTH), **_keys(HISTORY_KEYS)}
    parts = _HISTORY_PARTS.get(operation, ("read",))
    return _joined(names, "shared", *(f"history/{part}" for part in ("records", *parts, "answer")))


def _keys(keys: Iterable[str]) -> dict[str, str]:
    return {key.upper(): f"KEYS[{place}]" for place, key in enumerate(keys, 1)}


def _positions(prefix: str, fields: Iterable[str]) -> dict[str, str]:
    return {prefix + field.upper(): str(place) for place, field in enumerate(fields, 1)}


def _joined(names: Mapping[str, str], *parts: str) -> str:
    """The parts as one script, in which each sees what the parts before it define."""
    text = "\n".join(files(__package__).joinpath(f"{part}.lua").read_text("utf-8") for part in parts)
    return re.sub(rf"\b(?:{'|'.join(names)})\b", lambda found: names[found[0]], text)
