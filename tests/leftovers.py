"""Leases that a test has left in a store.

While an instance is on record its leases are in order: its process may have been killed, or it is one that a test of a store
has made up. A scheduler that stops releases its leases and takes itself off the record: a lease of an instance that is not on
record has been left behind by a clean stop.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.faults.redis_server import HOST, RedisServer

_ANY = "SELECT 1 FROM lock_lease"
_OF_NO_INSTANCE = f"{_ANY} WHERE instance NOT IN (SELECT owner FROM lock_instance)"


def files_with_leases(*, of_living_too: bool) -> list[str]:
    """The SQLite stores in the current folder with a lease that was left; `of_living_too`: with any lease."""
    query = _ANY if of_living_too else _OF_NO_INSTANCE
    return [path.name for path in Path().glob("*.db") if _finds(path, query)]


def _finds(file: Path, query: str) -> bool:
    """Whether a query finds something in a store of ours; in another file there is nothing."""
    with (
        contextlib.suppress(sqlite3.DatabaseError),
        contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as db,
    ):
        return bool(db.execute(query).fetchall())
    return False


def leases_in_redis(server: RedisServer) -> set[str]:
    """The runs whose leases were left in any database of a server."""
    left: set[str] = set()
    with redis.Redis(host=HOST, port=server.port, protocol=2, retry=Retry(NoBackoff(), 0)) as client:
        for database in client.info("keyspace"):
            client.select(int(database.removeprefix("db")))
            for key in client.scan_iter("*:lock:leases", count=10_000, _type="HASH"):
                living = client.hgetall(key.removesuffix(b"leases") + b"instances")
                for run_id, lease in client.hgetall(key).items():
                    with contextlib.suppress(ValueError):
                        _, owner = json.loads(lease)
                        if owner.encode() not in living:
                            left.add(run_id.decode())
    return left
