"""Ways of a plain HTTP/1.1 client into a proxy: as to an HTTP proxy, through SOCKS, or as to the server itself."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass
from typing import Literal

from tests.peers.listener import HOST

PATIENCE = 60.0


@dataclass(frozen=True)
class Route:
    """What listens on a port of this machine."""

    kind: Literal["proxy", "socks5", "server"]
    port: int

    def open(self, scheme: str, host: str, port: int, trust: ssl.SSLContext) -> socket.socket:
        """Connect to a server."""
        connection = socket.create_connection((HOST, self.port), timeout=PATIENCE)
        if self.kind == "socks5":
            _ask_socks(connection, host, port)
        elif self.kind == "proxy" and scheme == "https":
            connection.sendall(f"CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
            assert read_head(connection).split(b" ")[1] == b"200"
        return trust.wrap_socket(connection, server_hostname=host) if scheme == "https" else connection

    def target(self, scheme: str, host: str, port: int, path: str) -> bytes:
        """Return the request-target for a resource of that server."""
        is_absolute = self.kind == "proxy" and scheme == "http"
        return (f"http://{host}:{port}{path}" if is_absolute else path).encode()


def _ask_socks(connection: socket.socket, host: str, port: int) -> None:
    """Ask for a connection by host name, without authentication (RFC 1928)."""
    connection.sendall(b"\x05\x01\x00")
    assert connection.recv(2) == b"\x05\x00"
    connection.sendall(b"\x05\x01\x00\x03" + bytes([len(host)]) + host.encode() + port.to_bytes(2))
    assert connection.recv(10)[:2] == b"\x05\x00"


def read_head(connection: socket.socket) -> bytes:
    """Read up to the empty line."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = connection.recv(1)
        assert byte, head
        head += byte
    return head


def read_all(connection: socket.socket) -> bytes:
    """Read until the other end closes."""
    return b"".join(iter(lambda: connection.recv(65536), b""))
