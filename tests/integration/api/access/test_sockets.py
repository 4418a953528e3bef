"""Whose a connection is, by the lists of sockets that Linux keeps."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import sys
import threading
import time
from pathlib import Path

import pytest

from fastapi_crons.api.owners import Connection, is_ours_by_tables
from tests import seam
from tests.integration.api.sockets import Serve, on_linux, request_of, status_of

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
