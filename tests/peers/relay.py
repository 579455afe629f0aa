"""Relays between a client and a proxy, over TCP and UDP: they note what clients send, and can cut it up."""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from tests.peers.listener import HOST, Listener

PAUSE = 0.005
"""Seconds between pieces, so that each comes in a segment of its own."""

type Cut = Callable[[bytes], list[bytes]]


class Relay(Listener):
    """A listening relay. `sent` has what each client has sent, by the port that the proxy sees as the client's.

    `cut`, if given, takes the first bytes that arrive (a ClientHello that comes at once) and returns what is sent
    in their stead, one piece after the other.
    """

    def __init__(self, target: int, cut: Cut | None = None) -> None:
        self.sent: dict[int, bytes] = {}
        self._target = target
        self._cut = cut
        super().__init__()

    def _serve(self, client: socket.socket) -> None:
        """Forward both ways until one end has ended."""
        with suppress(OSError), client, socket.create_connection((HOST, self._target)) as proxy:
            proxy.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            port: int = proxy.getsockname()[1]
            while True:
                for source in select.select([client, proxy], [], [])[0]:
                    if not (data := source.recv(65536)):
                        return
                    if source is proxy:
                        client.sendall(data)
                    else:
                        self._to_proxy(data, proxy, port)

    def _to_proxy(self, data: bytes, proxy: socket.socket, port: int) -> None:
        if port in self.sent or self._cut is None:
            proxy.sendall(data)
        else:
            for piece in self._cut(data):
                proxy.sendall(piece)
                time.sleep(PAUSE)
        self.sent[port] = self.sent.get(port, b"") + data


class UdpRelay:
    """The same for datagrams: `sent` has those of each client in order, by the port that the proxy sees."""

    def __init__(self, target: int) -> None:
        self.sent: dict[int, list[bytes]] = {}
        self._target = (HOST, target)
        self._listener = self._bound()
        self.port: int = self._listener.getsockname()[1]
        self._clients: dict[tuple[str, int], socket.socket] = {}
        self._is_open = True
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._is_open = False
        self._thread.join()
        for end in (self._listener, *self._clients.values()):
            end.close()

    @staticmethod
    def _bound() -> socket.socket:
        end = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        end.bind((HOST, 0))
        return end

    def _run(self) -> None:
        while self._is_open:
            ends = {end: address for address, end in self._clients.items()}
            for end in select.select([self._listener, *ends], [], [], 0.1)[0]:
                data, source = end.recvfrom(65536)
                if end is self._listener:
                    self._to_proxy(data, source)
                else:
                    self._listener.sendto(data, ends[end])

    def _to_proxy(self, data: bytes, client: tuple[str, int]) -> None:
        if client not in self._clients:
            self._clients[client] = self._bound()
        end = self._clients[client]
        self.sent.setdefault(end.getsockname()[1], []).append(data)
        end.sendto(data, self._target)


@contextmanager
def relay(target: int, cut: Cut | None = None) -> Iterator[Relay]:
    running = Relay(target, cut)
    try:
        yield running
    finally:
        running.close()


@contextmanager
def udp_relay(target: int) -> Iterator[UdpRelay]:
    running = UdpRelay(target)
    try:
        yield running
    finally:
        running.close()
