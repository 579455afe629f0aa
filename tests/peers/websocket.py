"""WebSocket peers: a server and a client of frames as literal bytes, and a real server that echoes."""

from __future__ import annotations

import base64
import hashlib
import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from urllib.parse import urlsplit

from websockets.sync.server import ServerConnection, serve

from tests.peers.listener import HOST
from tests.peers.origin import Request
from tests.peers.proxy import Proxy

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
MASK = b"\x12\x34\x56\x78"


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, masked: bool = False) -> bytes:
    """Return a frame (RFC 6455 section 5.2), whether it is allowed or not."""
    first = opcode | (0x80 if fin else 0)
    if len(payload) < 126:
        head = bytes([first, len(payload) | masked << 7])
    elif len(payload) < 2**16:
        head = struct.pack("!BBH", first, 126 | masked << 7, len(payload))
    else:
        head = struct.pack("!BBQ", first, 127 | masked << 7, len(payload))
    return head + (MASK + _mask(payload) if masked else payload)


def _mask(payload: bytes) -> bytes:
    return bytes(byte ^ MASK[position % 4] for position, byte in enumerate(payload))


def close_payload(code: int, reason: str = "") -> bytes:
    return code.to_bytes(2) + reason.encode()


def accept(connection: socket.socket, request: Request, *frames: bytes) -> None:
    """Accept a handshake; the frames follow in the same write."""
    (key,) = [
        line.split(b": ")[1] for line in request.head.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key")
    ]
    proof = base64.b64encode(hashlib.sha1(key + GUID).digest())
    head = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
    connection.sendall(head + proof + b"\r\n\r\n" + b"".join(frames))


@contextmanager
def raw_client(proxy: Proxy, url: str, *fields: bytes) -> Iterator[socket.socket]:
    """Connect through the proxy and get the handshake done; what is sent from then on is the test's."""
    head = [
        b"GET " + url.encode() + b" HTTP/1.1",
        b"Host: " + urlsplit(url).netloc.encode(),
        b"Upgrade: websocket",
        b"Connection: Upgrade",
        b"Sec-WebSocket-Key: " + KEY,
        b"Sec-WebSocket-Version: 13",
        *fields,
    ]
    with closing(socket.create_connection((HOST, proxy.port), timeout=60)) as client:
        client.sendall(b"\r\n".join(head) + b"\r\n\r\n")
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):
            byte = client.recv(1)
            assert byte, answer
            answer += byte
        assert answer.startswith(b"HTTP/1.1 101 "), answer
        yield client


def _echo(connection: ServerConnection) -> None:
    for message in connection:
        connection.send(message)


@contextmanager
def echo_server(tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """Serve WebSockets that send each message back, compressed if the client likes that; yield the port."""
    with serve(_echo, HOST, 0, ssl=tls, max_size=None, ping_interval=None) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.socket.getsockname()[1]
        server.shutdown()
        thread.join(20)
