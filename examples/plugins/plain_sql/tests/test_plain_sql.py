"""The backend keeps the contract of lock stores, and what it promises beyond."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from fastapi_crons import StoreUnavailableError, StoreUnusableError
from fastapi_crons.clock import SystemClock
from fastapi_crons.locking import ClaimRequest, Definition, Instance, LeaseTerms, LockBackend
from fastapi_crons.testing import LockContract, LockWalk
from fastapi_crons_plain_sql.lock import PlainSqlLockBackend


class TestPlainSql(LockContract, LockWalk):
    walks = 10

    @pytest.fixture(autouse=True)
    def _path(self, tmp_path: Path) -> None:
        self.path = tmp_path / "locks.db"

    def make_store(self) -> LockBackend:
        return PlainSqlLockBackend(self.path)


def on_a_store(path: Path, test: Callable[[LockBackend], Awaitable[object]], *, to_read: bool = False) -> None:
    """Do something with an open store."""

    async def whole() -> None:
        store, instance = PlainSqlLockBackend(path, timeout=0.2), Instance.of_this_process()
        connect = store.open_to_read if to_read else store.open
        await connect(instance, "default", LeaseTerms(300, 30), SystemClock())
        try:
            await test(store)
        finally:
            await store.close()

    asyncio.run(whole())


async def register(store: LockBackend) -> None:
    await store.beat()
    await store.register([Definition(job, "* * * * *", "UTC", "m:f") for job in ("a", "b")])


async def nothing(store: LockBackend) -> None: ...


def test_who_only_reads_makes_no_file(tmp_path: Path) -> None:
    async def look(store: LockBackend) -> None:
        assert await store.known() == []

    on_a_store(tmp_path / "locks.db", look, to_read=True)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_database_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "locks.db"
    path.write_text("x" * 5_000)
    with pytest.raises(StoreUnusableError, match="not a database"):
        on_a_store(path, nothing)
    assert path.read_text() == "x" * 5_000


def test_a_newer_layout_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "locks.db"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreUnusableError, match="newer version"):
        on_a_store(path, nothing)


def test_a_store_that_another_process_holds_does_not_answer(tmp_path: Path) -> None:
    path = tmp_path / "locks.db"
    on_a_store(path, register)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailableError, match="locked"):
        on_a_store(path, register)
    other.close()
    on_a_store(path, register)


def test_a_damaged_record_costs_itself(tmp_path: Path) -> None:
    path = tmp_path / "locks.db"
    on_a_store(path, register)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE job SET record = '[1' WHERE name = 'a'")

    async def look(store: LockBackend) -> None:
        assert [known.job for known in await store.known()] == ["b"]
        assert store.damaged() == [f"lock store in {path}: record of job 'a'"]

    on_a_store(path, look)


def test_a_process_that_is_killed_in_a_transaction_leaves_nothing_of_it(tmp_path: Path) -> None:
    path = tmp_path / "locks.db"
    on_a_store(path, register)
    code = f"""
import os, sqlite3
connection = sqlite3.connect({str(path)!r}, isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
connection.execute("DELETE FROM job")
os._exit(9)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 9

    async def claim(store: LockBackend) -> None:
        await register(store)
        (result,) = await store.claim([ClaimRequest("a", "r1", None, "* * * * *", "UTC")])
        assert result.outcome == "granted"

    on_a_store(path, claim)
