"""Clients of redis.asyncio: made from a URL and settings, made once more, and asked what they were made with."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from redis.asyncio import BlockingConnectionPool, Redis, RedisCluster, SSLConnection, UnixDomainSocketConnection
from redis.asyncio import Connection as TCPConnection
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.backoff import NoBackoff

from .settings import RedisSettings
from .url import RedisUrl, parse

Client = Redis | RedisCluster

#: How many calls a store makes at a time: each is a whole batch, and a client's pool may be small.
CALLS_AT_A_TIME = 4
#: The options of a connection that another one to the same server needs, too.
_KEPT = (
    "host", "port", "path", "db", "username", "password", "credential_provider", "redis_connect_func", "protocol",
    "encoding", "socket_timeout", "socket_connect_timeout", "socket_keepalive",
)  # fmt: skip


def secrets_of(client: Client) -> Iterator[str]:
    """The passwords that a client was made with, which errors of redis-py may quote."""
    options = [
        client.connection_kwargs if isinstance(client, RedisCluster) else client.connection_pool.connection_kwargs
    ]
    manager = getattr(getattr(client, "connection_pool", None), "sentinel_manager", None)
    if manager is not None:
        options += [manager.connection_kwargs, manager.sentinel_kwargs]
    for known in options:
        yield from (known[name] for name in ("password", "ssl_password") if isinstance(known.get(name), str))


def place_of(client: Client) -> str:
    """Where a client leads, for people: host, port, database and user, never a password."""
    if isinstance(client, RedisCluster):
        return "Redis Cluster at " + ", ".join(f"{node.host}:{node.port}" for node in _nodes(client))
    pool = client.connection_pool
    known = pool.connection_kwargs
    user = f" as user {known['username']!r}" if known.get("username") else ""
    database = f"database {known.get('db') or 0}"
    if isinstance(pool, SentinelConnectionPool):
        return f"Redis service {pool.service_name!r} behind sentinels, {database}{user}"
    place = known.get("path") or f"{known.get('host', 'localhost')}:{known.get('port', 6379)}"
    secure = " with TLS" if issubclass(pool.connection_class, SSLConnection) else ""
    return f"Redis at {place}{secure}, {database}{user}"


def client_by(settings: RedisSettings, timeout: float) -> Client:
    """A client as the settings say; no call takes longer than `timeout` seconds."""
    url = parse(settings.url.get_secret_value())
    options = _options(settings, url, timeout)
    # A pool that waits where all connections are in use, instead of raising.
    pool_options = {"max_connections": 2 * CALLS_AT_A_TIME, "timeout": timeout, **options, "db": url.database}
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
    """What all connections are made with."""
    options: dict[str, Any] = {
        "socket_timeout": timeout,
        "socket_connect_timeout": min(settings.connect_timeout, timeout),
        "socket_keepalive": True,
        "retry": Retry(NoBackoff(), 0),  # `Connection` retries
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
        # In some versions a client does not check the name by default.
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


def copy_of(client: Client) -> Client:
    """A client like this one, with connections of its own. Raises `TypeError` or `AttributeError` for an unknown kind."""
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
    copy: Redis = Redis.from_pool(
        BlockingConnectionPool(connection_class=pool.connection_class, max_connections=2, **options)
    )
    return copy


def _nodes(cluster: RedisCluster) -> Collection[ClusterNode]:
    """Where a client enters a cluster."""
    given: Collection[ClusterNode] | None = getattr(cluster, "startup_nodes", None)
    return given or cluster.nodes_manager.startup_nodes.values()  # as clients before redis 7 have them


def _kept(options: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value
        for name, value in options.items()
        if value is not None and (name in _KEPT or (name.startswith("ssl_") and name != "ssl_context"))
    }
