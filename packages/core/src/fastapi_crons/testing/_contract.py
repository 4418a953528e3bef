"""What the contracts of stores share: each test has an open store, on an event loop of its own."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

from fastapi_crons.locking import LockBackend
from fastapi_crons.state import StateBackend

StoreT = TypeVar("StoreT", LockBackend, StateBackend)
ContractT = TypeVar("ContractT", bound="Contract[Any]")


class Contract(Generic[StoreT]):
    """Tests of a store, each in a namespace of its own."""

    #: What a test has opened, and in which namespace.
    opened: list[Any]
    namespace: str

    def make_store(self) -> StoreT:
        """A new, unopened backend of the store that is to be tested."""
        raise NotImplementedError

    async def another(self) -> StoreT:
        """The store as another instance opens it."""
        raise NotImplementedError

    def shared(self) -> bool:
        """Whether several instances can have this store."""
        return self.make_store().reach != "process"

    async def close_all(self) -> None:
        """Close what the test has opened."""
        raise NotImplementedError


def skip_unless(applies: bool, why: str) -> None:
    """Skip a test of something that a store does not claim."""
    if not applies:
        import pytest  # only needed by those who run these tests

        pytest.skip(why)


def on_a_store(test: Callable[[ContractT, StoreT], Awaitable[None]]) -> Callable[[ContractT], None]:
    """Run a test with an open store."""

    def run(self: ContractT) -> None:
        async def whole() -> None:
            self.opened, self.namespace = [], f"contract-{secrets.token_hex(6)}"
            try:
                await test(self, await self.another())
            finally:
                await self.close_all()

        asyncio.run(whole())

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


def on_a_shared_store(test: Callable[[ContractT, StoreT], Awaitable[None]]) -> Callable[[ContractT], None]:
    """Run a test with an open store that several instances can have; it is skipped for others."""
    on_any_store = on_a_store(test)

    def run(self: ContractT) -> None:
        skip_unless(self.shared(), "several instances can't have this store")
        on_any_store(self)

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run
