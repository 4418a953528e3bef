"""The URL of a Redis server: each part is used, or refused by its name; no part is ignored."""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

NO_URL = (
    "this is not the URL of a Redis server; write redis://localhost:6379/0, rediss://…, unix://…, "
    "redis+sentinel://host:26379/service or redis+cluster://host:6379, with special characters of user and password "
    "percent-encoded"
)
Kind = Literal["server", "socket", "sentinel", "cluster"]
_KIND_OF: Mapping[str, Kind] = {
    "redis": "server",
    "rediss": "server",
    "unix": "socket",
    "redis+sentinel": "sentinel",
    "rediss+sentinel": "sentinel",
    "redis+cluster": "cluster",
    "rediss+cluster": "cluster",
}
_SENTINEL_PORT = 26_379
_YES, _NO = ("1", "true", "yes", "on"), ("0", "false", "no", "off")

Option = str | int | float | bool


@dataclass(frozen=True, slots=True)
class RedisUrl:
    """What a URL says. `places` are a server, the sentinels, or a node of the cluster."""

    kind: Kind
    secure: bool
    places: tuple[tuple[str, int], ...]
    path: str
    """The path of the socket, or the name of the sentinels' service."""
    database: int
    username: str | None
    password: str | None
    options: Mapping[str, Option]
    """As `redis.asyncio` takes them."""


def parse(url: str) -> RedisUrl:
    """Read a URL. Raises `ValueError`, which names the part and quotes nothing that may belong to a password."""
    try:
        parts = urlsplit(url)
    except ValueError:  # its text may quote a password that was taken for a host
        raise ValueError(NO_URL) from None
    kind = _KIND_OF.get(parts.scheme)
    if kind is None or parts.fragment or "@" in parts.path + parts.query:
        raise ValueError(NO_URL)
    secure = parts.scheme.startswith("rediss")
    options = _options(parts.query, kind, secure)
    username, password = (str(options.pop(name, "")) or None for name in ("username", "password"))
    given = options.pop("db", None)
    path, written = _path_and_database(parts, kind)
    if given is not None and written is not None and given != written:
        raise ValueError(f"the path says database {written}, and option 'db' says {given}; leave one of them out")
    database = next((number for number in (given, written) if number is not None), 0)
    if kind == "cluster" and database != 0:
        raise ValueError("a cluster has database 0 only; leave the database out")
    return RedisUrl(
        kind,
        secure,
        _places(parts, kind),
        path,
        int(database),
        unquote(parts.username) if parts.username else username,
        unquote(parts.password) if parts.password else password,
        options,
    )


def _path_and_database(parts: SplitResult, kind: Kind) -> tuple[str, int | None]:
    """The path of a socket or the name of a service, and the database where the path names one."""
    path = unquote(parts.path)
    if kind == "socket":
        if parts.hostname or len(path) < 2:
            raise ValueError("the path of the socket is missing; write unix:///run/redis.sock")
        return path, None
    service, number = "", path[1:]
    if kind == "sentinel":
        service, _, number = path[1:].partition("/")
        if not service:
            raise ValueError("the name of the service is missing; write redis+sentinel://host:26379/service")
    if number and not re.fullmatch(r"[0-9]{1,9}", number):
        raise ValueError("the database at the end of the path is not a number; write redis://localhost:6379/0")
    return service, int(number) if number else None


def _places(parts: SplitResult, kind: Kind) -> tuple[tuple[str, int], ...]:
    if kind == "socket":
        return ()
    if kind != "sentinel":
        try:
            port = parts.port
        except ValueError:  # as above
            port = 0
        if port == 0:
            raise ValueError(NO_URL)
        return ((unquote(parts.hostname or "localhost"), port or 6379),)
    places = []
    for place in parts.netloc.rpartition("@")[2].split(","):
        found = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([^:\[\]\s]+))(?::([0-9]{1,5}))?", place)
        port = int(found[3] or _SENTINEL_PORT) if found else 0
        if found is None or not 0 < port < 65_536:
            raise ValueError(
                "a sentinel's host and port can't be read; write redis+sentinel://host1:26379,host2:26379/service"
            )
        places.append((found[1] or found[2], port))
    return tuple(places)


def _options(query: str, kind: Kind, secure: bool) -> dict[str, Option]:
    options: dict[str, Option] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        read = _OPTIONS.get(name)
        # The rest of a password with a ? in it is taken for an option.
        shown = f"option {name!r}" if read or re.fullmatch(r"[a-z_]{3,40}", name) else "an option behind the ?"
        if read is None:
            raise ValueError(
                f"{shown} is unknown; the options are {', '.join(_OPTIONS)}; for any other, make a client in code"
            )
        if name in options:
            raise ValueError(f"{shown} is given twice")
        if name.startswith("ssl_") and not secure:
            raise ValueError(f"{shown} is only for TLS; write rediss:// instead of redis://")
        if name == "socket_keepalive" and kind == "socket":
            raise ValueError(f"{shown} is only for a host, not for a socket")
        try:
            options[name] = read(value)
        except ValueError as error:
            raise ValueError(f"{shown} {error}") from None
    return options


def _whole(least: int) -> Callable[[str], int]:
    def read(value: str) -> int:
        if not re.fullmatch(r"[0-9]{1,9}", value) or int(value) < least:
            raise ValueError(f"must be a whole number, {least} or more")
        return int(value)

    return read


def _seconds(value: str) -> float:
    if not re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,6})?", value) or float(value) == 0:
        raise ValueError("must be a number of seconds above 0")
    return float(value)


def _yes_or_no(value: str) -> bool:
    if value.lower() not in _YES + _NO:
        raise ValueError("must be true or false")
    return value.lower() in _YES


def _one_of(*allowed: str) -> Callable[[str], str]:
    def read(value: str) -> str:
        if value not in allowed:
            raise ValueError(f"must be one of {', '.join(allowed)}")
        return value

    return read


def _not_empty(value: str) -> str:
    if not value:
        raise ValueError("must not be empty")
    return value


def existing_file(value: str) -> str:
    """A file that can be read. Raises `ValueError`."""
    try:
        with Path(value).open("rb"):
            return value
    except OSError as error:
        raise ValueError(f"names {value!r}, which can't be read: {error.strerror or error}") from None


def authorities(value: str) -> str:
    """A file with certificates of authorities. Raises `ValueError`."""
    existing_file(value)
    try:
        ssl.create_default_context(cafile=value)
    except (ssl.SSLError, OSError):
        raise ValueError(f"names {value!r}, which holds no certificates in PEM form") from None
    return value


#: The options after the ?, and how each is read.
_OPTIONS: Mapping[str, Callable[[str], Option]] = {
    "db": _whole(0),
    "username": _not_empty,
    "password": _not_empty,
    "client_name": _not_empty,
    "protocol": lambda value: int(_one_of("2", "3")(value)),
    "socket_timeout": _seconds,
    "socket_connect_timeout": _seconds,
    "socket_keepalive": _yes_or_no,
    "health_check_interval": _whole(0),
    "max_connections": _whole(1),
    "decode_responses": _yes_or_no,
    "ssl_ca_certs": authorities,
    "ssl_certfile": existing_file,
    "ssl_keyfile": existing_file,
    "ssl_cert_reqs": _one_of("required", "optional", "none"),
    "ssl_check_hostname": _yes_or_no,
}
