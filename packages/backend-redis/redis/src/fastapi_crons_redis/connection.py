"""Connection: how a Redis store reaches its server: clients with deadlines, scripts, and errors in our terms."""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import logging
import ssl
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from functools import cache
from time import monotonic
from typing import Any, TypeVar

from pydantic import SecretStr
from redis import exceptions
from redis.asyncio import BlockingConnectionPool, Redis, RedisCluster, SSLConnection, UnixDomainSocketConnection
from redis.asyncio import Connection as TCPConnection
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.backoff import NoBackoff

from fastapi_crons._util.hiding import as_cause, know, without_secrets
from fastapi_crons.config import CronConfig
from fastapi_crons.errors import ConfigurationError, StoreError, StoreUnavailableError, StoreUnusableError

from .settings import PREFIX, RedisSettings
from .url import RedisUrl, parse

logger = logging.getLogger("fastapi_crons.redis")

T = TypeVar("T")
Client = Redis | RedisCluster

#: What clients raise when a server is not there, or says no.
ERRORS = (exceptions.RedisError, exceptions.RedisClusterException, OSError, asyncio.TimeoutError)
#: How many calls of a store are under way at a time: each is a whole batch, and a client's pool may be small.
_CALLS_AT_A_TIME = 4
#: How often (seconds) it is tried again where a client's pool is full.
_ROOM_INTERVAL = 0.02
#: The options of a connection that another one to the same server needs, too.
_KEPT = (
    "host", "port", "path", "db", "username", "password", "credential_provider", "redis_connect_func", "protocol",
    "encoding", "socket_timeout", "socket_connect_timeout", "socket_keepalive",
)  # fmt: skip


class Connection:
    """A client, used with care: few calls at a time, each retried once where its connection had gone stale.

    Raises `StoreUnusableError` from `open` where the server refuses us, and `StoreUnavailableError` from everything else.
    """

    def __init__(self, client: Client, *, owned: bool, patience: float = 4.0) -> None:
        if not inspect.iscoroutinefunction(getattr(client, "execute_command", None)):
            raise ConfigurationError(
                f"a client of redis.asyncio is needed, not {type(client).__name__}: "
                "import redis.asyncio as redis; redis.from_url(…); or give its URL"
            )
        self.client = client
        #: The URL that the client was made from, where it was made here.
        self.url: str | None = None
        for secret in _secrets_of(client):
            know(secret)
        #: Whether the client was made here, for this connection alone.
        self.owned = owned
        #: How long (seconds) the server may take to answer at the start.
        self._patience = patience
        self._turn = self._turns()

    @classmethod
    def to(cls, server: Client | str, asked_by: str) -> Connection:
        """To a server by its URL, with what the environment says besides; or by a client, which is left as it is."""
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
        # A little less than the scheduler waits: then it is said which server does not answer.
        patience = timeout * 0.9
        connection = cls(_client(settings, patience), owned=True, patience=patience)
        connection.url = settings.url.get_secret_value()
        return connection

    def clone(self) -> Connection | None:
        """Another connection to the same server, for another event loop; None where the client can't be made again."""
        try:
            return Connection(_twin(self.client), owned=True, patience=self._patience)
        except (TypeError, AttributeError) as error:  # a client of a kind that we do not know
            logger.debug("a %s can't be made again: %s", type(self.client).__name__, reason_of(error))
            return None

    async def open(self) -> None:
        """Reach the server, and say so where it can't be used as it is."""
        self._turn = self._turns()
        try:
            # Making a connection takes several round trips: not at the moment when the first ticks are due.
            await self._ping(_CALLS_AT_A_TIME if self.owned else 1)
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
            # The client was used on an event loop that has ended since, and keeps that one's connections.
            self.client.connection_pool.reset()  # type: ignore[no-untyped-call]
            await ping()

    async def warn_of_eviction(self, policies: Sequence[str], consequence: str) -> None:
        """Warn of a server that drops keys by one of these policies when it is full. Many hosted ones don't tell."""
        try:
            found = await self.client.config_get("maxmemory-policy")
        except ERRORS:
            return
        policy = next((value for key, value in found.items() if "maxmemory-policy" in str(key)), "")
        policy = policy.decode() if isinstance(policy, bytes) else str(policy)
        if policy.startswith(tuple(policies)):
            logger.warning(
                "%s drops keys when it is full (maxmemory-policy %s): %s; set it to noeviction, or give this store a server "
                "of its own",
                self.name,
                policy,
                consequence,
            )

    async def close(self) -> None:
        """Disconnect a client that we made; one that was handed in goes on."""
        if self.owned:
            await self.client.aclose()

    async def call(
        self, script: str, keys: Sequence[str], arguments: Sequence[str | int | float]
    ) -> bytes | list[bytes | None]:
        """Run a Lua script on the server; its text travels only where the server does not know it yet.

        The answer comes as bytes, whatever the client does: one that decodes by itself fails on what is no text.
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

    async def ask(self, request: Callable[[], Awaitable[T]]) -> T:
        """Do a request, and do it once more where the connection turned out to be broken."""
        async with self._turn:
            try:
                try:
                    return await request()
                except (exceptions.ConnectionError, exceptions.ReadOnlyError, OSError) as error:
                    if isinstance(error, (exceptions.AuthenticationError, exceptions.BusyLoadingError)):
                        raise
                    if "Too many connections" in str(error):  # others use this client, too
                        return await self._when_there_is_room(request)
                    # Whatever lies in the pool may be as stale, or lead to a server that is no master any more.
                    await self._drop_idle()
                    return await request()
            except ERRORS as error:
                await self._drop_idle()
                raise self._unavailable(error) from as_cause(error)

    @property
    def name(self) -> str:
        """Where this leads, for people: host, port, database and user, never a password."""
        if isinstance(self.client, RedisCluster):
            return "Redis Cluster at " + ", ".join(f"{node.host}:{node.port}" for node in _nodes(self.client))
        pool = self.client.connection_pool
        known = pool.connection_kwargs
        user = f" as user {known['username']!r}" if known.get("username") else ""
        database = f"database {known.get('db') or 0}"
        if isinstance(pool, SentinelConnectionPool):
            return f"Redis service {pool.service_name!r} behind sentinels, {database}{user}"
        place = known.get("path") or f"{known.get('host', 'localhost')}:{known.get('port', 6379)}"
        secure = " with TLS" if issubclass(pool.connection_class, SSLConnection) else ""
        return f"Redis at {place}{secure}, {database}{user}"

    def _turns(self) -> asyncio.Semaphore:
        """No more calls at a time than leave others half of a pool that refuses what it has no room for."""
        room = self.client.connection_pool.max_connections // 2 if isinstance(self.client, Redis) else _CALLS_AT_A_TIME
        return asyncio.Semaphore(max(1, min(_CALLS_AT_A_TIME, room)))

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
        """Close the connections that nobody uses at the moment: they may be half-open."""
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
                f"{self.name} refuses us: {reason_of(error)}; check {PREFIX}URL, user and password"
            )
        advice = _about_certificate(error)
        # A server without TLS does not answer its handshake; one with TLS closes on anything else.
        unanswered = isinstance(error, (asyncio.TimeoutError, exceptions.TimeoutError)) and "with TLS" in self.name
        if advice is None and (unanswered or "SSL" in str(error) or "Connection closed by server" in str(error)):
            advice = "rediss:// is for servers with TLS, redis:// for others"
        if advice is not None:
            return StoreUnusableError(f"{self.name} can't be talked to: {reason_of(error)}; {advice}")
        return self._unavailable(error)

    def _unavailable(self, error: Exception) -> StoreError:
        missing_right = isinstance(error, exceptions.NoPermissionError)
        advice = "; its ACL must allow the keys and channels of the namespace" if missing_right else ""
        return StoreUnavailableError(f"{self.name}: {reason_of(error)}{advice}")


def _about_certificate(error: BaseException) -> str | None:
    """What to do about a server's certificate; None where the error is about something else."""
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


def reason_of(error: Exception) -> str:
    """What went wrong, without what a URL in it may give away."""
    if isinstance(error, asyncio.TimeoutError) and not str(error):
        return "no answer in time"
    return without_secrets(str(error)) or type(error).__name__


def _secrets_of(client: Client) -> Iterator[str]:
    """The passwords that a client was made with, which errors of redis-py may quote."""
    options = [
        client.connection_kwargs if isinstance(client, RedisCluster) else client.connection_pool.connection_kwargs
    ]
    manager = getattr(getattr(client, "connection_pool", None), "sentinel_manager", None)
    if manager is not None:
        options += [manager.connection_kwargs, manager.sentinel_kwargs]
    for known in options:
        yield from (known[name] for name in ("password", "ssl_password") if isinstance(known.get(name), str))


def _client(settings: RedisSettings, timeout: float) -> Client:
    url = parse(settings.url.get_secret_value())
    options = _options(settings, url, timeout)
    # Blocks where all are taken, instead of raising.
    pool_options = {"max_connections": 2 * _CALLS_AT_A_TIME, "timeout": timeout, **options, "db": url.database}
    if url.kind == "sentinel":
        return _behind_sentinels(settings, url, options)
    if url.kind == "socket":
        del pool_options["socket_keepalive"]
        pool = BlockingConnectionPool(connection_class=UnixDomainSocketConnection, path=url.path, **pool_options)
        return Redis.from_pool(pool)
    ((host, port),) = url.places
    if url.kind == "cluster":
        return RedisCluster(host=host, port=port, ssl=url.secure, **options)
    kind = SSLConnection if url.secure else TCPConnection
    return Redis.from_pool(BlockingConnectionPool(connection_class=kind, host=host, port=port, **pool_options))


def _options(settings: RedisSettings, url: RedisUrl, timeout: float) -> dict[str, Any]:
    """What every connection is made with."""
    options: dict[str, Any] = {
        "socket_timeout": timeout,
        "socket_connect_timeout": min(settings.connect_timeout, timeout),
        "socket_keepalive": True,
        "retry": Retry(NoBackoff(), 0),  # we do that ourselves, for whichever client
    }
    username = url.username or settings.username
    if username is not None:
        options["username"] = username
    if url.password is not None or settings.password is not None:
        options["password"] = url.password or (settings.password and settings.password.get_secret_value())
    if url.secure:
        options["ssl_cert_reqs"] = "required"
        if settings.ca_file is not None:
            options["ssl_ca_certs"] = settings.ca_file
    options.update(url.options)
    if url.secure:
        # A client's own default is not to look at the name in some versions.
        options.setdefault("ssl_check_hostname", options["ssl_cert_reqs"] != "none")
    return options


def _behind_sentinels(settings: RedisSettings, url: RedisUrl, options: dict[str, Any]) -> Redis:
    if url.secure:
        options["ssl"] = True
    shared = ("socket_timeout", "socket_connect_timeout", "retry")
    asked = {key: value for key, value in options.items() if key in shared or key.startswith("ssl")}
    if settings.sentinel_password is not None:
        asked["password"] = settings.sentinel_password.get_secret_value()
    sentinel = Sentinel(url.places, sentinel_kwargs=asked, **options)  # type: ignore[no-untyped-call]
    master: Redis = sentinel.master_for(url.path, db=url.database)
    return master


def _twin(client: Client) -> Client:
    """A client like this one, with connections of its own."""
    if isinstance(client, RedisCluster):
        nodes = [ClusterNode(node.host, node.port) for node in _nodes(client)]
        secure = issubclass(client.connection_kwargs.get("connection_class", object), SSLConnection)
        return RedisCluster(startup_nodes=nodes, ssl=secure, **_kept(client.connection_kwargs))
    pool = client.connection_pool
    if isinstance(pool, SentinelConnectionPool):
        manager = pool.sentinel_manager
        places = [
            (each.connection_pool.connection_kwargs["host"], each.connection_pool.connection_kwargs["port"])
            for each in manager.sentinels
        ]
        options = {**manager.connection_kwargs}
        sentinel = Sentinel(places, sentinel_kwargs={**manager.sentinel_kwargs}, **options)  # type: ignore[no-untyped-call]
        master: Redis = sentinel.master_for(pool.service_name, **_kept(pool.connection_kwargs))
        return master
    options = _kept(pool.connection_kwargs)
    twin: Redis = Redis.from_pool(
        BlockingConnectionPool(connection_class=pool.connection_class, max_connections=2, **options)
    )
    return twin


def _nodes(cluster: RedisCluster) -> Collection[ClusterNode]:
    """Where a cluster is entered."""
    given: Collection[ClusterNode] | None = getattr(cluster, "startup_nodes", None)
    return given or cluster.nodes_manager.startup_nodes.values()  # as clients before redis 7 have them


def _kept(options: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value
        for name, value in options.items()
        if value is not None and (name in _KEPT or (name.startswith("ssl_") and name != "ssl_context"))
    }


@cache
def _sha1(script: str) -> str:
    """By what a server knows a script."""
    return hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()
