"""TLS to Redis: the server must be who it says it is, and what is wrong with its certificate is said."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
import trustme
from redis.asyncio import Redis, RedisCluster
from redis.asyncio.sentinel import SentinelConnectionPool

from fastapi_crons import CronConfig, Crons
from fastapi_crons.errors import StoreError, StoreUnusableError
from fastapi_crons_redis import RedisStateBackend
from fastapi_crons_redis.connection import Connection
from tests.faults.redis_server import HOST, RedisServer, Sentinel, needs_redis
from tests.support import nothing

pytestmark = needs_redis


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Handshakes take long on a busy machine."""
    monkeypatch.setenv("CRON_STORE_TIMEOUT", "60")


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(path)
    monkeypatch.setenv("CRON_REDIS_CA_FILE", str(path))
    return path


@asynccontextmanager
async def tls_before(port: int, certificate: trustme.LeafCert) -> AsyncIterator[int]:
    """A port that speaks TLS with this certificate, and passes on what it is told."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        their_reader, their_writer = await asyncio.open_connection(HOST, port)
        await asyncio.gather(copy(reader, their_writer), copy(their_reader, writer))

    server = await asyncio.start_server(serve, HOST, 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def started(url: str) -> None:
    crons = Crons(state_backend=RedisStateBackend(url), config=CronConfig())
    crons.cron("0 0 1 1 *", name="job")(nothing)
    try:
        await crons.start()
        assert (await crons.run_job("job")).status == "completed"
    finally:
        await crons.stop()


async def test_a_server_with_a_certificate_for_its_host_is_used(
    redis_server: RedisServer, authority: trustme.CA, ca_file: Path
) -> None:
    async with tls_before(redis_server.port, authority.issue_cert("localhost")) as port:
        await started(f"rediss://localhost:{port}/0")


@pytest.mark.parametrize("kind", ["rediss", "rediss+cluster"])
async def test_another_host_s_certificate_is_refused(
    redis_server: RedisServer, authority: trustme.CA, ca_file: Path, kind: str
) -> None:
    async with tls_before(redis_server.port, authority.issue_cert("other.example")) as port:
        with pytest.raises(StoreError, match=r"(?i)mismatch") as refused:
            await started(f"{kind}://localhost:{port}")
    assert "connect by a name that its certificate is for" in str(refused.value)
    assert "redis:// for others" not in str(refused.value)


async def test_another_host_s_certificate_is_refused_of_a_sentinel(authority: trustme.CA, ca_file: Path) -> None:
    with RedisServer() as primary, Sentinel(primary) as sentinel:
        async with tls_before(sentinel.port, authority.issue_cert("other.example")) as port:
            with pytest.raises(StoreError):
                await started(f"rediss+sentinel://localhost:{port}/{sentinel.name}")
        assert "job" not in str(primary.cli("KEYS", "*"))


@pytest.mark.parametrize(
    "url",
    [
        "rediss://h.example/0",
        "rediss+sentinel://h.example/primary",
        "rediss+cluster://h.example",
        "rediss://h.example/0?ssl_cert_reqs=required",
    ],
)
def test_every_connection_that_we_make_checks_the_host(url: str) -> None:
    client: Any = Connection.to(url, "test").client
    pool = client if isinstance(client, RedisCluster) else client.connection_pool
    sentinels = pool.sentinel_manager.sentinels if isinstance(pool, SentinelConnectionPool) else []
    made = [pool.connection_kwargs, *(each.connection_pool.connection_kwargs for each in sentinels)]
    for options in made:
        assert options["ssl_check_hostname"] is True
        assert options["ssl_cert_reqs"] in ("required", ssl.CERT_REQUIRED)


def test_who_wants_no_check_says_so_in_the_url() -> None:
    for option in ("ssl_check_hostname=false", "ssl_cert_reqs=none"):
        client = Connection.to(f"rediss://h.example/0?{option}", "test").client
        assert isinstance(client, Redis)
        assert client.connection_pool.connection_kwargs["ssl_check_hostname"] is False


#: A cluster's client looks its host up by itself.
HERE = ("localhost", HOST)
Issue = Callable[[trustme.CA], trustme.LeafCert]


@pytest.mark.parametrize(
    ("issue", "advice"),
    [
        (lambda authority: trustme.CA().issue_cert(*HERE), "name in CRON_REDIS_CA_FILE the authority"),
        (
            lambda authority: authority.issue_cert(*HERE, not_after=datetime(2020, 1, 1, tzinfo=timezone.utc)),
            "renew the server's certificate",
        ),
    ],
    ids=["unknown authority", "expired"],
)
@pytest.mark.parametrize("kind", ["rediss", "rediss+cluster"])
async def test_what_is_wrong_with_a_certificate_is_said_and_nobody_is_told_to_do_without_tls(
    redis_server: RedisServer, authority: trustme.CA, ca_file: Path, issue: Issue, advice: str, kind: str
) -> None:
    async with tls_before(redis_server.port, issue(authority)) as port:
        with pytest.raises(StoreUnusableError, match=advice) as refused:
            await started(f"{kind}://localhost:{port}")
    assert "redis:// for others" not in str(refused.value)


async def test_a_server_without_tls_is_named_as_one(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    config = CronConfig()
    monkeypatch.setenv("CRON_STORE_TIMEOUT", "5")  # of the connection: such a server never answers
    crons = Crons(state_backend=RedisStateBackend(f"rediss://localhost:{redis_server.port}/0"), config=config)
    with pytest.raises(StoreUnusableError, match="redis:// for others"):
        await crons.start()
