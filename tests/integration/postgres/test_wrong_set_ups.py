"""Set-ups that can't work: each is answered with one sentence that says what was wrong, and what to do."""

from __future__ import annotations

import asyncio
import shutil
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from subprocess import CalledProcessError
from typing import Any

import pytest
import trustme
from pydantic import SecretStr

from fastapi_crons import CronConfig, Crons
from fastapi_crons.errors import ConfigurationError, StoreUnavailableError, StoreUnusableError
from fastapi_crons.state import HistoryLimits
from fastapi_crons_postgres import PostgresLockBackend, PostgresStateBackend
from fastapi_crons_postgres.settings import PostgresSettings
from tests.faults.pgbouncer import PgBouncer, needs_pgbouncer
from tests.faults.postgres_server import PostgresServer, needs_postgres, postgres_programs, server_account
from tests.faults.redis_server import HOST
from tests.support import nothing, until_async

_PASSWORD = "s3cr3t-for-nobody"
#: What lets the user of the tests in without a password, and one with an odd name, and nobody else.
_HBA = f'host all crons,"the app\'s" {HOST}/32 trust\nhost all app,stranger {HOST}/32 scram-sha-256\n'


@pytest.fixture(scope="module")
def server(postgres: PostgresServer) -> Iterator[PostgresServer]:
    """A database `wrong` in which the roles `app`, by its password, and `crons` may log in."""
    postgres.psql(f"CREATE ROLE app LOGIN PASSWORD '{_PASSWORD}'")
    postgres.psql("CREATE DATABASE wrong")
    postgres.psql("REVOKE CREATE ON SCHEMA public FROM PUBLIC", "wrong")
    hba = postgres.folder / "data" / "pg_hba.conf"
    before = hba.read_text()
    hba.write_text(_HBA)
    postgres.psql("SELECT pg_reload_conf()")
    yield postgres
    hba.write_text(before)
    postgres.psql("SELECT pg_reload_conf()")
    postgres.psql("DROP DATABASE wrong")
    postgres.psql("DROP ROLE app")


async def opened(url: str, **settings: Any) -> None:
    """Open a state store and close it again."""
    state = PostgresStateBackend.by_settings(PostgresSettings(url=SecretStr(url), **settings), 10)
    try:
        await state.open("default", HistoryLimits(100, 30))
    finally:
        await state.close()


async def unusable(url: str, **settings: Any) -> str:
    """What is said about a set-up that trying again does not mend."""
    with pytest.raises(StoreUnusableError) as raised:
        await opened(url, **settings)
    return checked(raised.value, url)


async def unavailable(url: str, **settings: Any) -> str:
    """What is said about one that may answer later."""
    with pytest.raises(StoreUnavailableError) as raised:
        await opened(url, **settings)
    return checked(raised.value, url)


def checked(error: Exception, url: str) -> str:
    said = str(error)
    assert said.startswith("PostgreSQL at ")
    assert "\n" not in said
    assert _PASSWORD not in said
    assert error.__cause__ is None
    return said


async def test_a_server_that_is_not_there() -> None:
    said = await unavailable(f"postgresql://crons:{_PASSWORD}@{HOST}:1/app")
    assert said.startswith(f"PostgreSQL at {HOST}:1, database 'app', user 'crons': ")
    assert said.endswith("; check that the server runs, and host and port in CRON_POSTGRES_URL")


async def test_a_host_that_is_not_known() -> None:
    said = await unavailable(f"postgresql://crons:{_PASSWORD}@nowhere.invalid/app")
    assert "nowhere.invalid" in said
    assert "host and port in CRON_POSTGRES_URL" in said


async def test_a_wrong_password(server: PostgresServer) -> None:
    said = await unusable(server.url_of("wrong", "app", f"not-{_PASSWORD}"))
    assert said.endswith('failed for user "app"; check user and password in CRON_POSTGRES_URL')


async def test_a_user_who_is_not_there(server: PostgresServer) -> None:
    said = await unusable(server.url_of("wrong", "stranger", _PASSWORD))
    assert said.endswith('failed for user "stranger"; check user and password in CRON_POSTGRES_URL')


async def test_a_user_whom_the_server_does_not_let_in(server: PostgresServer) -> None:
    said = await unusable(server.url_of("wrong", "somebody", _PASSWORD))
    assert said.endswith("; check the user in CRON_POSTGRES_URL, and what pg_hba.conf of the server lets in")


async def test_a_database_that_is_not_there(server: PostgresServer) -> None:
    said = await unusable(server.url_of("missing", "app", _PASSWORD))
    assert said.endswith('database "missing" does not exist; create the database: createdb missing')


async def test_names_are_quoted_where_the_shell_needs_it(server: PostgresServer) -> None:
    said = await unusable(server.url_of("Sh%20op", "app", _PASSWORD))
    assert said.endswith("; create the database: createdb 'Sh op'")
    server.psql('CREATE ROLE "the app\'s" LOGIN')
    role = """'the app'"'"'s'"""
    said = await unusable(server.url_of("wrong", "the%20app's"))
    assert f"migrate --grant {role} (or what fastapi-crons postgres sql --grant {role} prints)" in said
    assert (await unusable(server.url_of("wrong", "the%20app's"), migrate=False)).endswith(f"migrate --grant {role}")
    server.psql('DROP ROLE "the app\'s"')


async def test_a_role_that_may_not_connect(server: PostgresServer) -> None:
    server.psql("CREATE DATABASE shut")
    server.psql("REVOKE CONNECT ON DATABASE shut FROM PUBLIC")
    said = await unusable(server.url_of("shut", "app", _PASSWORD))
    assert said.endswith('; let the role in: GRANT CONNECT ON DATABASE "shut" TO "app"')
    server.psql("DROP DATABASE shut")


async def test_a_role_with_too_many_connections(server: PostgresServer) -> None:
    server.psql("ALTER ROLE app CONNECTION LIMIT 0")
    said = await unavailable(server.url_of("wrong", "app", _PASSWORD))
    server.psql("ALTER ROLE app CONNECTION LIMIT -1")
    assert said.endswith('for role "app"; raise the CONNECTION LIMIT that it has, or put a pooler before the server')


@needs_pgbouncer
async def test_a_pooler_that_lets_nobody_in(pooler: PgBouncer) -> None:
    said = await unusable(f"{pooler.url}?colour=blue")
    assert said.endswith(
        "colour; leave out what stands behind the ? in CRON_POSTGRES_URL, or name it in ignore_startup_parameters of the pooler"
    )
    said = await unusable(pooler.url_of("missing"))
    assert said.endswith(
        "; check user, password and database in CRON_POSTGRES_URL, and whether the pooler and the server know them"
    )


async def test_a_database_that_does_not_keep_every_character(server: PostgresServer) -> None:
    server.psql("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0")
    said = await unusable(server.url_of("latin"))
    assert said.endswith(
        ": the database keeps texts as LATIN1, which lacks most characters; make one with UTF8: "
        "createdb --encoding UTF8 --template template0 latin"
    )
    server.psql("DROP DATABASE latin")


async def test_a_schema_that_is_not_there(server: PostgresServer) -> None:
    said = await unusable(server.url_of("wrong"), db_schema="elsewhere")
    assert said.endswith(
        'schema "elsewhere" does not exist; create the schema, or set CRON_POSTGRES_SCHEMA to one that is there'
    )


async def test_a_role_that_may_not_make_tables(server: PostgresServer) -> None:
    said = await unusable(server.url_of("wrong", "app", _PASSWORD))
    assert said.endswith(
        "permission denied for schema public; as a role that may make tables, run: fastapi-crons postgres migrate --grant app "
        "(or what fastapi-crons postgres sql --grant app prints)"
    )


async def test_tables_that_are_missing_where_they_may_not_be_made(server: PostgresServer) -> None:
    said = await unusable(server.url_of("wrong", "app", _PASSWORD), migrate=False)
    assert said.endswith(
        ' has no tables crons_… in the schema "public", and CRON_POSTGRES_MIGRATE=false; as a role that may, run: '
        "fastapi-crons postgres migrate --grant app"
    )


async def test_a_parameter_that_no_server_knows(server: PostgresServer) -> None:
    said = await unusable(f"{server.url_of('wrong')}?colour=blue")
    assert said.endswith('"colour"; check what stands behind the ? in CRON_POSTGRES_URL')
    said = await unusable(f"{server.url_of('wrong')}?sslmode=perhaps")
    assert said.endswith("verify-ca, verify-full; mend CRON_POSTGRES_URL")


async def test_the_url_of_an_app_is_taken_as_it_is(server: PostgresServer) -> None:
    url = server.url_of("wrong").replace("postgresql:", "postgresql+asyncpg:")
    await opened(f"{url}?ssl=prefer&prepared_statement_cache_size=0")
    await opened(f"{url}?channel_binding=prefer&connect_timeout=10&keepalives=1&keepalives_idle=30&gssencmode=prefer")


@pytest.mark.parametrize("asked_by", ["sslmode", "ssl"])
async def test_tls_is_wanted_and_not_had(server: PostgresServer, asked_by: str) -> None:
    said = await unusable(f"{server.url_of('wrong')}?{asked_by}=require")
    assert said.endswith("; the server has no TLS that can be used; CRON_POSTGRES_URL asks for it by sslmode")


async def test_an_authority_whose_certificate_is_not_there(server: PostgresServer) -> None:
    said = await unusable(f"{server.url_of('wrong')}?sslmode=verify-full&sslrootcert=/missing/ca.pem")
    assert said.endswith("; CRON_POSTGRES_URL names a file that can't be read: sslrootcert=/missing/ca.pem")


@needs_postgres
async def test_certificates(tmp_path: Path) -> None:
    """One that is trusted is taken; one of another authority, or for another host, is not."""
    ours, theirs = trustme.CA(), trustme.CA()
    for authority, name in ((ours, "ours.pem"), (theirs, "theirs.pem")):
        authority.cert_pem.write_to_path(tmp_path / name)
    with PostgresServer(postgres_programs()[min(postgres_programs())]) as server:
        install(server, ours.issue_cert(HOST))
        try:
            server.psql("ALTER SYSTEM SET ssl = on")
        except CalledProcessError:
            pytest.skip("the PostgreSQL server was built without TLS")
        server.psql("SELECT pg_reload_conf()")
        trusting, distrusting = (
            f"{server.url}?sslmode=verify-full&sslrootcert={tmp_path / name}" for name in ("ours.pem", "theirs.pem")
        )
        await until_async(lambda: server.psql("SHOW ssl") == "on")
        await opened(trusting)
        advice = (
            "; name in CRON_POSTGRES_URL the host that its certificate is for, and the authority that signed it: "
            "?sslrootcert=FILE"
        )
        assert (await unusable(distrusting)).endswith(advice)
        install(server, ours.issue_cert("database.example"))
        server.restart()
        said = await unusable(trusting)
        assert f"not valid for '{HOST}'" in said
        assert said.endswith(advice)


def install(server: PostgresServer, certificate: trustme.LeafCert) -> None:
    """Have a server show this certificate from its next start on."""
    data = server.folder / "data"
    certificate.private_key_pem.write_to_path(data / "server.key")
    certificate.cert_chain_pems[0].write_to_path(data / "server.crt")
    (data / "server.key").chmod(0o600)
    account = server_account()
    if account is not None:
        shutil.chown(data / "server.key", account)


@needs_postgres
async def test_a_server_that_takes_no_writes() -> None:
    """It shows what is there, and says what it is when something is to be written."""
    with PostgresServer() as server:
        server.psql("CREATE DATABASE closed")
        await opened(server.url_of("closed"))
        server.psql("ALTER DATABASE closed SET default_transaction_read_only = on")
        await refuses_to_write(server.url_of("closed"))
        said = await unavailable(f"{server.url_of('closed')}?target_session_attrs=read-write")
        assert said.endswith(": none of the hosts takes writes, which target_session_attrs in the URL asks for")
        server.psql("ALTER DATABASE closed RESET default_transaction_read_only")
        server.stop()
        (server.folder / "data" / "standby.signal").touch()  # a replica from now on
        server.start()
        await refuses_to_write(server.url_of("closed"))


async def refuses_to_write(url: str) -> None:
    state = PostgresStateBackend(url)
    try:
        await state.open("default", HistoryLimits(100, 30))
        assert await state.runs("job") == []
        with pytest.raises(StoreUnavailableError) as raised:
            await state.forget(["job"])
    finally:
        await state.close()
    assert checked(raised.value, url).endswith(
        "; it takes no writes: it is a replica, or was set to read only; name the primary in CRON_POSTGRES_URL"
    )


@asynccontextmanager
async def greeting(version: str) -> AsyncIterator[str]:
    """The URL of what greets as a server of this version, and says no more."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            (length,) = struct.unpack("!i", await reader.readexactly(4))
            wanted = await reader.readexactly(length - 4)
            if len(wanted) > 4:  # all but the question whether there is TLS
                break
            writer.write(b"N")
        named = f"server_version\0{version}\0".encode()
        writer.write(b"R" + struct.pack("!ii", 8, 0))
        writer.write(b"S" + struct.pack("!i", 4 + len(named)) + named)
        writer.write(b"Z" + struct.pack("!i", 5) + b"I")
        await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, HOST, 0)
    try:
        yield f"postgresql://crons:{_PASSWORD}@{HOST}:{server.sockets[0].getsockname()[1]}/app"
    finally:
        server.close()


async def test_a_server_that_is_too_old() -> None:
    async with greeting("12.22") as url:
        said = await unusable(url)
    assert said.endswith(": the server is PostgreSQL 12, which is too old; use 13 or newer")


async def test_a_scheduler_does_not_start_and_no_password_is_logged(
    server: PostgresServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CRON_POSTGRES_URL", server.url_of("wrong", "app", f"not-{_PASSWORD}"))
    caplog.set_level("DEBUG")
    crons = Crons(config=CronConfig(store_timeout=5))
    crons.cron("0 0 1 1 *", name="job")(nothing)
    with pytest.raises(StoreUnusableError, match="check user and password in CRON_POSTGRES_URL"):
        await crons.start()
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == []
    assert _PASSWORD not in caplog.text
    assert _PASSWORD not in str(crons.health())


@pytest.mark.parametrize("url", [f"mysql://app:{_PASSWORD}@db/app", _PASSWORD, f"postgresql://app:{_PASSWORD}[@db/app"])
def test_a_url_of_something_else_is_refused_without_showing_it(url: str) -> None:
    assert refused(url) == (
        "this is not the URL of a PostgreSQL database; write postgresql:// and behind it user:password@host:5432/database, "
        "with special characters of user and password percent-encoded"
    )


@pytest.mark.parametrize("sign", "@/#?")
def test_a_sign_in_a_password_is_to_be_encoded(sign: str) -> None:
    for credentials in (
        f"app:{_PASSWORD}{sign}x",
        f"app:12{sign}{_PASSWORD}",
        f"{_PASSWORD}{sign}y",
        f"a@b:{sign}{_PASSWORD}",
    ):
        for behind in ("localhost/shop", "db:5432/shop?sslmode=require"):
            assert refused(f"postgresql://{credentials}@{behind}") == (
                "user, password or database in the URL has an @, /, # or ? as it is; percent-encode it there: "
                "%40, %2F, %23 or %3F"
            )


def test_an_at_sign_that_is_a_value_is_none_of_a_password() -> None:
    for url in ("postgresql://db/shop?user=me@home", "postgresql://app:a%40b%2F@db/shop?application_name=a@b"):
        assert PostgresSettings(url=SecretStr(url)).url.get_secret_value() == url


def test_what_the_driver_does_not_take_is_named() -> None:
    assert refused("postgresql://app@db/shop?sslmode=verify-full&sslrootcert=system") == (
        "sslrootcert=system in the URL can't be done by the driver; name the file with the authorities of the system, "
        "sslrootcert=/etc/ssl/certs/ca-certificates.crt for example"
    )
    for value in ("standby", "prefer-standby", "read-only", "master", ""):
        assert refused(f"postgresql://app@db/shop?target_session_attrs={value}") == (
            "in the URL, target_session_attrs is none of any, read-write, primary; a server has to take writes"
        )


def refused(url: str) -> str:
    """What is said of a URL, without the setting that it stands in."""
    with pytest.raises(ConfigurationError) as raised:
        PostgresStateBackend(url)
    said = str(raised.value)
    assert _PASSWORD not in said
    before, _, fault = said.partition("CRON_POSTGRES_URL=***: ")
    assert before == "settings can't be used: "
    return fault


def test_neither_store_shows_its_password(server: PostgresServer) -> None:
    url = server.url_of("wrong", "app", _PASSWORD)
    settings = PostgresSettings(url=SecretStr(url))
    for shown in (settings, PostgresLockBackend(url), PostgresStateBackend(url)):
        assert _PASSWORD not in f"{shown!r} {vars(shown)!r} {shown}"
