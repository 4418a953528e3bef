"""Connection: how a store calls its server: few calls at a time, scripts by their hash, and errors as store errors."""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import json
import logging
import ssl
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import cache
from time import monotonic
from typing import Any, TypeVar

from pydantic import SecretStr
from redis import exceptions
from redis.asyncio import Redis, RedisCluster

from fastapi_crons._util.damage import Damage
from fastapi_crons._util.hiding import as_cause, know
from fastapi_crons.config import CronConfig
from fastapi_crons.errors import (
    ConfigurationError,
    StoreError,
    StoreUnavailableError,
    StoreUnusableError,
    without_secrets,
)

from .clients import CALLS_AT_A_TIME, Client, client_by, copy_of, place_of, secrets_of
from .settings import PREFIX, RedisSettings
from .url import parse

logger = logging.getLogger("fastapi_crons.redis")

T = TypeVar("T")

#: What clients raise where a server does not answer, or refuses a command.
ERRORS = (exceptions.RedisError, exceptions.RedisClusterException, OSError, asyncio.TimeoutError)
#: Seconds between two tries where a client's pool is full.
_ROOM_INTERVAL = 0.02


class Connection:
    """A client with few calls at a time, each of which is repeated once where its connection turns out to be broken.

    `open` raises `StoreUnusableError` where the server refuses the connection. Everything else raises `StoreUnavailableError`.
    """

    def __init__(self, client: Client, *, owned: bool, patience: float = 4.0, url: str | None = None) -> None:
        if not inspect.iscoroutinefunction(getattr(client, "execute_command", None)):
            raise ConfigurationError(
                f"a client of redis.asyncio is needed, not {type(client).__name__}: "
                "write redis.asyncio.from_url(…), or pass the URL itself"
            )
        self.client = client
        #: The URL that the client was made from, where it was made here.
        self.url = url
        for secret in secrets_of(client):
            know(secret)
        #: Whether the client was made here, for this connection alone.
        self.owned = owned
        #: How long (seconds) the server may take to answer at the start.
        self._patience = patience
        self._turn = self._turns()

    @classmethod
    def to(cls, server: Client | str, asked_by: str) -> Connection:
        """A connection by the URL of a server, otherwise as the environment says; or by a client, which is used as it is."""
        if not isinstance(server, str):
            return cls(server, owned=False)
        try:
            parse(server)
        except ValueError as error:
            raise ConfigurationError(f"{asked_by}: {error}") from None
        return cls.by_settings(RedisSettings(url=SecretStr(server)), CronConfig().store_timeout)

    @classmethod
    def by_settings(cls, settings: RedisSettings, timeout: float) -> Connection:
        """A connection as the settings say; no call takes longer than `timeout` seconds."""
        # A little less than the scheduler waits: then our error, which names the server, comes first.
        patience = timeout * 0.9
        return cls(client_by(settings, patience), owned=True, patience=patience, url=settings.url.get_secret_value())

    def clone(self) -> Connection | None:
        """Another connection to the same server, for another event loop; None where the client can't be copied."""
        try:
            return Connection(copy_of(self.client), owned=True, patience=self._patience)
        except (TypeError, AttributeError) as error:  # an unknown kind of client
            logger.debug("a %s can't be copied: %s", type(self.client).__name__, reason_of(error))
            return None

    async def open(self) -> None:
        """Connect, and raise where the server can't be reached or used."""
        self._turn = self._turns()
        try:
            # A connection takes several round trips to make: now, and not when the first ticks are due.
            await self._ping(CALLS_AT_A_TIME if self.owned else 1)
        except ERRORS as error:
            raise self._refused(error) from as_cause(error)

    async def _ping(self, times: int) -> None:
        async def ping() -> None:
            await asyncio.wait_for(asyncio.gather(*(self.client.ping() for _ in range(times))), self._patience)

        try:
            await ping()
        except RuntimeError:
            if isinstance(self.client, RedisCluster):
                raise
            # The client still has connections of an event loop that has ended.
            self.client.connection_pool.reset()  # type: ignore[no-untyped-call]
            await ping()

    async def warn_of_eviction(self, policies: Sequence[str], consequence: str) -> None:
        """Warn where the server, when it is full, evicts keys by one of these policies. Many hosted ones don't say."""
        try:
            found = await self.client.config_get("maxmemory-policy")
        except ERRORS:
            return
        policy = next((value for key, value in found.items() if "maxmemory-policy" in str(key)), "")
        policy = policy.decode() if isinstance(policy, bytes) else str(policy)
        if policy.startswith(tuple(policies)):
            logger.warning(
                "%s evicts keys when it is full (maxmemory-policy %s): %s; set it to noeviction, or use a server of its own "
                "for this store",
                self.name,
                policy,
                consequence,
            )

    async def close(self) -> None:
        """Disconnect a client that was made here; one that was handed in stays open."""
        if self.owned:
            await self.client.aclose()

    async def call(
        self, script: str, keys: Sequence[str], arguments: Sequence[str | int | float]
    ) -> bytes | list[bytes | None]:
        """Run a Lua script on the server. Its text is sent only where the server does not know it yet.

        The answer is bytes, also from a client that decodes: that one would fail on what is not text.
        """

        async def run() -> Any:
            rest = (len(keys), *keys, *arguments)
            try:
                return await self.client.execute_command("EVALSHA", sha, *rest, NEVER_DECODE=True)
            except exceptions.NoScriptError:
                return await self.client.execute_command("EVAL", script, *rest, NEVER_DECODE=True)

        sha = _sha1(script)
        answer: bytes | list[bytes | None] = await self.ask(run)
        return answer

    async def answer(
        self, script: str, keys: Sequence[str], arguments: Sequence[str | int | float], damage: Damage
    ) -> Any:
        """Run a script that answers in JSON. What it found damaged, by name, follows the answer, and is noted."""
        found = await self.call(script, keys, arguments)
        answer, *damaged = found if isinstance(found, list) else [found]
        for what in map(text_of, damaged):
            is_key = what.startswith("key ")
            damage.note(what, "it held another kind of value" if is_key else "it can't be what is on record")
        return json.loads(text_of(answer))

    def refuse_newer(self, namespace: str, found: int, needs: int, version: int) -> None:
        """Raise `StoreUnusableError` where the layout on record needs a newer version than ours."""
        if needs > version:
            raise StoreUnusableError(
                f"{self.name}, namespace {namespace!r}, was written by a newer version of fastapi-crons-redis (layout "
                f"{found}, which needs at least {needs}; this version has {version}); install that version again"
            )

    async def ask(self, request: Callable[[], Awaitable[T]]) -> T:
        """Make a request, and make it once more where the connection turns out to be broken."""
        async with self._turn:
            try:
                try:
                    return await request()
                except (exceptions.ConnectionError, exceptions.ReadOnlyError, OSError) as error:
                    if isinstance(error, (exceptions.AuthenticationError, exceptions.BusyLoadingError)):
                        raise
                    if "Too many connections" in str(error):  # the app uses this client, too
                        return await self._when_there_is_room(request)
                    # The others in the pool may be broken as well, or lead to a server that is not the master any more.
                    await self._drop_idle()
                    return await request()
            except ERRORS as error:
                await self._drop_idle()
                raise self._unavailable(error) from as_cause(error)

    @property
    def name(self) -> str:
        """Where this leads, for people: host, port, database and user, never a password."""
        return place_of(self.client)

    def _turns(self) -> asyncio.Semaphore:
        """As many calls at a time as leave the app half of the client's pool, which may refuse what it has no room for."""
        room = self.client.connection_pool.max_connections // 2 if isinstance(self.client, Redis) else CALLS_AT_A_TIME
        return asyncio.Semaphore(max(1, min(CALLS_AT_A_TIME, room)))

    async def _when_there_is_room(self, request: Callable[[], Awaitable[T]]) -> T:
        until = monotonic() + self._patience
        while True:
            await asyncio.sleep(_ROOM_INTERVAL)
            try:
                return await request()
            except exceptions.ConnectionError as error:
                if "Too many connections" not in str(error) or monotonic() >= until:
                    raise

    async def _drop_idle(self) -> None:
        """Close the connections that are not in use: they may be half-open."""
        if isinstance(self.client, RedisCluster):
            return
        try:
            await self.client.connection_pool.disconnect(inuse_connections=False)
        except ERRORS as error:
            logger.debug("closing idle connections: %s", reason_of(error))

    def _refused(self, error: Exception) -> StoreError:
        if isinstance(error, (exceptions.ResponseError, exceptions.AuthenticationError)) and not isinstance(
            error, (exceptions.ClusterDownError, exceptions.ReadOnlyError, exceptions.OutOfMemoryError)
        ):
            return StoreUnusableError(
                f"{self.name} refuses the connection: {reason_of(error)}; check {PREFIX}URL, user and password"
            )
        advice = _about_certificate(error)
        # A server without TLS does not answer its handshake; one with TLS closes on anything else.
        unanswered = isinstance(error, (asyncio.TimeoutError, exceptions.TimeoutError)) and "with TLS" in self.name
        if advice is None and (unanswered or "SSL" in str(error) or "Connection closed by server" in str(error)):
            advice = "rediss:// is for servers with TLS, redis:// for others"
        if advice is not None:
            return StoreUnusableError(f"{self.name} can't be used: {reason_of(error)}; {advice}")
        return self._unavailable(error)

    def _unavailable(self, error: Exception) -> StoreError:
        missing_right = isinstance(error, exceptions.NoPermissionError)
        advice = "; its ACL must allow the keys and channels of the namespace" if missing_right else ""
        return StoreUnavailableError(f"{self.name}: {reason_of(error)}{advice}")


def _about_certificate(error: BaseException) -> str | None:
    """What to do about a server's certificate; None where the error has another reason."""
    refused = next((found for found in _chain(error) if isinstance(found, ssl.SSLCertVerificationError)), None)
    if refused is None and "CERTIFICATE_VERIFY_FAILED" not in str(error):
        return None
    reason = str(error) if refused is None else refused.verify_message
    if "mismatch" in reason:
        return "connect by a name that its certificate is for"
    if "expired" in reason or "not yet valid" in reason:
        return "renew the server's certificate, or set the clock that is wrong"
    return f"name in {PREFIX}CA_FILE the authority that signed its certificate, or the certificate itself if it is self-signed"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def text_of(answer: bytes | None) -> str:
    """What a server sent as text; what is not UTF-8 is replaced."""
    return (answer or b"").decode("utf-8", "replace")


def reason_of(error: Exception) -> str:
    """What went wrong, without the secrets that a URL in it may have."""
    if isinstance(error, asyncio.TimeoutError) and not str(error):
        return "no answer in time"
    return without_secrets(str(error)) or type(error).__name__


@cache
def _sha1(script: str) -> str:
    """By what a server knows a script."""
    return hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()
