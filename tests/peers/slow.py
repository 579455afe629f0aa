"""Servers that are slow in one way each: to accept, to pass on what they get, to open a tunnel."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.peers.listener import HOST, Listener
from tests.peers.meddler import DELAY, SLOW
from tests.peers.origin import Origin

SYN_RETRY = 1.0
"""Seconds after which Linux sends a SYN again that was not answered (RFC 6298 section 2)."""

SYN_SENT = "02"
"""The state of a socket in /proc/net/tcp."""


class StalledOrigin(Origin):
    """A server whose queue of connections is full until the first client has tried to connect."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._is_full = threading.Event()
        super().__init__(tls)
        self._is_full.wait()

    def _accept(self) -> None:
        self._listener.listen(0)
        with socket.create_connection((self.host, self.port)):
            self._is_full.set()
            while not self._is_tried():
                time.sleep(0.02)
            super()._accept()

    def _is_tried(self) -> bool:
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()]
        return any(row[2].endswith(f":{self.port:04X}") and row[3] == SYN_SENT for row in rows[1:])


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


def _join(client: socket.socket, server: socket.socket) -> None:
    """Pass on what comes from either side, until both have ended."""
    with client, server:
        back = threading.Thread(target=_pass_on, args=(server, client), daemon=True)
        back.start()
        _pass_on(client, server)
        back.join(30)


class Relay(Listener):
    """Accepts at once, and only later passes on what it gets: a TLS handshake through it is slow."""

    def __init__(self, port: int, seconds: float) -> None:
        self.seconds = seconds
        self._target = port
        super().__init__()

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError):
            time.sleep(self.seconds)
            _join(client, self._connect(client))

    def _connect(self, _client: socket.socket) -> socket.socket:
        return socket.create_connection((HOST, self._target))


class UpstreamProxy(Relay):
    """A proxy that looks every name up as this machine's; it takes its time for the name `slow.names.test`."""

    def __init__(self, seconds: float, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self.heads: list[bytes] = []
        super().__init__(0, seconds)

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError):
            if self._tls is not None:
                client = self._tls.wrap_socket(client, server_side=True)
            _join(client, self._connect(client))

    def _connect(self, client: socket.socket) -> socket.socket:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            if not (byte := client.recv(1)):
                raise OSError("the client has gone")
            head += byte
        self.heads.append(head)
        method, target, _ = head.split(b" ", 2)
        host, _, port = target.removeprefix(b"http://").partition(b"/")[0].decode().rpartition(":")
        if host == SLOW:
            time.sleep(self.seconds)
        server = socket.create_connection((HOST, int(port)))
        if method == b"CONNECT":
            client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        else:
            server.sendall(head)
        return server


async def slow_application(scope: Any, receive: Any, send: Any) -> None:
    """Answer late on `/wait`, and in two parts on `/receive`."""
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body"):
        pass
    if scope["path"] == "/wait":
        await asyncio.sleep(DELAY)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"one ", "more_body": True})
    if scope["path"] == "/receive":
        await asyncio.sleep(DELAY)
    await send({"type": "http.response.body", "body": b"two"})
