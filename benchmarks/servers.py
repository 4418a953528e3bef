"""Where a contender keeps what it keeps: a file, or a server that is started for it alone; and what such a server has done."""

from __future__ import annotations

import os
import re
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

from tests.faults.pgbouncer import PgBouncer
from tests.faults.postgres_server import PostgresServer
from tests.faults.redis_server import RedisServer

Store = Literal["memory", "file", "redis", "postgres"]
#: As in production, and by default: what a server was told outlives a crash.
_FSYNC = "on"


class Asked(NamedTuple):
    """What a server has done so far: requests of ours, and CPU seconds; None for what can't be told."""

    calls: int | None
    cpu: float | None


class Server(Protocol):
    def asked(self) -> Asked: ...


class _Redis:
    def __init__(self, server: RedisServer) -> None:
        self._server = server

    def asked(self) -> Asked:
        stats, cpu = self._server.cli("INFO", "commandstats"), self._server.cli("INFO", "cpu")
        # We send scripts and pings; all other commands are called by the scripts.
        calls = sum(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("evalsha", "eval", "ping"))
        return Asked(calls, float(cpu["used_cpu_user"]) + float(cpu["used_cpu_sys"]))


class _Postgres:
    """Its transactions are not counted here: its own figures come late, and writing down each of them takes CPU."""

    def __init__(self, server: PostgresServer) -> None:
        self._server = server

    def asked(self) -> Asked:
        first = self._server.pid
        children = Path(f"/proc/{first}/task/{first}/children")
        if not children.exists():  # not Linux
            return Asked(None, None)
        return Asked(
            None, _cpu(first, ended_children=True) + sum(_cpu(int(pid)) for pid in children.read_text().split())
        )


def _cpu(pid: int, *, ended_children: bool = False) -> float:
    """CPU seconds of a process so far; 0 where it has just ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11 : 15 if ended_children else 13])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def place(store: Store) -> Iterator[tuple[str, Server | None]]:
    """A fresh place: its address, and the server where there is one."""
    if store == "redis":
        with RedisServer() as redis:
            yield redis.url, _Redis(redis)
    elif store == "postgres":
        with PostgresServer(fsync=_FSYNC) as server:
            yield server.url, _Postgres(server)
    elif store == "file":
        with tempfile.TemporaryDirectory() as folder:
            yield str(Path(folder, "jobs.db")), None
    else:
        yield "", None


#: A line of the log: seconds since the epoch, the number of the transaction, and a statement or its beginning.
_LINE = re.compile(r"(\d+\.\d+) (\d+/\d+) LOG:  (?:statement|execute [^:]*): (.*)")
#: What only a batch of claims does, and only one of records.
_CLAIMS, _RECORDS = 'INSERT INTO "public".crons_lease ', 'INSERT INTO "public".crons_run '


class Transactions(NamedTuple):
    """How many there were: batches of claims, batches of records, and all others."""

    claims: int
    records: int
    others: int


class Counting:
    """A server that writes down each statement, behind PgBouncer (`pooled`) or not."""

    def __init__(self, *, pooled: bool) -> None:
        self._pooled = pooled

    def __enter__(self) -> Counting:
        with ExitStack() as stack:
            self._server = stack.enter_context(
                PostgresServer(log_statement="all", log_line_prefix="'%n %v '", fsync=_FSYNC)
            )
            self.url = stack.enter_context(PgBouncer(self._server)).url if self._pooled else self._server.url
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def between(self, since: float, until: float) -> Transactions:
        """The transactions that had a statement between two instants (Unix seconds)."""
        found: dict[str, str] = {}
        for line in self._server.log().splitlines():
            said = _LINE.match(line)
            if said is not None and since <= float(said[1]) < until:
                kind = "claims" if _CLAIMS in said[3] else "records" if _RECORDS in said[3] else ""
                found[said[2]] = found.get(said[2]) or kind
        kinds = Counter(found.values())
        return Transactions(kinds["claims"], kinds["records"], kinds[""])
