"""The URL of a PostgreSQL database: the forms that stand in people's settings, and the place that it names."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit, urlunsplit

#: In two parts: what stands between // and @ is hidden in every text.
EXAMPLE = "postgresql:// and behind it user:password@host:5432/database"
NO_URL = (
    f"this is not the URL of a PostgreSQL database; write {EXAMPLE}, with special characters of user and password "
    "percent-encoded"
)
_NOT_ENCODED = (
    "user, password or database in the URL has an @, /, # or ? as it is; percent-encode it there: %40, %2F, %23 or %3F"
)
#: `postgresql+asyncpg://` and the like are what SQLAlchemy takes.
_DRIVERS = ("asyncpg", "psycopg", "psycopg_async", "psycopg2", "psycopg2cffi", "pg8000")
#: What URLs of databases begin with.
SCHEMES = ("postgresql", "postgres", *(f"postgresql+{driver}" for driver in _DRIVERS))
_ENDS_AUTHORITY = re.compile(r"[/?#]")
_TLS = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
#: Of `target_session_attrs`, those by which a server is found that takes writes.
_TAKE_WRITES = ("any", "read-write", "primary")
#: What SQLAlchemy and libpq take behind the ?, and the server does not. How long connecting may take is a setting of ours, and
#: connections that are dead are noticed by time limits of ours.
_LEFT_OUT = (
    "async_fallback",
    "connect_timeout",
    "fallback_application_name",
    "keepalives",
    "keepalives_count",
    "keepalives_idle",
    "keepalives_interval",
    "prepared_statement_cache_size",
    "sslcompression",
    "sslsni",
    "statement_cache_size",
    "tcp_user_timeout",
)
_FILES = ("sslrootcert", "sslcert", "sslkey", "sslcrl")


def parse(url: str) -> str:
    """The URL as the driver takes it. Raises `ValueError`, which quotes nothing that may belong to a password."""
    if _is_not_encoded(url):
        raise ValueError(_NOT_ENCODED)
    try:
        parts = urlsplit(url)
        port = parts.port if "," not in parts.netloc else None
    except ValueError:  # its text may quote a password that was taken for a port
        raise ValueError(NO_URL) from None
    if parts.scheme not in SCHEMES or parts.fragment:
        raise ValueError(NO_URL)
    if port == 0:
        raise ValueError("the URL of a PostgreSQL database has the port 0; leave it out for 5432")
    query = "&".join(_translated(parts.query))
    return urlunsplit(("postgresql", parts.netloc, parts.path, query, ""))


def _is_not_encoded(url: str) -> bool:
    """Whether an @ stands where none can be, as behind a password that has such a character in it."""
    scheme, _, rest = url.partition("://")
    authority = _ENDS_AUTHORITY.split(rest, maxsplit=1)[0]
    before, at, _ = rest.removeprefix(authority).partition("@")
    is_value = "=" in before.partition("?")[2]
    return scheme.lower() in SCHEMES and (authority.count("@") > 1 or (bool(at) and not is_value))


def _translated(query: str) -> Iterator[str]:
    """What stands behind the ?, by the names that the driver knows. What nobody knows here, the server is asked for."""
    named = dict(parse_qsl(query))
    for each in filter(None, query.split("&")):
        name, _, value = each.partition("=")
        if name == "ssl":
            if value not in _TLS:
                raise ValueError(f"in the URL, ssl is none of {', '.join(_TLS)}")
            yield f"sslmode={value}"
        elif name == "target_session_attrs" and value not in _TAKE_WRITES:
            raise ValueError(
                f"in the URL, target_session_attrs is none of {', '.join(_TAKE_WRITES)}; a server has to take writes"
            )
        elif name == "sslrootcert" and value == "system":
            raise ValueError(
                "sslrootcert=system in the URL can't be done by the driver; name the file with the authorities of the system, "
                "sslrootcert=/etc/ssl/certs/ca-certificates.crt for example"
            )
        elif name == "channel_binding":
            if value == "require" and "verify-full" not in (named.get("sslmode"), named.get("ssl")):
                raise ValueError(
                    "channel_binding=require in the URL can't be done by the driver; leave it out, and have the server "
                    "prove who it is: sslmode=verify-full"
                )
        elif name == "gssencmode":
            if value == "require":
                raise ValueError(
                    "gssencmode=require in the URL can't be done by the driver; leave it out, and use TLS: sslmode=verify-full"
                )
        elif name not in _LEFT_OUT:
            yield each


def identifier(name: str) -> str:
    """A name as SQL takes it, whatever is in it."""
    return '"' + name.replace('"', '""') + '"'


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
    host = named.get("host") or "localhost"
    return Place(hosts or (f"{host}:{named['port']}" if "port" in named else host), database, who)


def names_application(url: str) -> bool:
    """Whether a URL says itself by which name the server is to know its connections."""
    return any(name == "application_name" for name, _ in parse_qsl(urlsplit(url).query))


def missing_files(url: str) -> list[str]:
    """The files for TLS that a URL names and that can't be read, as `name=path`."""
    named = parse_qsl(urlsplit(url).query)
    return [f"{name}={path}" for name, path in named if name in _FILES and not os.access(path, os.R_OK)]
