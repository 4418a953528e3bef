"""The URL of a PostgreSQL database: the forms that stand in people's settings, and the place that it names."""

from __future__ import annotations

from urllib.parse import parse_qsl, unquote, urlsplit, urlunsplit

NO_URL = (
    "this is not the URL of a PostgreSQL database; write postgresql://user:password@host:5432/database, with special "
    "characters of user and password percent-encoded"
)
#: `postgresql+asyncpg://` and the like are what SQLAlchemy takes.
_SCHEMES = ("postgresql", "postgres")


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


def place_of(url: str) -> str:
    """The database and where it is, for people: never a password."""
    parts = urlsplit(url)
    named = dict(parse_qsl(parts.query))
    user, _, hosts = parts.netloc.rpartition("@")
    who = unquote(user.partition(":")[0]) or named.get("user", "")
    database = unquote(parts.path.strip("/")) or named.get("dbname") or named.get("database") or who
    where = hosts or named.get("host") or "localhost"
    return f"PostgreSQL at {where}, database {database!r}" + (f", user {who!r}" if who else "")
