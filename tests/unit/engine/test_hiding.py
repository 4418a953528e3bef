"""What is hidden of texts that people are shown: passwords in addresses, named values, secrets of the settings."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from fastapi_crons._util.hiding import as_cause, forget_all, know, know_address, without_secrets
from fastapi_crons._util.text import cut, one_line
from fastapi_crons.engine.runs.outcome import error_of
from fastapi_crons.locking import RedisLockBackend

#: What is hard in a password: the marks that part an address.
_MARKS = "/@:#?%"
_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
passwords = st.text(_LETTERS + _MARKS, min_size=4, max_size=40)
texts = st.text(min_size=0, max_size=20).filter(lambda text: not set(text) & set("@/&?"))


@pytest.fixture(autouse=True)
def _nothing_known() -> Iterator[None]:
    forget_all()
    yield
    forget_all()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("redis://me:hunter2@db:6379/0", "redis://***@db:6379/0"),
        ("redis://me:p/ss@db", "redis://***@db"),
        ("redis://me:p@ss@db", "redis://***@db"),
        ("redis://me:p:s#s?x%41@db/1", "redis://***@db/1"),
        ("redis://:p%2Fss@db", "redis://***@db"),
        ("redis://hunter2@db", "redis://***@db"),
        ("https://john.doe:12/hunter2@db", "https://***@db"),
        ("REDISS://ME:hunter2@DB", "REDISS://***@DB"),
        ("redis://me:hunter2@[::1]:6379/0", "redis://***@[::1]:6379/0"),
        ("redis+sentinel://me:hunter2@a:1,b:2/jobs", "redis+sentinel://***@a:1,b:2/jobs"),
        ("unix://me:hunter2@/run/redis.sock?db=1", "unix://***@/run/redis.sock?db=1"),
        ("postgresql+asyncpg://me:hunter2@db/jobs", "postgresql+asyncpg://***@db/jobs"),
        ("//me:hunter2@db", "//***@db"),
        ("https://TOKEN@partner.example/x", "https://***@partner.example/x"),
        ("https://partner.example/x?password=p&s=1", "https://partner.example/x?password=***&s=1"),
        ("https://partner.example/?a=1&access_token=p#x", "https://partner.example/?a=1&access_token=***"),
        ("redis://db/0?sentinel_password=hunter2&db=1", "redis://db/0?sentinel_password=***&db=1"),
        ("redis://db/0?password=p@ss", "redis://***"),
        ("redis://me:hunter2@db?sslpassword=p@ss", "redis://***"),
        ("redis://a:p@b,redis://c:q@d and redis://e:r@f!", "redis://***@b,redis://***@d and redis://***@f!"),
        ('{"url":"redis://me:pw@db","mail":"x@y.org"}', '{"url":"redis://***@db","mail":"x@y.org"}'),
        ("connecting to 'redis://me:p'ss@db', x@y", "connecting to 'redis://***@db', x@y"),
        ("<Connection(host=h,password=p,ss)w,db=0)>", "<Connection(host=h,password=***,db=0)>"),
        (
            "No master found for 'x' : <redis.asyncio.client.Redis(<redis.asyncio.connection.ConnectionPool("
            "<redis.asyncio.connection.Connection(db=0,username=None,password=hunter2,credential_provider=None)>)>)>",
            "No master found for 'x' : <redis.asyncio.client.Redis(<redis.asyncio.connection.ConnectionPool("
            "<redis.asyncio.connection.Connection(db=0,username=None,password=***,credential_provider=None)>)>)>",
        ),
        ("Sentinel(h, sentinel_kwargs={'password': 'p ss'})", "Sentinel(h, sentinel_kwargs={'password': '***'})"),
        ('{"client_secret": "a\\"b c", "x": 1}', '{"client_secret": "***", "x": 1}'),
        (r'"{\"token\": \"a b\", \"x\": 1}"', r'"{\"token\": \"***\", \"x\": 1}"'),
        ("api_key=abc def", "api_key=*** def"),
    ],
)
def test_secrets_in_addresses_and_behind_names_are_hidden(text: str, shown: str) -> None:
    assert without_secrets(text) == shown
    assert without_secrets(shown) == shown
    assert f"before {shown}\nafter" == without_secrets(f"before {text}\nafter")


@pytest.mark.parametrize(
    "text",
    [
        "https://medium.com/@somebody/post?a=b",
        "https://api.partner.example/users/joe@example.com",
        "redis://db:6379/0 does not answer",
        "see https://example.com/docs, please.",
        "mail somebody@example.com: the password is wrong",
        "Redis(host='db', password=None)",
        "fencing_token=7",
        "a // b",
        "",
    ],
)
def test_what_holds_no_secret_stays_as_it_is(text: str) -> None:
    assert without_secrets(text) == text


def _survives(password: str, text: str) -> bool:
    """Whether any four characters in a row of a password stand in a text."""
    return any(password[start : start + 4] in text for start in range(len(password) - 3))


@settings(deadline=None)
@given(
    scheme=st.sampled_from(["redis", "rediss", "HTTPS", "http", "postgresql+psycopg", "unix", "amqp"]),
    user=st.sampled_from(["", "u", "john.doe"]),
    password=passwords,
    host=st.sampled_from(["h", "h:1/2", "[::1]:1", "h1:1,h2:2/s"]),
    encoded=st.booleans(),
    before=texts,
    after=texts,
)
def test_no_part_of_a_password_in_an_address_survives(
    scheme: str, user: str, password: str, host: str, encoded: bool, before: str, after: str
) -> None:
    assume("//" not in password and scheme not in password)
    written = quote(password, safe="") if encoded else password
    text = without_secrets(f"{before} {scheme}://{user}:{written}@{host} {after}")
    assert not _survives(written, text.removeprefix(before).removesuffix(after).replace(f"{scheme}://", ""))


@settings(deadline=None)
@given(token=passwords, parameter=st.sampled_from(["password", "token", "api_key", "sentinel_password"]))
def test_no_part_of_a_token_or_a_parameter_survives(token: str, parameter: str) -> None:
    assume("//" not in token and "https" not in token and "redis" not in token)
    assert not _survives(token, without_secrets(f"https://{token}@h"))
    assert not _survives(token, without_secrets(f"redis://h/0?a=b&{parameter}={token}&db=1"))


@settings(deadline=None)
@given(text=st.text("abc/:@?&=#'\" ,pwd\\\n", max_size=200))
def test_what_was_hidden_once_stays_as_it_is(text: str) -> None:
    hidden = without_secrets(text)
    assert without_secrets(hidden) == hidden


@settings(deadline=None)
@given(start=st.integers(0, 130), password=passwords.filter(lambda text: len(text) > 8))
def test_no_half_of_a_password_is_left_where_a_text_is_cut(start: int, password: str) -> None:
    assume("redis" not in password)
    forget_all()
    know(password)
    for secret in (password, f"redis://u:{password}@h"):
        text = "=" * start + " " + secret + " " + "." * 20_000
        shown, mark, _ = cut(text, 100).partition("…")
        assert mark
        assert not _survives(password, shown.replace("redis://", ""))


def test_an_address_that_goes_on_behind_the_cut_is_hidden() -> None:
    token = "x" * 100_000
    assert cut(f"redis://{token}@h", 100) == "redis://***… (100010 characters)"
    assert cut(f"https://partner.example/{token}", 30).startswith("https://partner.example/xxxxxx")


@pytest.mark.parametrize(
    ("secret", "text", "shown"),
    [
        ("correct-horse", "the answer was correct-horse!", "the answer was ***!"),
        ("correct-horse", "xcorrect-horsex", "x***x"),
        ("p@ss/wörd", "p%40ss/w%C3%B6rd p%40ss%2Fw%C3%B6rd p@ss/wörd", "*** *** ***"),
        ("p%40ss-word", "p@ss-word", "***"),
        ('a"b\\c\nd-long', repr('a"b\\c\nd-long'), "'***'"),
        ("test", "test failed in tests", "*** failed in tests"),
        ("a", "a banana", "a banana"),
        ("abc", "abc", "abc"),
    ],
)
def test_a_known_secret_is_hidden_wherever_it_appears(secret: str, text: str, shown: str) -> None:
    know(secret)
    assert without_secrets(text) == shown


def test_the_password_of_a_known_address_is_hidden_without_the_address() -> None:
    know_address("redis://me:p%40ss-of-redis@host/0?sentinel_password=of-the-sentinel")
    know_address("https://token-of-a-hook@host/x")
    text = without_secrets("me: p@ss-of-redis, p%40ss-of-redis, of-the-sentinel, token-of-a-hook at host")
    assert text == "me: ***, ***, ***, *** at host"


def test_the_cause_of_an_error_is_left_out_where_it_holds_a_secret() -> None:
    harmless, telling = OSError("no route to host"), OSError("no route to redis://u:hunter2@h")
    assert as_cause(harmless) is harmless
    assert as_cause(telling) is None
    error = ValueError("failed")
    error.__cause__ = telling
    assert as_cause(error) is None


def test_errors_in_one_line_and_in_full_hold_no_secret() -> None:
    told = "No master for 'x': <Connection(host=h,password=hunter2,db=0)> at https://TOKEN@h"
    try:
        raise ConnectionError(told)
    except ConnectionError as error:
        kept = error_of(error, 500)
        for text in (one_line(error), kept.message, kept.traceback):
            assert "<Connection(host=h,password=***,db=0)> at https://***@h" in text
            assert "hunter2" not in text
            assert "TOKEN" not in text


async def test_an_error_of_a_redis_store_holds_no_password_of_the_client_it_was_given() -> None:
    client = Redis(host="127.0.0.1", port=1, password="a-password-of-redis")
    store = RedisLockBackend(client)
    told = (
        f"refused: {client.connection_pool.connection_kwargs}, a-password-of-redis, Redis(password=a-password-of-redis)"
    )
    assert "a-password-of-redis" not in one_line(ConnectionError(told), 2_000)
    assert "a-password-of-redis" not in repr(store)
    await client.aclose()
