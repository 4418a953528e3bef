"""Which clients are local: processes of the server's user, which address this machine by a local name, through no proxy.

A loopback address alone proves nothing: every client of a proxy on this machine has one, and many proxies add no header by
default. A page that rebinds its own DNS name to 127.0.0.1 still sends that name as Host.
"""

from __future__ import annotations

import asyncio
import re
from functools import partial

from starlette.requests import HTTPConnection

from fastapi_crons._util.threads import ThreadPool
from fastapi_crons.api import owners
from fastapi_crons.api.owners import Connection, ip_address

#: Headers that proxies and content delivery networks add.
_MARKS = (
    "forwarded",
    "via",
    "x-real-ip",
    "client-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "true-client-ip",
    "cdn-loop",
    "x-amzn-trace-id",
    "x-cloud-trace-context",
)
_FAMILIES = (
    "x-forwarded",
    "cf-",
    "fastly-",
    "fly-",
    "x-envoy-",
    "x-original-",
    "x-azure-",
    "x-vercel-",
    "x-appengine-",
)
_LOCAL_HOST = re.compile(rb"(?:localhost|(127(?:\.[0-9]{1,3}){3})|\[::1\])(?::[0-9]{1,5})?", re.IGNORECASE)
#: The Host that test clients send: a name without a dot.
_TEST_HOST = re.compile(rb"[A-Za-z0-9_-]+(?::[0-9]{1,5})?")
#: The client address of test clients: this name for Starlette's, this address for that of httpx, without a server's scope.
_TEST_CLIENT = "testclient"
_HTTPX = ("127.0.0.1", 123)
#: How long (seconds) the system may take to find the owner of a connection.
_DEADLINE = 5.0
#: One look-up at a time: each reads the list of all sockets of the machine.
_askers = ThreadPool(1, "fastapi-crons-owners")


async def why_not_local(connection: HTTPConnection) -> str | None:
    """Why a client does not count as local, as part of a sentence; None for a local one."""
    for header in connection.headers:
        name = header.lower().replace("_", "-")  # some servers accept headers with _ in their names
        if name in _MARKS or name.startswith(_FAMILIES):
            return f"this request came through a proxy (it has a header {name!r})"
    if connection.scope.get("http_version") == "1.0":  # the only sign of nginx before 1.29.7
        return "this request uses HTTP/1.0, as some proxies do"
    hosts = [value for name, value in connection.scope["headers"] if name.lower() == b"host"]
    if len(hosts) != 1:
        return "this request does not have exactly one Host header"
    if is_test_client(connection):
        return None if _is_local(hosts[0]) or _TEST_HOST.fullmatch(hosts[0]) else _OTHER_HOST
    if not _is_local(hosts[0]):
        return _OTHER_HOST
    return await _why_not_ours(connection)


_OTHER_HOST = "its Host is not localhost, 127.0.0.1 or [::1]"
_UNKNOWN = "this server can't tell which user a client belongs to"


def _is_local(host: bytes) -> bool:
    found = _LOCAL_HOST.fullmatch(host)
    if found is None:
        return False
    return found[1] is None or ip_address(found[1].decode()) is not None


def is_test_client(connection: HTTPConnection) -> bool:
    """Whether a request comes from a test client in this process, and from no network.

    A server puts its version of the ASGI specification into the scope, and has no client on a port that only root may use.
    """
    peer = connection.scope.get("client")
    if peer is None:
        return False
    return peer[0] == _TEST_CLIENT or (tuple(peer) == _HTTPX and "spec_version" not in connection.scope.get("asgi", {}))


async def _why_not_ours(connection: HTTPConnection) -> str | None:
    ends = _ends(connection)
    if ends is None:
        return _UNKNOWN
    if not ends.peer.is_loopback:
        return "this request came over the network"
    asked = _askers.submit(partial(owners.is_ours, ends))
    await asyncio.wait({asked}, timeout=_DEADLINE)
    if not asked.done():
        _askers.withdraw(asked)
        return _UNKNOWN
    ours = asked.result().value
    if ours is None:
        return _UNKNOWN
    return None if ours else "this request is another user's of this machine"


def _ends(connection: HTTPConnection) -> Connection | None:
    """Both ends of a connection; None where the server does not say them, as on a socket file."""
    peer, own = connection.scope.get("client"), connection.scope.get("server")
    if peer is None or own is None or not peer[1] or not own[1]:
        return None
    there, here = ip_address(peer[0]), ip_address(own[0])
    return None if there is None or here is None else Connection(there, peer[1], here, own[1])
