"""What an alert says."""

from __future__ import annotations

import re

from fastapi_crons import HookContext

#: How much of an error text is sent.
_LONGEST = 500
#: What a text names as a secret, and the value behind it.
_SECRET = re.compile(
    r"""((?:pass(?:word|wd|phrase)?|pwd|secret|token|credential|(?:api|access|private)[ _-]?key)s?\\*["']?\s*[:=]\s*)
        (?:\[[^\]]*\]?|\([^)]*\)?|\{[^}]*\}?|\\{1,4}"(?:(?!\\{1,4}").)*(?:\\{1,4}")?|"(?:\\.|[^"\\])*"?|'(?:\\.|[^'\\])*'?|[^\s,;&)}\]]+)""",
    re.IGNORECASE | re.VERBOSE | re.DOTALL,
)
#: Its value has a scheme in front, and parts: all goes to the end of the line.
_AUTHORIZATION = re.compile(r"""(authorization\\*["']?\s*[:=]\s*).+""", re.IGNORECASE)
_BEARER = re.compile(r"\b(bearer|basic)\s+[\w.~+/=-]{8,}", re.IGNORECASE)
_TEXTS = {
    "failed": "Job {job!r} {status}",
    "still_failing": "Job {job!r} {status}, for the {failures}th time in a row",
    "recovered": "Job {job!r} is well again, after {failures} failures in a row",
}


def message(event: str, context: HookContext, failures: int | None, *, error_text: bool) -> dict[str, object]:
    """An alert as JSON-serialisable values. `failures` is how many there were in a row; None where that is unknown."""
    status = context["status"].replace("_", " ")
    text = _TEXTS[event].format(job=context["job_name"], status=status, failures=failures)
    error = without_secrets(context["error"])[:_LONGEST] if error_text and context["error"] else None
    if context["error_type"] is not None:
        text += f": {context['error_type']}" + (f": {error}" if error else "")
    return {
        # The same for every try, and for two instances that report the same end.
        "id": f"{context['run_id']}/{event}",
        "event": event,
        "text": text,
        "job": context["job_name"],
        "tags": context["tags"],
        "status": context["status"],
        "failures": failures,
        "error_type": context["error_type"],
        "error": error,
        "run_id": context["run_id"],
        "scheduled_time": context["scheduled_time"],
        "instance_id": context["instance_id"],
    }


def without_secrets(text: str) -> str:
    """A text without the values of what it calls a password, token, key and the like. Passwords in URLs are gone already."""
    for pattern, kept in ((_AUTHORIZATION, r"\1***"), (_SECRET, r"\1***"), (_BEARER, r"\1 ***")):
        text = pattern.sub(kept, text)
    return text
