"""`fastapi-crons postgres`: looks after the tables. Imported where the command line is installed."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated

import typer

app = typer.Typer(help="Look after the tables in PostgreSQL.", no_args_is_help=True)

_MARKS = {"ok": "✓", "warning": "!", "failed": "✗"}
_Grant = Annotated[
    str | None,
    typer.Option("--grant", metavar="ROLE", help="Let this role use the tables, too: read and write rows, no more."),
]
_From = Annotated[
    int | None,
    typer.Option(
        "--from",
        metavar="LAYOUT",
        min=0,
        help="Begin at this layout, and ask no database; 0 where there are no tables. Default: the layout on record.",
    ),
]
_AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("migrate")
def migrate(grant: _Grant = None) -> None:
    """Make the tables, or bring them up to date while instances go on.

    Tables that are up to date stay as they are.
    """
    from fastapi_crons_postgres import _maintenance

    typer.echo(asyncio.run(_maintenance.migrate(grant)))


@app.command("sql")
def sql(from_layout: _From = None, grant: _Grant = None) -> None:
    """Print the SQL that makes the tables, or brings them up to date.

    For roles that may not, and for migrations of your own. Statements are separated by an empty line.
    """
    from fastapi_crons_postgres import _maintenance

    typer.echo(asyncio.run(_maintenance.script(from_layout, grant)))


@app.command("check")
def check(as_json: _AsJson = False) -> None:
    """Check that the database can be used: server, tables, rights, notifications, connections.

    A fault (✗) ends it with exit code 1; a warning (!) does not.
    """
    from fastapi_crons_postgres import _maintenance

    findings = asyncio.run(_maintenance.check())
    sound = all(finding.outcome != "failed" for finding in findings)
    if as_json:
        typer.echo(json.dumps({"ok": sound, "steps": [finding._asdict() for finding in findings]}, ensure_ascii=False))
    else:
        for finding in findings:
            typer.echo(f"{_MARKS[finding.outcome]} {finding.name}: {finding.text}")
    if not sound:
        raise typer.Exit(1)
