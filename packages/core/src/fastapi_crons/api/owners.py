"""Whether the other end of a local TCP connection belongs to a process of our user."""

from __future__ import annotations

import ipaddress
import os
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import psutil

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

#: The kernel's information about itself and about processes.
_KERNEL = Path("/proc")
#: The kernel's lists of TCP sockets, with their owners.
_TABLES = _KERNEL / "net"
#: The size of the range of user numbers outside of user namespaces.
_ALL_USERS = 2**32 - 1
#: The user id that stands for users not mapped into the namespace, unless the kernel has another one configured.
_NOBODY = 65_534
#: How many bytes of such a list are read at a time.
_PIECE = 1 << 20
#: How often a list is read: the kernel may leave out a socket while others come and go.
_LOOKS = 2
_ESTABLISHED, _LISTENING = "01", "0A"


class Connection(NamedTuple):
    """A TCP connection as this process sees it: the addresses of the other end and of its own."""

    peer: IPAddress
    peer_port: int
    own: IPAddress
    own_port: int


def ip_address(text: str) -> IPAddress | None:
    """The parsed address, None for other text; an IPv4 address in IPv6 notation (`::ffff:…`) becomes an IPv4 address."""
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return mapped or found


def is_ours_by_tables(connection: Connection, tables: Path = _TABLES, kernel: Path = _KERNEL) -> bool | None:
    """Whether the other end belongs to our user, by the tables of Linux; None where they don't say."""
    for _ in range(_LOOKS):
        for name, ends in _written(connection):
            owner = _owner(tables / name, ends)
            if owner is not None:
                return owner == os.geteuid() and (None if _may_be_anybody(owner, kernel) else True)
    return None


def _may_be_anybody(user: int, kernel: Path) -> bool:
    """Whether the number also stands for users that have none here: in a user namespace, as of a rootless container."""
    try:
        nobody = int((kernel / "sys/kernel/overflowuid").read_text())
    except (OSError, ValueError):
        nobody = _NOBODY
    if user != nobody:
        return False
    try:
        known = sum(int(line.split()[2]) for line in (kernel / "self/uid_map").read_text().splitlines())
    except (OSError, ValueError, IndexError):
        return True
    return known < _ALL_USERS


def _written(connection: Connection) -> Iterator[tuple[str, str]]:
    """Both ends as the line of the other end has them, for each list that may contain it."""
    peer, own = connection.peer, connection.own
    if isinstance(peer, ipaddress.IPv4Address) and isinstance(own, ipaddress.IPv4Address):
        yield "tcp", _ends(connection, peer.packed, own.packed)
        # A socket that accepts both kinds of addresses.
        yield "tcp6", _ends(connection, _mapped(peer), _mapped(own))
    elif isinstance(peer, ipaddress.IPv6Address) and isinstance(own, ipaddress.IPv6Address):
        yield "tcp6", _ends(connection, peer.packed, own.packed)


def _mapped(address: ipaddress.IPv4Address) -> bytes:
    return bytes(10) + b"\xff\xff" + address.packed


def _ends(connection: Connection, peer: bytes, own: bytes) -> str:
    return f"{_hex(peer)}:{connection.peer_port:04X} {_hex(own)}:{connection.own_port:04X} {_ESTABLISHED} "


def _hex(address: bytes) -> str:
    """An address as the kernel writes it: words of 32 bits, in the byte order of the machine."""
    return "".join(f"{word:08X}" for word in struct.unpack(f"={len(address) // 4}I", address))


def _owner(table: Path, ends: str) -> int | None:
    """The user of the socket with these ends; None where none is listed, or no process holds it any more."""
    wanted = f": {ends}".encode()
    rest = b""
    try:
        with table.open("rb") as lines:
            while piece := lines.read(_PIECE):
                # Search whole lines only.
                whole, _, rest = (rest + piece).rpartition(b"\n")
                at = whole.find(wanted)
                if at >= 0:
                    _, _, _, user, _, inode, *_ = whole[at + len(wanted) :].partition(b"\n")[0].split()
                    # A socket that no process holds any more is listed as root's.
                    return None if inode == b"0" else int(user)
    except (OSError, ValueError):
        return None
    return None


def listens_beyond_loopback(tables: Path = _TABLES) -> bool:
    """Whether this process listens on an address that other machines can reach; False where that is unknown."""
    try:
        links = [os.readlink(entry) for entry in Path("/proc/self/fd").iterdir() if entry.is_symlink()]
    except OSError:
        links = []
    own = {link[len("socket:[") : -1] for link in links if link.startswith("socket:[")}
    for name in ("tcp", "tcp6"):
        try:
            lines = (tables / name).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            _, address, _, state, *rest = line.split()
            if state == _LISTENING and rest[5] in own and not _is_loopback(address.partition(":")[0]):
                return True
    return False


def _is_loopback(written: str) -> bool:
    words = [int(written[start : start + 8], 16) for start in range(0, len(written), 8)]
    found = ip_address(str(ipaddress.ip_address(struct.pack(f"={len(words)}I", *words))))
    return found is not None and found.is_loopback


def is_ours_by_psutil(connection: Connection) -> bool | None:
    """Whether the other end belongs to our user, by psutil; None where it does not say."""
    import psutil

    try:
        try:
            listed = psutil.net_connections("tcp")
        except psutil.AccessDenied:  # macOS shows all connections to root only, and to others their own
            found = any(_is_end_of(connection, process) and _is_ours(process) for process in psutil.process_iter())
            return found or None
        owners = {entry.pid for entry in listed if _is_other_end(connection, entry)} - {None}
        return _is_ours(psutil.Process(owners.pop())) if owners else None
    except (psutil.Error, OSError):
        return None


def _is_end_of(connection: Connection, process: psutil.Process) -> bool:
    import psutil

    try:
        return any(_is_other_end(connection, entry) for entry in process.net_connections("tcp"))
    except psutil.Error:  # another user's, or it has just ended
        return False


def _is_other_end(connection: Connection, entry: object) -> bool:
    ends = (getattr(entry, name) for name in ("laddr", "raddr"))
    shown = [(ip_address(end.ip), end.port) if end else None for end in ends]
    return shown == [(connection.peer, connection.peer_port), (connection.own, connection.own_port)]


def _is_ours(process: psutil.Process) -> bool:
    import psutil

    if sys.platform == "win32":
        return process.username() == psutil.Process().username()
    return process.uids().effective == os.geteuid()


#: The way for this system.
is_ours: Callable[[Connection], bool | None] = is_ours_by_tables if sys.platform == "linux" else is_ours_by_psutil
