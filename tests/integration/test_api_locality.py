"""Who counts as local: real connections, of this user and of another, straight and through a proxy that says nothing."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import uvicorn
from fastapi import FastAPI

from fastapi_crons import Crons, get_cron_router
from fastapi_crons.api.owners import Connection, is_ours_by_psutil, is_ours_by_tables
from tests import seam
from tests.conftest import MakeCrons

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="Linux lists its sockets in /proc/net")
as_root = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="only root can start a process of another user"
)
NOBODY = 65_534
#: Becomes another user when all is imported: where Python is installed, that user may not be let in.
BECOME = """
import encodings.idna, os, socket, sys, threading
user = int(sys.argv.pop(1))
if user != os.geteuid():
    os.setgroups([])
    os.setgid(user)
    os.setuid(user)
"""
#: Sends what it is given to a port, from wherever its user is told; or passes on whatever comes to a port of its own.
ASK = """
family, host, port, request = sys.argv[1:]
with socket.socket(getattr(socket, family)) as to:
    to.connect((host, int(port)))
    to.sendall(request.encode())
    while data := to.recv(65536):
        sys.stdout.buffer.write(data)
"""
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


def request_of(host: str, *headers: str, method: str = "POST", path: str = "/api/crons/job/run") -> str:
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", "Connection: close", *headers]
    return "\r\n".join([*lines, "", ""])


def as_user(user: int | None, code: str, *arguments: str) -> list[str]:
    """The command that runs code as a user, or as the own one."""
    return [sys.executable, "-c", BECOME + code, str(os.geteuid() if user is None else user), *arguments]


def ask(port: int, request: str, *, family: str = "AF_INET", host: str = "127.0.0.1", user: int | None = None) -> str:
    """The answer to a request of another process."""
    command = as_user(user, ASK, family, host, str(port), request)
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30, cwd="/").stdout


def status_of(answer: str) -> int:
    return int(answer.split()[1])


class Served:
    """A management API behind a real server, which listens on a socket of the test's choice."""

    def __init__(self, crons: Crons, listener: socket.socket) -> None:
        app = FastAPI()
        app.include_router(get_cron_router(crons), prefix="/api")
        self.listener = listener
        self.server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_level="critical", loop="asyncio"))
        self.task = asyncio.create_task(self.server.serve(sockets=[listener]))

    @property
    def port(self) -> int:
        port: int = self.listener.getsockname()[1]
        return port

    async def ask(self, request: str, **how: Any) -> str:
        return await asyncio.to_thread(ask, how.pop("port", self.port), request, **how)

    async def stop(self) -> None:
        self.server.should_exit = True
        await self.task


Serve = Callable[..., Any]


@pytest_asyncio.fixture
async def serve(make_crons: MakeCrons) -> AsyncIterator[Serve]:
    """Serves a scheduler with one job."""
    served: list[Served] = []

    async def serve(listener: socket.socket | None = None, **options: Any) -> Served:
        crons = make_crons(**options)

        @crons.cron("0 0 1 1 *", name="job")
        async def job() -> str:
            return "a secret result"

        await crons.start()
        served.append(Served(crons, listener or socket.create_server(("127.0.0.1", 0))))
        for _ in range(1_000):
            if served[-1].server.started:
                break
            await asyncio.sleep(0.01)
        return served[-1]

    yield serve
    for one in served:
        await one.stop()


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


CONNECTION = Connection(ipaddress.IPv4Address("127.0.0.1"), 0xABCD, ipaddress.IPv4Address("127.0.0.1"), 0x1F90)
LOOPBACK = "0100007F" if sys.byteorder == "little" else "7F000001"


def line(
    own: int, other: int, *, state: str = "01", user: int | None = None, inode: int = 7, at: str = LOOPBACK
) -> str:
    user = os.geteuid() if user is None else user
    return (
        f"   1: {at}:{own:04X} {at}:{other:04X} {state} 00000000:00000000 00:00000000 00000000 "
        f"{user:5d}        0 {inode} 1 0000000000000000 20 4 30 10 -1\n"
    )


HEADING = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
TABLES: dict[str, tuple[str, bool | None]] = {
    "ours": (line(0xABCD, 0x1F90), True),
    "another's": (line(0xABCD, 0x1F90, user=os.geteuid() + 1), False),
    "our own end only": (line(0x1F90, 0xABCD), None),
    "another connection": (line(0xABCD, 0x1F91), None),
    "closing": (line(0xABCD, 0x1F90, state="05"), None),
    "listening": (line(0xABCD, 0, state="0A"), None),
    "let go of, which is listed as root's": (line(0xABCD, 0x1F90, inode=0), None),
    "nothing": ("", None),
    "cut off": (line(0xABCD, 0x1F90)[:60] + "\n", None),
    "no list": ("nonsense\n" * 3, None),
}


@on_linux
@pytest.mark.parametrize(("lines", "ours"), TABLES.values(), ids=TABLES)
def test_the_line_of_the_other_end_decides(tmp_path: Path, lines: str, ours: bool | None) -> None:
    (tmp_path / "tcp").write_text(HEADING + line(0x1F90, 0xABCD, user=0) + lines)
    assert is_ours_by_tables(CONNECTION, tmp_path) is ours


@on_linux
@pytest.mark.parametrize(
    ("others", "known", "ours"),
    [
        (0, "0 0 4294967295\n", True),
        (0, "0 1000 1\n1 100000 65536\n", None),
        (0, "", None),
        (1, "0 1000 1\n1 100000 65536\n", True),
    ],
    ids=["all users have numbers", "only some have", "none has", "a number of its own"],
)
def test_a_number_that_stands_for_all_users_without_one_is_nobodys(
    tmp_path: Path, others: int, known: str, ours: bool | None
) -> None:
    (tmp_path / "tcp").write_text(HEADING + line(0xABCD, 0x1F90))
    for name, text in {"sys/kernel/overflowuid": f"{os.geteuid() + others}\n", "self/uid_map": known}.items():
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(text)
    assert is_ours_by_tables(CONNECTION, tmp_path, tmp_path) is ours


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


@on_linux
@pytest.mark.parametrize("piece", [1, 100, 151, 4096])
def test_a_line_is_found_wherever_reading_is_interrupted(
    tmp_path: Path, piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seam.OWNER_PIECE.replace(monkeypatch, piece)
    others = [line(port, 0x1F90, user=os.geteuid() + 1) for port in range(50)]
    (tmp_path / "tcp").write_text(HEADING + "".join([*others, line(0xABCD, 0x1F90), *others]))
    assert is_ours_by_tables(CONNECTION, tmp_path) is True


@on_linux
def test_a_system_without_lists_says_nothing(tmp_path: Path) -> None:
    assert is_ours_by_tables(CONNECTION, tmp_path) is None


async def test_the_lists_are_read_one_at_a_time_and_not_on_the_event_loop(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine with many sockets has long ones."""
    reading: list[int] = []
    most: list[int] = []

    def is_ours(connection: Connection) -> bool:
        reading.append(threading.get_ident())
        most.append(len(reading))
        time.sleep(0.05)
        reading.pop()
        assert threading.get_ident() != loop_thread
        return True

    loop_thread = threading.get_ident()
    seam.IS_OURS.replace(monkeypatch, is_ours)
    served = await serve()
    request = request_of("localhost", method="GET", path="/api/crons")
    answers = await asyncio.gather(*(served.ask(request) for _ in range(4)))
    assert [status_of(answer) for answer in answers] == [200] * 4
    assert most == [1] * 4
