from __future__ import annotations

import os
import socket

from rpc.processes import ProcessFinder


def test_a_socket_of_this_process_is_found() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        found = ProcessFinder().submit(client.getsockname(), client.getpeername(), "tcp").result()
    assert found is not None
    assert found.pid == os.getpid()
