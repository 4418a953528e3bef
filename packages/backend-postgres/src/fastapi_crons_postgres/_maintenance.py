"""What the command line does with the tables: makes them, prints what makes them, and finds out whether they can be used."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi_crons.config import CronConfig
from fastapi_crons.errors import ConfigurationError, StoreError, StoreUnusableError
from fastapi_crons_postgres._connection import Connection
from fastapi_crons_postgres._findings import Finding, findings
from fastapi_crons_postgres._layout import LAYOUT_LOCK, VERSION, grants, prepare, statements, usable_layout
from fastapi_crons_postgres.settings import PostgresSettings
from fastapi_crons_postgres.url import EXAMPLE

#: How long (seconds) making the tables may take: an index of a large table takes its time.
_PATIENCE = 1_800.0


@asynccontextmanager
async def _connected(patience: float) -> AsyncIterator[Connection]:
    settings = PostgresSettings()
    if "url" not in settings.model_fields_set:
        raise ConfigurationError(f"CRON_POSTGRES_URL is not set: name the database, by {EXAMPLE}")
    connection = Connection(settings, patience)
    try:
        yield connection
    finally:
        await connection.close()


async def migrate(grant_to: str | None) -> str:
    """Bring the tables to our layout, and let a role use them; returns what was done."""
    async with _connected(_PATIENCE) as connection:
        if grant_to is not None and not await connection.rows("SELECT FROM pg_roles WHERE rolname = $1", grant_to):
            raise StoreUnusableError(f"{connection.place} has no role {grant_to!r}; make it, or check its name")
        found = await prepare(connection, may_change=True)
        said = f"{connection.place}, schema {connection.schema}: {_done(found)}"
        if grant_to is None:
            return said
        granting = ";\n".join(grants(connection.schema, grant_to))
        await connection.write(lambda driver: driver.execute(granting))
        return f"{said}; the role {grant_to!r} may use them"


def _done(found: int) -> str:
    if not found:
        return f"the tables are made (layout {VERSION})"
    if found < VERSION:
        return f"the tables are brought from layout {found} to {VERSION}"
    newer = " of a newer version, which lets this one work" if found > VERSION else ""
    return f"the tables are up to date (layout {found}{newer})"


async def script(found: int | None, grant_to: str | None) -> str:
    """What makes the tables, or brings them from a layout to ours, as SQL. Without a layout, from that on record."""
    settings = PostgresSettings()
    schema = f'"{settings.db_schema}"'
    on_record = True
    if found is None:
        async with _connected(CronConfig().store_timeout) as connection:
            found, _, on_record, *_ = await usable_layout(connection)
    parts: list[str] = []
    if found < VERSION or not on_record:
        about = f"-- Tables of fastapi-crons-postgres in the schema {schema}, from layout {found} to {VERSION}."
        parts = [
            f"{about}\n-- Run all of it in one transaction.",
            LAYOUT_LOCK,
            *statements(schema, found, on_record=on_record),
        ]
    else:
        parts = [f"-- The tables in the schema {schema} have the layout {found}: nothing is to be done."]
    parts += [] if grant_to is None else grants(schema, grant_to)
    return "\n\n".join(part if part.startswith("--") else f"{part};" for part in parts)


async def check() -> list[Finding]:
    """Whether the database can be used as it is."""
    async with _connected(CronConfig().store_timeout) as connection:
        try:
            found = [finding async for finding in findings(connection, migrates=PostgresSettings().migrate)]
            if found[0].outcome == "ok":  # one that takes no writes tells nobody anything
                found.append(await _notifications(connection))
            return found
        except StoreError as error:
            return [Finding("server", "failed", str(error))]


async def _notifications(connection: Connection) -> Finding:
    """Whether LISTEN hears what other connections tell."""
    try:
        hears = await connection.find_out_whether_it_hears()
        text = "nothing was heard in time" if hears is None else ""
    except StoreError as error:
        hears, text = None, str(error)
    if hears:
        return Finding("notifications", "ok", "LISTEN works")
    if hears is None:
        text = f"whether LISTEN works could not be found out: {text}"
    else:
        text = (
            "LISTEN hears nothing, as behind a pooler: events are asked for instead, and come up to half a second later"
        )
    return Finding("notifications", "warning", text)
