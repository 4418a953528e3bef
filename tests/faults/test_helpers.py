"""The private Redis and the proxy do what tests of faults rely on."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.faults.proxy import Proxy
from tests.faults.redis_server import (
    HOST,
    SAYS_NOTHING_OF_ITSELF,
    RedisServer,
    Sentinel,
    needs_redis,
)
from tests.support import until

pytestmark = [pytest.mark.slow, needs_redis]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture
def proxy(server: RedisServer) -> Iterator[Proxy]:
    with Proxy(server.port) as running:
        yield running


@pytest.fixture
def client(server: RedisServer, proxy: Proxy) -> Iterator[redis.Redis]:
    """A client behind the proxy that tries once only, and sends nothing but what it's told to."""
    with redis.Redis.from_url(
        server.url_at(proxy.port), protocol=2, **SAYS_NOTHING_OF_ITSELF, socket_timeout=1, retry=Retry(NoBackoff(), 0)
    ) as connected:
        yield connected


def test_stopped_killed_and_started_again() -> None:
    with RedisServer() as server:
        port, pid, folder = server.port, server.pid, server.folder
        server.cli("SET", "key", "value")
        assert server.cli("GET", "key") == "value"
        server.stop()
        with pytest.raises(redis.ConnectionError):
            server.cli("PING")
        server.start()
        assert server.port == port
        assert server.pid != pid
        assert server.cli("GET", "key") is None  # nothing was kept
        server.kill()
        assert not server.alive
        server.restart()
        assert redis.Redis.from_url(server.url).ping()
    assert not server.alive
    assert not folder.exists()


@pytest.mark.parametrize("fsync", ["always", "everysec"])
def test_an_append_only_file_outlives_a_kill(fsync: Literal["always", "everysec"], tmp_path: Path) -> None:
    with RedisServer(tmp_path / "redis", appendonly=fsync) as server:
        server.cli("SET", "key", "value")
        server.kill()
        server.restart()
        assert server.cli("GET", "key") == "value"


def test_saved_only_if_asked(tmp_path: Path) -> None:
    with RedisServer(tmp_path / "redis", save="3600 1") as server:
        server.cli("SET", "key", "value")
        server.restart()
        assert server.cli("GET", "key") == "value"


def test_paused_and_resumed() -> None:
    with RedisServer() as server:
        server.pause()
        with redis.Redis.from_url(server.url, socket_timeout=0.3, retry=Retry(NoBackoff(), 0)) as client:
            with pytest.raises(redis.TimeoutError):
                client.ping()
            server.resume()
            assert client.ping()
        server.pause()
    assert not server.alive


def test_password_memory_and_counted_commands() -> None:
    with RedisServer(password='a b"c@d/', maxmemory="3mb", maxmemory_policy="allkeys-lru") as server:
        with redis.Redis.from_url(server.url) as client:
            client.ping()
            before = server.commands_processed()
            assert server.commands_processed() == before
            for _ in range(3):
                client.ping()
            assert server.commands_processed() == before + 3
        with redis.Redis(port=server.port, retry=Retry(NoBackoff(), 0)) as stranger:
            with pytest.raises(redis.AuthenticationError):
                stranger.ping()
        assert server.cli("CONFIG", "GET", "maxmemory-policy") == ["maxmemory-policy", "allkeys-lru"]
        assert server.cli("INFO", "memory")["maxmemory"] == 3 * 1024**2


def test_cluster_of_one_node() -> None:
    with RedisServer(cluster=True) as server:
        with redis.RedisCluster.from_url(server.url) as client:
            assert client.set("key", "value")
            assert client.get("key") == b"value"
        with pytest.raises(redis.ResponseError, match="same slot"):
            server.cli("MGET", "a", "b")


def test_sentinel_makes_the_replica_the_primary() -> None:
    with RedisServer(password="secret") as primary:
        primary.cli("SET", "key", "value")
        with RedisServer(password="secret", replica_of=primary) as replica, Sentinel(primary) as sentinel:
            assert replica.cli("GET", "key") == "value"
            assert sentinel.primary() == (HOST, primary.port)
            primary.kill()
            until(lambda: sentinel.primary() == (HOST, replica.port), what="a failover", not_yet=redis.RedisError)
            assert replica.cli("SET", "key", "other")


def test_delay_keeps_the_order(proxy: Proxy, client: redis.Redis) -> None:
    client.ping()
    proxy.delay = 0.1
    began = time.monotonic()
    assert client.echo("hello") == b"hello"
    assert time.monotonic() - began >= 0.2


def test_reset(proxy: Proxy, client: redis.Redis) -> None:
    with socket.create_connection((proxy.host, proxy.port), timeout=5) as plain:
        plain.sendall(b"PING\r\n")
        assert plain.recv(100) == b"+PONG\r\n"
        assert proxy.reset_all() == 1
        with pytest.raises(ConnectionResetError):
            plain.recv(100)
    assert proxy.connections == 0
    assert client.ping()
    proxy.reset_every(0.05)
    until(lambda: proxy.connections == 0, what="a reset")
    proxy.reset_every(None)
    client.ping()
    time.sleep(0.2)
    assert proxy.connections == 1


def test_refused(proxy: Proxy, client: redis.Redis) -> None:
    client.ping()
    proxy.refuse = True
    client.ping()  # on the connection that it has
    proxy.reset_all()
    for _ in range(2):
        with pytest.raises(redis.ConnectionError):
            client.ping()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((proxy.host, proxy.port), timeout=5)
    proxy.refuse = False
    assert client.ping()


def test_a_server_that_is_down_breaks_connections() -> None:
    with RedisServer() as server, Proxy(server.port) as proxy:
        server.kill()
        with redis.Redis(port=proxy.port, socket_timeout=5, retry=Retry(NoBackoff(), 0)) as client:
            with pytest.raises(redis.ConnectionError):
                client.ping()
            server.restart()
            assert client.ping()


def test_silent(server: RedisServer, proxy: Proxy, client: redis.Redis) -> None:
    client.ping()
    proxy.silent = True
    with pytest.raises(redis.TimeoutError):
        client.set("silent", "1")
    with socket.create_connection((proxy.host, proxy.port), timeout=0.2) as plain:
        plain.sendall(b"PING\r\n")
        with pytest.raises(TimeoutError):
            plain.recv(100)
        proxy.silent = False
        plain.sendall(b"PING\r\n")
        with pytest.raises(TimeoutError):  # it has lost a request: no answer can be to the right one
            plain.recv(100)
    assert server.cli("EXISTS", "silent") == 0
    assert client.ping()  # the client gave up the old connection


def test_dropped_replies(server: RedisServer, proxy: Proxy, client: redis.Redis) -> None:
    server.cli("DEL", "dropped")
    proxy.drop_replies(2, to="incr")
    client.ping()
    for done in (1, 2):
        with pytest.raises(redis.ConnectionError):
            client.incr("dropped")
        assert server.cli("GET", "dropped") == str(done)
    assert client.incr("dropped") == 3
    assert proxy.dropped == 2


def test_a_pipeline_whose_reply_is_dropped_is_done_to_the_end(
    server: RedisServer, proxy: Proxy, client: redis.Redis
) -> None:
    client.ping()
    proxy.drop_replies(1)
    pipeline = client.pipeline(transaction=False)
    for number in range(5000):
        pipeline.set(f"pipeline:{number % 10}", "x" * 100 + str(number))
    with pytest.raises(redis.ConnectionError):
        pipeline.execute()
    until(
        lambda: str(server.cli("GET", "pipeline:9")).endswith("4999"),
        5,
        "all of the pipeline",
        not_yet=redis.RedisError,
    )
