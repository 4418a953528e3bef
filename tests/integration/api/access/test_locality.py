"""Who counts as local: real connections, of this user and of another, straight and through a proxy."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from fastapi_crons.api.owners import Connection, is_ours_by_psutil, is_ours_by_tables
from tests import seam
from tests.integration.api.sockets import Serve, as_user, on_linux, request_of, status_of

as_root = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="only root can start a process of another user"
)


NOBODY = 65_534
PROXY = """
def copy(source, target):
    while data := source.recv(65536):
        target.sendall(data)
    target.shutdown(socket.SHUT_WR)
with socket.create_server(("127.0.0.1", 0)) as server:
    print(server.getsockname()[1], flush=True)
    while True:
        client, _ = server.accept()
        upstream = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
        for pair in ((client, upstream), (upstream, client)):
            threading.Thread(target=copy, args=pair, daemon=True).start()
"""


@contextmanager
def a_proxy(port: int, user: int | None) -> Iterator[int]:
    """The port of a proxy that passes on bytes as they are."""
    command = as_user(user, PROXY, str(port))
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd="/") as proxy:
        assert proxy.stdout is not None
        try:
            yield int(proxy.stdout.readline())
        finally:
            proxy.kill()


@pytest.fixture(params=["tables", "psutil"])
def _asked_by(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "tables" and sys.platform != "linux":
        pytest.skip("Linux lists its sockets in /proc/net")
    seam.IS_OURS.replace(monkeypatch, is_ours_by_tables if request.param == "tables" else is_ours_by_psutil)


@pytest.mark.usefixtures("_asked_by")
@pytest.mark.parametrize("host", ["localhost", "localhost:{port}", "127.0.0.1:{port}", "127.9.9.9", "[::1]:{port}"])
async def test_a_process_of_our_own_user_may_change_things(serve: Serve, host: str) -> None:
    served = await serve()
    answer = await served.ask(request_of(host.format(port=served.port)))
    assert status_of(answer) == 200
    runs = await served.ask(request_of("localhost", method="GET", path="/api/crons/job/runs"))
    assert "a secret result" in runs


FAMILIES = {
    "IPv6": ("AF_INET6", "::1", "AF_INET6", "::1"),
    "a server for both, asked by IPv4": ("AF_INET6", "::", "AF_INET", "127.0.0.1"),
    "a server for IPv4, asked by a socket for both": ("AF_INET", "127.0.0.1", "AF_INET6", "::ffff:127.0.0.1"),
    "both for both": ("AF_INET6", "::", "AF_INET6", "::ffff:127.0.0.1"),
}


@pytest.mark.usefixtures("_asked_by")
@pytest.mark.parametrize(("listens", "at", "family", "host"), FAMILIES.values(), ids=FAMILIES)
async def test_both_kinds_of_addresses_are_looked_up(
    serve: Serve, listens: str, at: str, family: str, host: str
) -> None:
    try:
        listener = socket.create_server(
            (at, 0), family=getattr(socket, listens), dualstack_ipv6=at == "::" and socket.has_dualstack_ipv6()
        )
    except OSError:
        pytest.skip("this machine has no IPv6")
    served = await serve(listener)
    assert status_of(await served.ask(request_of("localhost"), family=family, host=host)) == 200


@as_root
@pytest.mark.usefixtures("_asked_by")
async def test_another_user_of_this_machine_is_a_stranger(serve: Serve) -> None:
    served = await serve()
    answer = await served.ask(request_of("localhost"), user=NOBODY)
    assert status_of(answer) == 403
    assert "CRON_API_TOKEN" in answer
    assert "another user" in answer
    listed = await served.ask(request_of("localhost", method="GET", path="/api/crons"), user=NOBODY)
    assert status_of(listed) == 200


@as_root
@pytest.mark.usefixtures("_asked_by")
async def test_whoever_comes_through_a_proxy_of_another_user_that_leaves_no_mark_is_a_stranger(serve: Serve) -> None:
    served = await serve()
    assert status_of(await served.ask(request_of("localhost"))) == 200
    with a_proxy(served.port, NOBODY) as port:
        assert status_of(await served.ask(request_of("localhost"), port=port)) == 403
        runs = await served.ask(request_of("localhost", method="GET", path="/api/crons/job/runs"), port=port)
        assert status_of(runs) == 200
        assert "secret" not in runs
        answer = await served.ask(request_of("localhost", method="GET", path="/api/scheduler/events"), port=port)
        assert status_of(answer) == 403


@on_linux
async def test_a_proxy_of_our_own_user_is_told_by_its_marks_only(serve: Serve) -> None:
    """The pages about access say so."""
    served = await serve()
    with a_proxy(served.port, None) as port:
        assert status_of(await served.ask(request_of("localhost"), port=port)) == 200
        assert status_of(await served.ask(request_of("localhost", "Via: 1.1 x"), port=port)) == 403
        assert status_of(await served.ask(request_of("jobs.example.com"), port=port)) == 403


async def test_where_the_owner_can_not_be_told_nobody_is_local(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    served = await serve()
    seam.IS_OURS.replace(monkeypatch, lambda connection: None)
    answer = await served.ask(request_of("localhost"))
    assert status_of(answer) == 403
    assert "can't tell which user" in answer
    assert "CRON_API_TOKEN" in answer


async def test_a_system_that_does_not_say_in_time_says_nothing(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    served = await serve()
    seam.OWNER_DEADLINE.replace(monkeypatch, 0.2)
    may_end = asyncio.Event()
    loop = asyncio.get_running_loop()

    def hangs(connection: Connection) -> bool:
        asyncio.run_coroutine_threadsafe(may_end.wait(), loop).result()
        return True

    seam.IS_OURS.replace(monkeypatch, hangs)
    answers = await asyncio.gather(*(served.ask(request_of("localhost")) for _ in range(3)))
    may_end.set()
    assert {status_of(answer) for answer in answers} == {403}


async def test_a_client_on_a_socket_file_is_a_stranger(serve: Serve) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind("app.sock")
    await serve(listener)

    def ask_there() -> str:
        with closing(socket.socket(socket.AF_UNIX)) as client:
            client.connect("app.sock")
            client.sendall(request_of("localhost").encode())
            with client.makefile() as answer:
                return answer.read()

    answer = await asyncio.to_thread(ask_there)
    assert status_of(answer) == 403
    assert "CRON_API_TOKEN" in answer


async def test_nothing_is_asked_of_the_system_where_a_token_decides_or_a_host_does(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Connection] = []

    def is_ours(connection: Connection) -> bool:
        asked.append(connection)
        return True

    seam.IS_OURS.replace(monkeypatch, is_ours)
    guarded, unguarded = await serve(api_token="a-token-of-more-than-32-characters"), await serve()
    right = "Authorization: Bearer a-token-of-more-than-32-characters"
    assert status_of(await guarded.ask(request_of("localhost", right))) == 200
    assert status_of(await guarded.ask(request_of("localhost"))) == 401
    assert status_of(await unguarded.ask(request_of("jobs.example.com"))) == 403
    assert asked == []
    assert status_of(await unguarded.ask(request_of("localhost"))) == 200
    assert len(asked) == 1


def _has_user_namespaces() -> bool:
    command = ["unshare", "--user", f"--map-user={NOBODY}", "true"]
    return (
        shutil.which("unshare") is not None
        and subprocess.run(command, capture_output=True, check=False).returncode == 0
    )


@as_root
async def test_in_a_user_namespace_nobody_is_not_everybody(serve: Serve) -> None:
    """As in a rootless container on its host's network, whose process runs as `nobody`."""
    if not _has_user_namespaces():
        pytest.skip("this machine has no user namespaces")
    served = await serve()
    inside = (
        "import ipaddress as i, sys; from fastapi_crons.api.owners import *; "
        "at = i.IPv4Address('127.0.0.1'); print(is_ours_by_tables(Connection(at, int(sys.argv[1]), at, int(sys.argv[2]))))"
    )
    with socket.create_connection(("127.0.0.1", served.port)) as client:
        ports = [str(client.getsockname()[1]), str(served.port)]
        command = ["unshare", "--user", f"--map-user={NOBODY}", sys.executable, "-c", inside, *ports]
        said = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "None"
