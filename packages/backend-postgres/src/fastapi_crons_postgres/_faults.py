"""What an error of the driver or the server means, in one sentence that says what to do."""

from __future__ import annotations

import asyncio
import ssl

import asyncpg

from fastapi_crons._util.hiding import without_secrets
from fastapi_crons.errors import StoreError, StoreUnavailableError, StoreUnusableError

#: What a call on a connection may raise because of the server or the way to it.
ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, asyncio.TimeoutError, EOFError)

#: By SQLSTATE, or its class: what to do about what trying again does not mend.
_UNUSABLE = {
    "28P01": "check user and password in {prefix}URL",
    "28000": "check the user in {prefix}URL, and what pg_hba.conf of the server lets in",
    "3D000": "create the database: createdb {database}",
    "3F000": "create the schema, or set {prefix}SCHEMA to one that is there",
    "42501": "as a role that may, run: fastapi-crons postgres migrate (or what fastapi-crons postgres sql prints)",
    "42P01": "make the tables: fastapi-crons postgres migrate",
    "42703": "bring the tables up to date: fastapi-crons postgres migrate",
}
#: The same, while a later call may succeed.
_UNAVAILABLE = {
    "53300": "raise max_connections, or put a pooler before it",
    "53100": "make room on its disk",
    "25006": "it takes no writes: it is a replica, or was set to read only",
    "55P03": "another instance holds the lock for too long",
}
#: The connection can't be used again.
_CLOSED = (
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    OSError,
    EOFError,
    asyncio.TimeoutError,
)


def is_broken(error: BaseException) -> bool:
    """Whether the connection on which it was raised is lost."""
    return isinstance(error, _CLOSED) and not isinstance(error, asyncpg.QueryCanceledError)


def fault(error: BaseException, place: str, database: str, prefix: str) -> StoreError:
    """Our error for one of the driver's. `place` and `database` are for people."""
    code = getattr(error, "sqlstate", None) or ""
    reason = reason_of(error)
    if code in _UNUSABLE:
        return StoreUnusableError(f"{place}: {reason}; {_UNUSABLE[code].format(prefix=prefix, database=database)}")
    advice = _about_tls(error, prefix)
    if advice is not None:
        return StoreUnusableError(f"{place}: {reason}; {advice}")
    hint = _UNAVAILABLE.get(code)
    return StoreUnavailableError(f"{place}: {reason}" + ("" if hint is None else f"; {hint}"))


def reason_of(error: BaseException) -> str:
    """What went wrong, on one line and without secrets."""
    if isinstance(error, asyncio.TimeoutError) and not str(error):
        return "no answer in time"
    return " ".join(without_secrets(str(error)).split()) or type(error).__name__


def _about_tls(error: BaseException, prefix: str) -> str | None:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"name in {prefix}URL the authority that signed its certificate: ?sslrootcert=FILE"
    if isinstance(error, ssl.SSLError) or "rejected SSL upgrade" in str(error):
        return f"the server has no TLS that can be used; {prefix}URL asks for it by sslmode"
    return None
