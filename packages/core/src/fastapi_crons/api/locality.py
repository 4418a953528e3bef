"""Who counts as local: a process of this user, at this machine's own name, through no proxy.

A loopback address alone says nothing: whoever is behind a proxy on this machine has one, and today's proxies leave no mark
by default. A page that rebinds its own DNS name to 127.0.0.1 still sends that name.
"""

from __future__ import annotations

import asyncio
import re
from functools import partial

from starlette.requests import HTTPConnection

from fastapi_crons._util.threads import ThreadPool
from fastapi_crons.api import owners
from fastapi_crons.api.owners import Connection, ip_address

#: Headers that proxies, and the networks in front of them, add.
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
#: What test clients call an app: a name without a dot.
_TEST_HOST = re.compile(rb"[A-Za-z0-9_-]+(?::[0-9]{1,5})?")
#: What they call themselves: Starlette's by this name, httpx' by this address, in a scope that is no server's.
_TEST_CLIENT = "testclient"
_HTTPX = ("127.0.0.1", 123)
#: How long (seconds) the system may take to say whose a connection is.
_DEADLINE = 5.0
#: One at a time: each takes as long as the machine has sockets.
_askers = ThreadPool(1, "fastapi-crons-owners")


async def why_not_local(connection: HTTPConnection) -> str | None:
    """Why a client does not count as local, as a part of a sentence; None where it does."""
    mark = next((name for name in map(_plain, connection.headers) if _is_mark(name)), None)
    if mark is not None:
        return f"this request came through a proxy (it has a header {mark!r})"
    if connection.scope.get("http_version") == "1.0":  # as nginx does that leaves no other mark, before 1.29.7
        return "this request came by HTTP/1.0, as proxies send it"
    hosts = [value for name, value in connection.scope["headers"] if name.lower() == b"host"]
    if len(hosts) != 1:
        return "this request does not have one Host header"
    if is_test_client(connection):
        return None if _is_local(hosts[0]) or _TEST_HOST.fullmatch(hosts[0]) else _OTHER_HOST
    if not _is_local(hosts[0]):
        return _OTHER_HOST
    return await _why_not_ours(connection)


_OTHER_HOST = "its Host is none of localhost, 127.0.0.1 and [::1]"
_UNKNOWN = "here it can't be told whose process a client is"


def _plain(name: str) -> str:
    # Some servers hand on headers with _ in their names.
    return name.lower().replace("_", "-")


def _is_mark(name: str) -> bool:
    return name in _MARKS or name.startswith(_FAMILIES)


def _is_local(host: bytes) -> bool:
    found = _LOCAL_HOST.fullmatch(host)
    if found is None:
        return False
    return found[1] is None or ip_address(found[1].decode()) is not None


def is_test_client(connection: HTTPConnection) -> bool:
    """Whether it is no network that a request comes from, but a test client in this process.

    A server says in its scope which version of the protocol it speaks, and has no client from a port that only root may use.
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
