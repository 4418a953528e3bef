"""What is opened once, when the app starts, and how endpoints and jobs get at it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, Request
from httpx2 import AsyncClient, MockTransport, Response
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.schema import CreateTable

from bookshop.models import Base
from bookshop.settings import Settings


@asynccontextmanager
async def open_database(settings: Settings) -> AsyncIterator[async_sessionmaker[AsyncSession]]:
    """A pool of connections. Tables are made where there are none: a migration of yours does that."""
    engine = create_async_engine(settings.database_url)
    async with engine.begin() as connection:
        for table in Base.metadata.sorted_tables:
            await connection.execute(CreateTable(table, if_not_exists=True))
    yield async_sessionmaker(engine, expire_on_commit=False)
    await engine.dispose()


def carrier_client(settings: Settings) -> AsyncClient:
    """An HTTP client for the carrier."""
    if settings.carrier_url is None:
        return AsyncClient(base_url="http://carrier", transport=MockTransport(lambda _: Response(201)))
    return AsyncClient(base_url=settings.carrier_url, timeout=10)


async def session(request: Request) -> AsyncIterator[AsyncSession]:
    """A session that commits in the end, and rolls back after a failure, a time limit or a cancellation."""
    async with request.state.sessions.begin() as opened:
        yield opened


def carrier(request: Request) -> AsyncClient:
    """The client that the app has opened."""
    client: AsyncClient = request.state.carrier
    return client


# An endpoint's session commits before the response is sent, so that nobody is told of what is not kept.
SessionDep = Annotated[AsyncSession, Depends(session, scope="function")]
CarrierDep = Annotated[AsyncClient, Depends(carrier)]
