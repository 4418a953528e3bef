"""Whether a process listens to other machines, by the kernel's lists."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest

from fastapi_crons.api.owners import listens_beyond_loopback


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's lists are Linux'")
@pytest.mark.parametrize(
    ("table", "address", "beyond"),
    [
        ("tcp", "0100007F", False),
        ("tcp", "00000000", True),
        ("tcp", "0700000A", True),
        ("tcp6", "00000000000000000000000001000000", False),
        ("tcp6", "0000000000000000FFFF00000100007F", False),
        ("tcp6", "00000000000000000000000000000000", True),
    ],
)
def test_what_others_can_reach_is_told_from_loopback(tmp_path: Path, table: str, address: str, beyond: bool) -> None:
    with socket.socket() as ours:
        inode = os.readlink(f"/proc/self/fd/{ours.fileno()}")[len("socket:[") : -1]
        line = f"   0: {address}:1F90 {address}:0000 0A 00000000:00000000 00:00000000 00000000 0 0 {inode} 1 x 100 0 0 10 0"
        (tmp_path / table).write_text(f"head\n{line}\n")
        assert listens_beyond_loopback(tmp_path) is beyond
        (tmp_path / table).write_text(f"head\n{line.replace(f' {inode} ', ' 1 ')}\n")
        assert not listens_beyond_loopback(tmp_path), "of another process"
