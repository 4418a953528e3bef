"""Sessions: how browsers, which can't send bearer tokens, show that they have sent the token once.

A session is a cookie: when it ends and the name of who uses it, signed by the token. Nothing is stored, so that it holds on all
instances with the same token, and ends with the token.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import SecretStr
from starlette.requests import HTTPConnection

from fastapi_crons._util.text import printable, safe_text

#: How long (seconds) a session lasts.
LASTS = 12 * 60 * 60
#: How many characters of a name are kept.
_NAME_CHARS = 200
_LONGEST = 2_000
#: How many cookies of one name are looked at: routers below one another have one each.
_MOST = 4


@dataclass(frozen=True, slots=True)
class Session:
    """A genuine session."""

    ends: int
    """In Unix seconds."""
    name: str | None
    """Who uses it, as they said."""


class Sessions:
    """The sessions of one token."""

    def __init__(self, token: SecretStr) -> None:
        self._key = token.get_secret_value().encode()
        #: The name of the cookie: cookies of apps on other ports of this host, which have other tokens, are left alone.
        self.cookie = f"fastapi_crons_{self._signature('cookie')[:12]}"

    def begun(self, name: str | None, now: float) -> str:
        """The value of the cookie of a new session."""
        kept = safe_text(printable(name.strip()), _NAME_CHARS) if name else ""
        signed = f"{int(now) + LASTS}.{base64.urlsafe_b64encode(kept.encode()).decode().rstrip('=')}"
        return f"{signed}.{self._signature(signed)}"

    def sent(self, connection: HTTPConnection) -> list[str]:
        """The values of our cookie that a client sends; there may be one for each path."""
        found: list[str] = []
        for header in connection.headers.getlist("cookie"):
            for part in header.split(";"):
                name, _, value = part.strip().partition("=")
                if name == self.cookie:
                    found.append(value)
        return found[:_MOST]

    def genuine(self, values: list[str]) -> Iterator[Session]:
        """The sessions among some values that the token has signed, also those that are over."""
        for value in values:
            signed, _, signature = value.rpartition(".")
            sent = signature.encode("latin-1", "replace")
            if len(value) <= _LONGEST and hmac.compare_digest(sent, self._signature(signed).encode()):
                ends, _, name = signed.partition(".")
                decoded = base64.urlsafe_b64decode(name + "=" * (-len(name) % 4)).decode()
                yield Session(int(ends), decoded or None)

    def _signature(self, text: str) -> str:
        return hmac.new(self._key, b"fastapi_crons session " + text.encode(), "sha256").hexdigest()
