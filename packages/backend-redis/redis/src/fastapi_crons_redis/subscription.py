"""Subscription: what is published on a server's channels, on a connection of its own, until that breaks."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING, Any

from redis.asyncio import ConnectionPool, Redis, RedisCluster

from fastapi_crons._util.hiding import as_cause
from fastapi_crons.errors import StoreUnavailableError

from .connection import ERRORS, Connection, reason_of

if TYPE_CHECKING:
    from redis.asyncio.client import PubSub

#: After this many silent seconds the server is asked for an answer, which it has as long again to give.
SILENCE = 5.0


async def messages(connection: Connection, channels: Sequence[str]) -> AsyncGenerator[str | bytes, None]:
    """All messages from now on. Raises `StoreUnavailableError` where the connection breaks: some may be lost then."""
    async with _subscribed(connection, channels) as pubsub:
        confirmed, asked = 0, False
        while True:
            message = await _receive(connection, pubsub)
            if message is None:
                if asked:
                    raise _silenced(connection, f"no answer within {SILENCE:g} s")
                asked = True
                continue
            asked = False
            if message["type"] == "subscribe":
                confirmed += 1
                if confirmed > len(channels):  # the client has connected again by itself
                    raise _silenced(connection, "the connection was lost")
            elif message["type"] == "message":
                yield message["data"]


@asynccontextmanager
async def _subscribed(connection: Connection, channels: Sequence[str]) -> AsyncIterator[PubSub]:
    with _in_our_terms(connection):
        client = await _client_for(connection)
    try:
        async with client.pubsub() as pubsub:
            with _in_our_terms(connection):
                await pubsub.subscribe(*channels)
            yield pubsub
    finally:
        if client is not connection.client:
            with suppress(*ERRORS):  # what ended the subscription is what matters
                await client.aclose()


async def _client_for(connection: Connection) -> Redis:
    """A client that can subscribe. What is published at one node of a cluster reaches each of its nodes."""
    client = connection.client
    if not isinstance(client, RedisCluster):
        # A subscription keeps its connection: a user's pool may have none to spare.
        clone = connection.clone()
        return client if clone is None or isinstance(clone.client, RedisCluster) else clone.client
    await client.initialize()
    node = client.get_random_node()
    of_node: Redis = Redis.from_pool(
        ConnectionPool(connection_class=node.connection_class, max_connections=1, **node.connection_kwargs)
    )
    return of_node


async def _receive(connection: Connection, pubsub: PubSub) -> dict[str, Any] | None:
    """The next message; None after a silence, at the end of which the server was asked for an answer."""
    with _in_our_terms(connection):
        message: dict[str, Any] | None = await pubsub.get_message(timeout=SILENCE)
        if message is None:
            await pubsub.ping()
    return message


@contextmanager
def _in_our_terms(connection: Connection) -> Iterator[None]:
    try:
        yield
    except ERRORS as error:
        raise _silenced(connection, reason_of(error)) from as_cause(error)


def _silenced(connection: Connection, reason: str) -> StoreUnavailableError:
    return StoreUnavailableError(f"{connection.name}: can't receive events: {reason}")
