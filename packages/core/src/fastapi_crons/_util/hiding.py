"""Hides secrets in texts: passwords in addresses, values behind names such as `password=`, secrets of the settings.

It hides too much rather than too little. Each step reads a character a bounded number of times, so that no text holds up the
event loop.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from string import ascii_letters, digits
from urllib.parse import quote, unquote

HIDDEN = "***"

#: How many characters behind a cut are read, so that no half of an address or of a secret is left before it.
_MARGIN = 4096
#: A secret of so many characters is hidden wherever it appears; a shorter one ("test") only as a whole word.
_ANYWHERE = 8
#: Still shorter ones would hide half of every text: they are hidden only in addresses and behind names.
_SHORTEST = 4
#: How many secrets are known at a time; the oldest is forgotten first.
_MOST = 200

_SPACE = re.compile(r"[\s\x00-\x20]")
_OF_SCHEMES = frozenset(f"{ascii_letters}{digits}+.-")
_LONGEST_SCHEME = 40
#: Where in a text without spaces another address begins.
_NEXT = re.compile(r"[,;|\"'`<>()\[\]{}=](?=[A-Za-z][A-Za-z0-9+.-]{0,30}://)")
_QUOTES = "\"'`"
#: A host that can't be a user with a password, so that an `@` behind it belongs to a path: `https://x.org/@me`.
_WEB = ("http:", "https:", "ws:", "wss:")
_WEB_HOST = re.compile(r"//(?:[a-z0-9-]{1,63}\.){1,8}[a-z]{2,24}(?=[/?#])")
_PARAMETER = re.compile(r"[?&;#]([^=&?;#]{1,80})=")
_SECRET_PARAMETER = re.compile(r"pass|pwd|secret|token|key|auth|sig|cred|jwt", re.IGNORECASE)

#: A name that announces a secret, as in the text of a call, of an object, of a mapping, or of JSON in JSON.
_NAMED = re.compile(
    r"(?:pass(?:word|wd|phrase)|pwd|secret|(?<!fencing_)token|authorization|(?:api|access|private|secret)_?key)"
    r"(?:=|(?:\\{0,3}[\"'])[ \t]{0,2}[:=][ \t]{0,2})",
    re.IGNORECASE,
)
_PARTS_OF_NAMES = ("pass", "pwd", "secret", "token", "authorization", "key")
_QUOTED = re.compile(r"[bu]?(\\{0,3}[\"'])(?:(?!\1)(?:\\.|[^\n]))*", re.IGNORECASE)
_UNQUOTED = re.compile(
    r"(?:[^\s,)>\]}&;\"']|,(?! |[\w.-]{1,60}=|[\"']|\Z)|[)>\]}&;\"'](?![\s,;:.)>\]}\"']|[\w.-]{1,60}=|\Z))*"
)
_NO_SECRET = frozenset({"", "None", "null", "True", "False", "true", "false", HIDDEN})


#: The name of a value that is a secret.
_SECRET_NAME = re.compile(
    r"pass(word|wd|phrase)|\bpass\b|pwd|secret|token|credential|authorization|bearer|cookie|jwt|session|"
    r"(api|access|private)[-_ ]?key",
    re.IGNORECASE,
)


def announces_secret(name: str) -> bool:
    """Whether a value of this name is taken for a secret."""
    return _SECRET_NAME.search(name) is not None


class _Known:
    """The secrets in the settings of this process, in every spelling."""

    def __init__(self) -> None:
        self._secrets: tuple[str, ...] = ()
        self._pattern: re.Pattern[str] | None = None
        #: The length of the longest spelling.
        self.longest = 0

    def add(self, secret: str) -> None:
        if len(secret) >= _SHORTEST and secret not in self._secrets:
            self._set((*self._secrets, secret)[-_MOST:])

    def clear(self) -> None:
        self._set(())

    def hide(self, text: str) -> str:
        pattern = self._pattern
        return text if pattern is None else pattern.sub(HIDDEN, text)

    def _set(self, secrets: tuple[str, ...]) -> None:
        # The longest first: a secret can be part of another one.
        spellings = sorted({each for secret in secrets for each in _spellings(secret)}, key=len, reverse=True)
        self._secrets = secrets
        self._pattern = re.compile("|".join(map(_pattern_of, spellings))) if spellings else None
        self.longest = len(spellings[0]) if spellings else 0


def _spellings(secret: str) -> Iterator[str]:
    """A secret as it is, in a URL, and quoted by Python and by JSON."""
    for plain in {secret, unquote(secret)}:
        quoted = quote(plain), quote(plain, safe=""), repr(plain)[1:-1]
        in_json = json.dumps(plain)[1:-1], json.dumps(plain, ensure_ascii=False)[1:-1]
        yield from (each for each in (plain, *quoted, *in_json) if len(each) >= _SHORTEST)


def _pattern_of(spelling: str) -> str:
    escaped = re.escape(spelling)
    return escaped if len(spelling) >= _ANYWHERE else rf"(?<!\w){escaped}(?!\w)"


_known = _Known()


def know(secret: str | None) -> None:
    """Hide a secret in every text from now on: as it stands, percent-encoded and decoded, and quoted."""
    if secret:
        _known.add(secret)


def know_address(url: str) -> None:
    """The same for the password in an address, the user where there is no password, and secret parameters."""
    for secret in _secrets_in(url):
        know(secret)


def forget_all() -> None:
    """Forget every secret. For tests."""
    _known.clear()


def as_cause(error: BaseException) -> BaseException | None:
    """An error, to be the cause of one of ours and shown with it; None where a text in its chain contains a secret."""
    link: BaseException | None = error
    seen: set[int] = set()
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        try:
            text = str.__str__(str(link))
            link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
        except BaseException:  # an exception can do anything when it is looked at
            return None
        if without_secrets(text) != text:
            return None
    return error


def _secrets_in(url: str) -> Iterator[str]:
    for parameter in url.partition("?")[2].split("&"):
        name, _, value = parameter.partition("=")
        if _SECRET_PARAMETER.search(name):
            yield value
    scheme, separator, rest = url.partition("//")
    user, at, _ = (rest if separator else url).rpartition("@")
    if at:
        name, colon, password = user.partition(":")
        if colon:
            yield password
        elif scheme.lower() in _WEB:
            yield name


def without_known_secrets(text: str) -> str:
    """A text without the known secrets; all else stays."""
    return _known.hide(text)


def beginning_without_secrets(text: str, length: int) -> tuple[str, bool]:
    """The beginning of a text, with at least `length` characters to spare, without secrets; and whether that is all of it.

    The text may be of any length: only as much of it is read as is needed. No part of a secret is left at the end.
    """
    seen = text[: length + _MARGIN + _known.longest]
    if len(seen) == len(text):
        return without_secrets(text), True
    hidden = without_secrets(seen, cut_off=True)
    # Hiding has shortened the text, so that its end, where half of a known secret may stand, moves into view.
    return hidden[: max(0, len(hidden) - _known.longest)], False


def without_secrets(text: str, *, cut_off: bool = False) -> str:
    """A text with every secret in it hidden: in addresses, behind names such as `password=`, and those that are known.

    `cut_off` says that the text is only the beginning of a longer one.
    """
    text = _known.hide(text)
    if "//" in text:
        text = _in_addresses(text, cut_off)
    if "=" in text or ":" in text:
        lowered = text.lower()
        # Most texts have none of these, which this finds out much faster than the expression.
        if any(word in lowered for word in _PARTS_OF_NAMES):
            text = _behind_names(text)
    return text


def _in_addresses(text: str, cut_off: bool) -> str:
    pieces, done = [], 0
    at = text.find("//")
    while at >= 0:
        space = _SPACE.search(text, at)
        end = len(text) if space is None else space.start()
        pieces.append(text[done:at])
        pieces += _addresses(text, at, end, cut_off and space is None)
        done = end
        at = text.find("//", end)
    return "".join(pieces) + text[done:]


def _addresses(text: str, at: int, end: int, cut_off: bool) -> Iterator[str]:
    """The addresses in a part of the text without spaces, whose first begins at `//`, and what is between them."""
    borders = [found.end() for found in _NEXT.finditer(text, at, end)] + [end]
    for border in borders:
        scheme = _scheme_before(text, at)
        before = at - len(scheme) - 1
        close = _closing_quote(text, at, border, text[before] if before >= 0 and text[before] in _QUOTES else "")
        yield _address(scheme, text[at:close], cut_off and close == end)
        if border == end:
            yield text[close:end]
            return
        at = text.find("//", border)
        yield text[close:at]


def _scheme_before(text: str, at: int) -> str:
    """What stands before `//` as far as it can be a scheme, with its colon."""
    if text[at - 1 : at] != ":":
        return ""
    start = at - 1
    while start > max(0, at - _LONGEST_SCHEME) and text[start - 1] in _OF_SCHEMES:
        start -= 1
    return text[start:at]


def _closing_quote(text: str, at: int, end: int, quote: str) -> int:
    """Where an address ends that began behind a quotation mark; a mark inside of a password is none that closes."""
    while quote and (found := text.find(quote, at, end)) >= 0:
        if found + 1 >= end or text[found + 1] in ",;:.)]}>\"'`":
            return found
        at = found + 1
    return end


def _address(scheme: str, address: str, cut_off: bool) -> str:
    """An address from its `//` on, without secrets."""
    is_web = scheme.lower() in _WEB
    hidden = _without_parameters(address)
    if hidden.count("@") != address.count("@"):
        return f"//{HIDDEN}"  # where a secret begins and ends can't be known
    if is_web and _WEB_HOST.match(hidden):
        return hidden
    _, at, after = hidden.rpartition("@")
    if at:
        return f"//{HIDDEN}@{after}"
    return f"//{HIDDEN}" if cut_off else hidden


def _without_parameters(address: str) -> str:
    """An address with the values of secret parameters hidden; a value reaches to the next parameter."""
    pieces, done = [], 0
    hiding = False
    for found in _PARAMETER.finditer(address):
        if hiding and not found.group().startswith("&"):
            continue
        pieces.append(HIDDEN if hiding else address[done : found.start()])
        pieces.append(found.group())
        done = found.end()
        hiding = _SECRET_PARAMETER.search(found.group(1)) is not None and done < len(address)
    pieces.append(HIDDEN if hiding else address[done:])
    return "".join(pieces)


def _behind_names(text: str) -> str:
    pieces, done = [], 0
    found = _NAMED.search(text)
    while found is not None:
        value = _QUOTED.match(text, found.end())
        start = found.end() if value is None else value.end(1)
        value = value or _UNQUOTED.match(text, found.end())
        end = found.end() if value is None else value.end()
        pieces.append(text[done:start])
        pieces.append(text[start:end] if text[start:end] in _NO_SECRET else HIDDEN)
        done = end
        found = _NAMED.search(text, end)
    return "".join(pieces) + text[done:]
