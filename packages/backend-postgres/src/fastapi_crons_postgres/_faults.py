"""What an error of the driver or the server means, in one sentence that says what to do."""

from __future__ import annotations

import asyncio
import shlex
import ssl
from collections.abc import Sequence

import asyncpg

from fastapi_crons.errors import StoreError, StoreUnavailableError, StoreUnusableError, without_secrets
from fastapi_crons_postgres.settings import PREFIX
from fastapi_crons_postgres.url import Place, identifier

#: What a call on a connection may raise because of the server or the way to it.
ERRORS = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    asyncio.TimeoutError,
    EOFError,
)

#: What goes by when a transaction is begun again.
PASSING = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError)
_MISSING = "what is missing, and what to do, is said by: fastapi-crons postgres check"
#: By SQLSTATE: what to do about what trying again does not mend.
_UNUSABLE = {
    "28P01": f"check user and password in {PREFIX}URL",
    "28000": f"check the user in {PREFIX}URL, and what pg_hba.conf of the server lets in",
    "3D000": "create the database: createdb {database}",
    "3F000": f"create the schema, or set {PREFIX}SCHEMA to one that is there",
    "42501": "as a role that may make tables, run: fastapi-crons postgres migrate --grant {user} (or what fastapi-crons "
    "postgres sql --grant {user} prints)",
    "42704": f"check what stands behind the ? in {PREFIX}URL",
    "42P01": _MISSING,
    "42703": _MISSING,
}
#: The same, while a later call may succeed.
_UNAVAILABLE = {
    "53300": "raise max_connections, or put a pooler before it",
    "53100": "make room on its disk",
    "25006": f"it takes no writes: it is a replica, or was set to read only; name the primary in {PREFIX}URL",
    "55P03": "another session holds a lock: SELECT pid, pg_blocking_pids(pid), query FROM pg_stat_activity shows which one, "
    "as long as somebody waits for it",
}
_OF_POOLERS = "08P01"
#: The connection can't be used again.
_CLOSED = (
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    # Whether it takes writes is decided when it is made, by the server's settings and by the choice among hosts.
    asyncpg.ReadOnlySQLTransactionError,
    OSError,
    EOFError,
    asyncio.TimeoutError,
)


def is_broken(error: BaseException) -> bool:
    """Whether the connection on which it was raised is lost, or of no more use."""
    return isinstance(error, _CLOSED) and not (isinstance(error, asyncpg.QueryCanceledError) or is_about_data(error))


def is_about_data(error: BaseException) -> bool:
    """Whether the driver or the server refuses a value: trying again does not help."""
    by_driver = isinstance(error, asyncpg.InterfaceError) and isinstance(error, ValueError)
    return isinstance(error, asyncpg.DataError) or (
        by_driver and not isinstance(error, asyncpg.exceptions.ClientConfigurationError)
    )


def fault(error: BaseException, place: Place, missing_files: Sequence[str]) -> StoreError:
    """Our error for one of the driver's. `missing_files` are those that the URL names in vain."""
    code = getattr(error, "sqlstate", None) or ""
    reason = reason_of(error)
    advice = _refused_by_pooler(code, reason) or _UNUSABLE.get(code) or _about_connecting(error, missing_files)
    if code == "42501" and getattr(error, "severity_en", None) == "FATAL":  # when the connection was made
        advice = "let the role in: GRANT CONNECT ON DATABASE {database_in_sql} TO {user_in_sql}"
    if advice is not None:
        database, user = place.database or "NAME", place.user or "ROLE"
        advice = advice.format(
            database=shlex.quote(database),
            user=shlex.quote(user),
            database_in_sql=identifier(database),
            user_in_sql=identifier(user),
        )
        return StoreUnusableError(f"{place}: {reason}; {advice}")
    hint = _UNAVAILABLE.get(code)
    if code == "53300" and "too many connections for" in reason:
        hint = "raise the CONNECTION LIMIT that it has, or put a pooler before the server"
    if code == _OF_POOLERS and "no more connections" in reason:
        hint = "raise max_client_conn of the pooler"
    if hint is None and isinstance(error, OSError):
        hint = f"check that the server runs, and host and port in {PREFIX}URL"
    return StoreUnavailableError(f"{place}: {reason}" + ("" if hint is None else f"; {hint}"))


def _refused_by_pooler(code: str, reason: str) -> str | None:
    """What to do where PgBouncer, which has one code for all, lets nobody in with this URL."""
    if code != _OF_POOLERS:
        return None
    if "startup parameter" in reason:
        return (
            f"leave out what stands behind the ? in {PREFIX}URL, or name it in ignore_startup_parameters of the pooler"
        )
    if any(word in reason for word in ("authentication failed", "no such user", "no such database", "does not exist")):
        return f"check user, password and database in {PREFIX}URL, and whether the pooler and the server know them"
    return None


def reason_of(error: BaseException) -> str:
    """What went wrong, on one line and without secrets."""
    if isinstance(error, asyncio.TimeoutError) and not str(error):
        return "no answer in time"
    if isinstance(error, asyncpg.TargetServerAttributeNotMatched):
        return "none of the hosts takes writes, which target_session_attrs in the URL asks for"
    return " ".join(without_secrets(str(error)).split()) or type(error).__name__


def _about_connecting(error: BaseException, missing_files: Sequence[str]) -> str | None:
    """What to do about a URL, or a certificate, with which no connection can be made."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"name in {PREFIX}URL the host that its certificate is for, and the authority that signed it: ?sslrootcert=FILE"
    if isinstance(error, ssl.SSLError) or "rejected SSL upgrade" in str(error):
        return f"the server has no TLS that can be used; {PREFIX}URL asks for it by sslmode"
    if missing_files and isinstance(error, OSError):
        return f"{PREFIX}URL names a file that can't be read: {', '.join(missing_files)}"
    if isinstance(error, asyncpg.ClientConfigurationError):
        return f"mend {PREFIX}URL"
    return None
