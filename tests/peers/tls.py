"""A TLS client whose every byte is known, since it runs over memory: over a socket, or inside another such client."""

from __future__ import annotations

import socket
import ssl
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from tests.peers.listener import HOST

TIMEOUT = 30.0


class Stream(Protocol):
    """What TLS runs over."""

    def sendall(self, data: bytes, /) -> object: ...
    def recv(self, size: int, /) -> bytes: ...
    def close(self) -> object: ...


class TlsStream:
    """A TLS connection over another stream. `sent` is what it has sent, encrypted."""

    def __init__(
        self, under: Stream, context: ssl.SSLContext, name: str | None, session: ssl.SSLSession | None = None
    ) -> None:
        self.sent = b""
        self._under = under
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=name, session=session)
        try:
            self._until_done(self.tls.do_handshake)
        except OSError:
            under.close()
            raise

    def sendall(self, data: bytes, /) -> None:
        self._until_done(lambda: self.tls.write(data))

    def recv(self, size: int, /) -> bytes:
        received: list[bytes] = []
        try:
            self._until_done(lambda: received.append(self.tls.read(size)))
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return b""
        return received[0]

    def close(self) -> None:
        """Say that it is the end (RFC 8446 section 6.1), wait until the peer agrees, and close what is below."""
        with suppress(OSError):
            self._until_done(self.tls.unwrap)
        self._under.close()

    def _until_done(self, step: Callable[[], object]) -> None:
        while True:
            try:
                step()
                break
            except ssl.SSLWantReadError:
                self._flush()
                if data := self._under.recv(65536):
                    self._incoming.write(data)
                else:
                    self._incoming.write_eof()
            finally:
                self._flush()
        self._flush()

    def _flush(self) -> None:
        if data := self._outgoing.read():
            self.sent += data
            self._under.sendall(data)


def any_context(
    *, ciphers: str | None = None, version: ssl.TLSVersion | None = None, alpn: tuple[str, ...] = ()
) -> ssl.SSLContext:
    """Return a client's context that trusts everybody; it speaks one version alone if one is named."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if ciphers is not None:
        context.set_ciphers(ciphers)
    if alpn:
        context.set_alpn_protocols(list(alpn))
    if version is not None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version = context.maximum_version = version
    return context


def free_port() -> int:
    """Return a port on which nothing listens."""
    with socket.create_server((HOST, 0)) as server:
        port: int = server.getsockname()[1]
    return port


def dial(port: int) -> socket.socket:
    """Connect to a port of this machine."""
    return socket.create_connection((HOST, port), timeout=TIMEOUT)


def tunnel(proxy: Stream, host: str, port: int) -> Stream:
    """Ask a proxy for a tunnel, and return the stream as it goes on. Raises `ConnectionError` if it refuses."""
    proxy.sendall(f"CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
    answer = b""
    while b"\r\n\r\n" not in answer:
        if not (data := proxy.recv(1)):
            break
        answer += data
    if b" 200 " not in answer.partition(b"\r\n")[0]:
        proxy.close()
        raise ConnectionError(answer)
    return proxy


def get(stream: Stream, target: str, host: str = "localhost") -> bytes:
    """Send a GET request, return the answer as far as its head, and close the stream."""
    stream.sendall(f"GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    answer = b""
    while b"\r\n\r\n" not in answer and (data := stream.recv(65536)):
        answer += data
    stream.close()
    return answer
