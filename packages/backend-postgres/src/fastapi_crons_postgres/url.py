"""The URL of a PostgreSQL database: the forms that stand in people's settings, and the place that it names."""

from __future__ import annotations

import os
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit, urlunsplit

NO_URL = (
    "this is not the URL of a PostgreSQL database; write postgresql://user:password@host:5432/database, with special "
    "characters of user and password percent-encoded"
)
#: `postgresql+asyncpg://` and the like are what SQLAlchemy takes.
_SCHEMES = ("postgresql", "postgres")
_FILES = ("sslrootcert", "sslcert", "sslkey", "sslcrl")


def parse(url: str) -> str:
    """The URL as the driver takes it. Raises `ValueError`, which quotes nothing that may belong to a password."""
    try:
        parts = urlsplit(url)
        port = parts.port if "," not in parts.netloc else None
    except ValueError:  # its text may quote a password that was taken for a port
        raise ValueError(NO_URL) from None
    scheme, _, driver = parts.scheme.partition("+")
    if scheme not in _SCHEMES or (not driver and "+" in parts.scheme) or parts.fragment or "@" in parts.path:
        raise ValueError(NO_URL)
    if port == 0:
        raise ValueError("the URL of a PostgreSQL database has the port 0; leave it out for 5432")
    return urlunsplit(("postgresql", parts.netloc, parts.path, parts.query, ""))


class Place(NamedTuple):
    """Where a database is, for people: never a password."""

    host: str
    database: str
    user: str

    def __str__(self) -> str:
        return f"PostgreSQL at {self.host}, database {self.database!r}" + (f", user {self.user!r}" if self.user else "")


def place_of(url: str) -> Place:
    """What a URL names, as far as it says so itself."""
    parts = urlsplit(url)
    named = dict(parse_qsl(parts.query))
    user, _, hosts = parts.netloc.rpartition("@")
    who = unquote(user.partition(":")[0]) or named.get("user", "")
    database = unquote(parts.path.strip("/")) or named.get("dbname") or named.get("database") or who
    return Place(hosts or named.get("host") or "localhost", database, who)


def names_application(url: str) -> bool:
    """Whether a URL says itself by which name the server is to know its connections."""
    return any(name == "application_name" for name, _ in parse_qsl(urlsplit(url).query))


def missing_files(url: str) -> list[str]:
    """The files for TLS that a URL names and that can't be read, as `name=path`."""
    named = parse_qsl(urlsplit(url).query)
    return [f"{name}={path}" for name, path in named if name in _FILES and not os.access(path, os.R_OK)]
