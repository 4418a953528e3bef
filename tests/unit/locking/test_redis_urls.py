"""URLs of Redis servers: each part is used, or refused by its name, and no part is quoted that may be of a password."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis

from fastapi_crons import ConfigurationError, Crons
from fastapi_crons_redis import RedisLockBackend, RedisStateBackend
from fastapi_crons_redis.connection import Connection
from fastapi_crons_redis.settings import RedisSettings
from fastapi_crons_redis.url import RedisUrl, parse

PLACE = ("h.example", 6379)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://h.example", RedisUrl("server", False, (PLACE,), "", 0, None, None, {})),
        ("redis://h.example/", RedisUrl("server", False, (PLACE,), "", 0, None, None, {})),
        ("redis://h.example/3", RedisUrl("server", False, (PLACE,), "", 3, None, None, {})),
        ("redis://h.example?db=3", RedisUrl("server", False, (PLACE,), "", 3, None, None, {})),
        ("redis://:p%2Fs%40s@h.example", RedisUrl("server", False, (PLACE,), "", 0, None, "p/s@s", {})),
        ("redis://h.example?username=u&password=p", RedisUrl("server", False, (PLACE,), "", 0, "u", "p", {})),
        ("rediss://u:p@[::1]:7000/1", RedisUrl("server", True, (("::1", 7000),), "", 1, "u", "p", {})),
        ("unix:///run/r%20s.sock?db=2", RedisUrl("socket", False, (), "/run/r s.sock", 2, None, None, {})),
        (
            "redis+sentinel://u:p@a,[::1]:7/primary/2",
            RedisUrl("sentinel", False, (("a", 26379), ("::1", 7)), "primary", 2, "u", "p", {}),
        ),
        ("rediss+cluster://h.example", RedisUrl("cluster", True, (PLACE,), "", 0, None, None, {})),
        (
            "rediss://h.example?socket_timeout=1.5&max_connections=7&protocol=3&decode_responses=yes&ssl_cert_reqs=none",
            RedisUrl(
                "server",
                True,
                (PLACE,),
                "",
                0,
                None,
                None,
                {
                    "socket_timeout": 1.5,
                    "max_connections": 7,
                    "protocol": 3,
                    "decode_responses": True,
                    "ssl_cert_reqs": "none",
                },
            ),
        ),
    ],
)
def test_what_a_url_says(url: str, expected: RedisUrl) -> None:
    assert parse(url) == expected


#: What can't be used, and what the text about it names.
FAULTS = {
    "redis://h/abc": "database",
    "redis://h/1/2": "database",
    "redis://h/-1": "database",
    "redis://h/1/": "database",
    "redis://h/0x1": "database",
    "redis://h?db=one": "'db'",
    "redis+cluster://h/1": "database 0 only",
    "redis+sentinel://h": "name of the service",
    "redis+sentinel://h/primary/x": "database",
    "redis+sentinel://h/primary/1/2": "database",
    "redis+sentinel://h:port/primary": "sentinel's host and port",
    "redis+sentinel://h:99999/primary": "sentinel's host and port",
    "redis+sentinel://a,,b/primary": "sentinel's host and port",
    "redis://h?socket_timeot=3": "'socket_timeot'",
    "redis+sentinel://h/primary?nope=1": "'nope'",
    "redis+cluster://h?nope=1": "'nope'",
    "redis://h?socket_timeout=soon": "'socket_timeout'",
    "redis://h?socket_timeout=0": "'socket_timeout'",
    "redis://h?max_connections=-3": "'max_connections'",
    "redis://h?protocol=4": "'protocol'",
    "redis://h?decode_responses=maybe": "'decode_responses'",
    "redis://h?db=": "'db'",
    "redis://h?db=1&db=2": "'db'",
    "redis://h/1?db=2": "'db'",
    "redis+sentinel://h/primary/1?db=0": "'db'",
    "redis://h?ssl_ca_certs=/x.pem": "rediss://",
    "rediss://h?ssl_ca_certs=/no/such/ca.pem": "'/no/such/ca.pem'",
    "rediss://h?ssl_keyfile=/no/such/key.pem": "'ssl_keyfile'",
    "rediss://h?ssl_cert_reqs=never": "'ssl_cert_reqs'",
    "unix://": "path of the socket",
    "unix://run/redis.sock": "path of the socket",
    "unix:///run/redis.sock?socket_keepalive=yes": "'socket_keepalive'",
    "redis://h:0": "not the URL",
    "redis://h:port": "not the URL",
    "redis://h:99999": "not the URL",
    "redis://h/0#1": "not the URL",
    "http://h": "not the URL",
    "h:6379": "not the URL",
    '"redis://h"': "not the URL",
    "redis://u:p@ss/word@h": "not the URL",
}


@pytest.mark.parametrize("url", FAULTS)
async def test_what_can_not_be_used_is_refused_when_settings_are_read(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("CRON_REDIS_URL", url)
    with pytest.raises(ConfigurationError) as refused:
        await Crons().start()
    assert "CRON_REDIS_URL=***: " in str(refused.value)
    assert FAULTS[url] in str(refused.value)
    for made in (RedisStateBackend, RedisLockBackend):
        with pytest.raises(ConfigurationError, match=f"^{made.__name__}: ") as in_code:
            made(url)
        assert FAULTS[url] in str(in_code.value)


secrets = st.text(st.characters(codec="utf-8", min_codepoint=33), min_size=5).map(lambda text: f"s3cr{text}")


@given(secret=secrets, kind=st.sampled_from(["redis", "rediss", "redis+sentinel", "redis+cluster", "unix"]))
def test_a_password_is_read_as_it_was_encoded_and_is_in_no_text_about_one_that_was_not(secret: str, kind: str) -> None:
    place = "/run/redis.sock" if kind == "unix" else "h/primary" if kind.endswith("sentinel") else "h"
    assert parse(f"{kind}://u:{quote(secret, safe='')}@{place}").password == secret
    for url in (f"{kind}://u:{secret}@{place}", f"{kind}://{place}?password={secret}&nope=1"):
        assert "s3cr" not in what_is_said_of(url)


def what_is_said_of(url: str) -> str:
    try:
        parse(url)
    except ValueError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_file_of_authorities_that_can_not_be_used_is_named_when_settings_are_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str | None
) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    monkeypatch.setenv("CRON_REDIS_CA_FILE", str(path))
    with pytest.raises(ConfigurationError, match=r"CRON_REDIS_CA_FILE=.*ca\.pem"):
        RedisSettings()


def test_a_url_in_code_goes_with_what_the_environment_says_besides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRON_REDIS_URL", "redis://elsewhere/9")
    monkeypatch.setenv("CRON_REDIS_PASSWORD", "s3cret")
    monkeypatch.setenv("CRON_STORE_TIMEOUT", "2")
    connection = Connection.to("redis://h.example/3", "test")
    assert isinstance(connection.client, Redis)
    options = connection.client.connection_pool.connection_kwargs
    assert (options["host"], options["db"], options["password"]) == ("h.example", 3, "s3cret")
    assert options["socket_timeout"] == pytest.approx(1.8)
    assert connection.owned
