"""A server that answers with literal bytes: HTTP/1 over TCP or TLS, so that a test decides about every byte."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from tests.peers.listener import HOST, Listener

NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"


class Request(NamedTuple):
    """A request as it has arrived, chunked bodies with their framing."""

    head: bytes
    body: bytes

    @property
    def path(self) -> str:
        target = self.head.split(b" ", 2)[1].decode("latin-1")
        return "/" + target.split("/", 3)[3] if "://" in target else target


type Answer = bytes | Callable[[socket.socket, Request], None]


def answer(body: bytes, *fields: str, status: str = "200 OK") -> bytes:
    """Return a plain response with a content-length."""
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *fields]
    return "\r\n".join([*head, "", ""]).encode("latin-1") + body


class Origin(Listener):
    """A listening server; `answers` by path say what it sends, or do the sending."""

    def __init__(self, tls: ssl.SSLContext | None = None, host: str = HOST) -> None:
        self.answers: dict[str, Answer] = {}
        self.requests: list[Request] = []
        self.scheme = "https" if tls else "http"
        self._tls = tls
        super().__init__(host)

    def url(self, path: str, host: str | None = None) -> str:
        host = host or (f"[{self.host}]" if ":" in self.host else self.host)
        return f"{self.scheme}://{host}:{self.port}{path}"

    def _serve(self, connection: socket.socket) -> None:
        with suppress(OSError), connection:
            connection.settimeout(30)
            if self._tls is not None:
                connection = self._tls.wrap_socket(connection, server_side=True)
            with connection:
                for request in requests(connection):
                    self.requests.append(request)
                    self._answer(connection, request)

    def _answer(self, connection: socket.socket, request: Request) -> None:
        what = self.answers.get(request.path.partition("?")[0], NOT_FOUND)
        if isinstance(what, bytes):
            connection.sendall(what)
        else:
            what(connection, request)


def requests(connection: socket.socket) -> Iterator[Request]:
    """Yield the requests that arrive on a connection, until it ends."""
    buffer = b""
    while True:
        while b"\r\n\r\n" not in buffer:
            if not (data := connection.recv(65536)):
                return
            buffer += data
        head, _, buffer = buffer.partition(b"\r\n\r\n")
        while not (is_whole := _body_length(head, buffer) is not None) and (data := connection.recv(65536)):
            buffer += data
        if not is_whole:
            return
        length = _body_length(head, buffer) or 0
        yield Request(head, buffer[:length])
        buffer = buffer[length:]


def _body_length(head: bytes, buffer: bytes) -> int | None:
    """Return how long the body at the start of the buffer is; null while it is not whole."""
    fields = head.lower()
    if b"\r\ntransfer-encoding: chunked" in fields:
        end = buffer.find(b"\r\n\r\n", max(0, buffer.find(b"0\r\n")))
        return end + 4 if end >= 0 else None
    length = fields.partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0]
    return int(length or 0) if len(buffer) >= int(length or 0) else None


@contextmanager
def origin(tls: ssl.SSLContext | None = None, host: str = HOST) -> Iterator[Origin]:
    server = Origin(tls, host)
    try:
        yield server
    finally:
        server.close()
