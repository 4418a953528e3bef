"""The user that the guide shows has all the rights that the stores need, and none that give more away."""

from __future__ import annotations

import re
import secrets
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from redis.exceptions import NoPermissionError

from fastapi_crons import CronConfig, Crons
from fastapi_crons.errors import StoreError
from fastapi_crons.locking import LockBackend
from fastapi_crons.state import StateBackend
from fastapi_crons.testing import LockContract, StateContract
from fastapi_crons_redis import RedisLockBackend, RedisStateBackend
from tests.faults.redis_server import RedisServer, needs_redis
from tests.support import nothing, runs_of

pytestmark = needs_redis

GUIDE = Path(__file__).parents[3] / "docs" / "how-to" / "redis.md"
(LINE,) = re.findall(r"^ACL SETUSER .*$", GUIDE.read_text(encoding="utf-8"), re.MULTILINE)


def let_in(server: RedisServer, namespace: str) -> str:
    """Make the guide's user, for this namespace instead of the default one; returns the URL with which it gets in."""
    line = LINE.replace("{crons:default}", f"{{crons:{namespace}}}")
    assert line.count(namespace) == 2
    server.cli(*shlex.split(line))
    return server.url.replace("redis://", "redis://crons:secret@")


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer(maxmemory="100mb", maxmemory_policy="allkeys-lru") as running:
        yield running


class TestLock(LockContract):
    @pytest.fixture(autouse=True)
    def _url(self, server: RedisServer) -> None:
        self.url = let_in(server, "contract-*")

    def make_store(self) -> LockBackend:
        return RedisLockBackend(self.url)


class TestState(StateContract):
    @pytest.fixture(autouse=True)
    def _url(self, server: RedisServer) -> None:
        self.url = let_in(server, "contract-*")

    def make_store(self) -> StateBackend:
        return RedisStateBackend(self.url)


async def test_a_scheduler_works_with_it_and_does_without_what_it_may_not_ask(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    namespace = f"shop-{secrets.token_hex(4)}"
    url = let_in(server, namespace)
    crons = Crons(state_backend=RedisStateBackend(url), config=CronConfig(namespace=namespace))
    crons.cron("0 0 1 1 *", name="job")(nothing)
    await crons.start()
    assert (await crons.run_job("job")).status == "completed"
    await crons.pause("job", note="for now")
    assert await crons.resume("job")
    await crons.stop()
    await crons.start()
    assert [run.status for run in await runs_of(crons, "job")] == ["completed"]
    await crons.stop()
    # What the server drops when it is full can't be asked for by this user.
    assert [record.message for record in caplog.records if record.levelname in ("WARNING", "ERROR")] == []


def test_it_reads_neither_settings_nor_passwords_nor_the_keys_of_others(server: RedisServer) -> None:
    server.cli("SET", "{crons:other}:lock:jobs", "theirs")
    with redis.Redis.from_url(let_in(server, "shop")) as client:
        for command in (
            ("CONFIG", "GET", "requirepass"),
            ("CONFIG", "GET", "maxmemory-policy"),
            ("ACL", "LIST"),
            ("GET", "{crons:other}:lock:jobs"),
            ("GET", "{crons:shop2}:lock:jobs"),
            ("KEYS", "*"),
            ("PUBLISH", "{crons:other}:state:events", "x"),
        ):
            with pytest.raises(NoPermissionError):
                client.execute_command(*command)


async def test_another_namespace_is_refused_at_the_start(server: RedisServer) -> None:
    crons = Crons(state_backend=RedisStateBackend(let_in(server, "shop")), config=CronConfig(namespace="staging"))
    with pytest.raises(StoreError, match=r"'crons'.*permissions.*keys and channels of the namespace"):
        await crons.start()


async def test_in_a_cluster_it_needs_one_right_more() -> None:
    (more,) = re.findall(r"On the nodes of a cluster it needs `(\S+)` besides", GUIDE.read_text(encoding="utf-8"))
    with RedisServer(cluster=True) as server:
        url = let_in(server, "default").replace("redis://", "redis+cluster://").removesuffix("/0")
        with redis.Redis.from_url(let_in(server, "default")) as client, pytest.raises(NoPermissionError):
            client.execute_command("CLUSTER SLOTS")
        server.cli("ACL", "SETUSER", "crons", more)
        crons = Crons(state_backend=RedisStateBackend(url))
        crons.cron("0 0 1 1 *", name="job")(nothing)
        await crons.start()
        assert (await crons.run_job("job")).status == "completed"
        assert {key.partition("}")[0] for key in server.cli("KEYS", "*")} == {"{crons:default"}
        await crons.stop()


def test_a_user_that_the_guide_once_gave_more_loses_it(server: RedisServer) -> None:
    server.cli("ACL", "SETUSER", "crons", "on", "~*", "&*", "+config|get", "+@all")
    with redis.Redis.from_url(let_in(server, "shop")) as client:
        assert client.ping()
        with pytest.raises(NoPermissionError):
            client.config_get("requirepass")
