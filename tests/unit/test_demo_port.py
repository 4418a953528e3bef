"""The port that the demo listens on: open pages of it follow again when it is started anew."""

from __future__ import annotations

import socket

from dev import free_port


def test_the_port_of_a_server_that_ended_is_taken_again_while_a_page_is_open() -> None:
    server = socket.create_server(("127.0.0.1", 0))
    port = server.getsockname()[1]
    with socket.create_connection(("127.0.0.1", port)):
        accepted, _ = server.accept()
        accepted.close()
        server.close()
        assert free_port(port) == port
    assert free_port(port) == port


def test_the_port_of_a_server_that_runs_is_not_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        found = free_port(port)
    assert found not in (0, port)
