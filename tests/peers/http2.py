"""HTTP/2 peers made of `h2` and sockets: a server and a client of which a test decides about every frame."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Self

import h2.events
from h2.config import H2Configuration
from h2.connection import ConnectionState, H2Connection
from h2.settings import SettingCodes

from tests.peers.clients import trust
from tests.peers.listener import HOST, Listener
from tests.peers.proxy import Proxy

PATIENCE = 30.0
"""Seconds that a peer waits for the other one."""

type Fields = list[tuple[str, str]]


class Http2Peer:
    """One end of a connection. What it sends is not checked; what it receives is acknowledged at once."""

    def __init__(self, connection: ssl.SSLSocket, *, is_client: bool, settings: dict[int, int] | None = None) -> None:
        connection.settimeout(PATIENCE)
        self.socket = connection
        self.events: list[h2.events.Event] = []
        self.h2 = H2Connection(
            H2Configuration(
                client_side=is_client,
                header_encoding="latin-1",
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
                normalize_inbound_headers=False,
            )
        )
        self.h2.local_settings.update(settings or {})
        self.h2.local_settings.acknowledge()
        self.h2.initiate_connection()
        self.flush()

    def flush(self) -> None:
        self.socket.sendall(self.h2.data_to_send())

    def headers(self, stream_id: int, fields: Fields, *, end: bool = False) -> None:
        self.h2.send_headers(stream_id, fields, end_stream=end)
        self.flush()

    def data(self, stream_id: int, data: bytes, *, end: bool = False) -> None:
        """Send data, as much at a time as the other end allows."""
        while len(data) > (window := min(self.h2.local_flow_control_window(stream_id), 16384)):
            self.h2.send_data(stream_id, data[:window])
            data = data[window:]
            self.flush()
            while not self.h2.local_flow_control_window(stream_id):
                assert self.receive(), "the other end has gone"
        self.h2.send_data(stream_id, data, end_stream=end)
        self.flush()

    def reset(self, stream_id: int, code: int = 8) -> None:
        """Reset a stream; the code is CANCEL if not told otherwise."""
        self.h2.reset_stream(stream_id, code)
        self.flush()

    def go_away(self, *, last_stream_id: int | None = None) -> None:
        self.h2.close_connection(last_stream_id=last_stream_id)
        self.flush()

    def receive(self) -> bool:
        """Take in what has arrived; return whether the connection goes on."""
        data = self.socket.recv(65536)
        if self.h2.state_machine.state is ConnectionState.CLOSED:
            return bool(data)
        for event in self.h2.receive_data(data) if data else ():
            self.events.append(event)
            if isinstance(event, h2.events.DataReceived):
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        self.flush()
        return bool(data)

    def wait_for[Kind: h2.events.Event](self, kind: type[Kind], stream_id: int | None = None) -> Kind:
        """Wait for the first such event that was not asked for yet, and return it."""
        while True:
            for event in self.events:
                if isinstance(event, kind) and stream_id in (None, getattr(event, "stream_id", None)):
                    self.events.remove(event)
                    return event
            assert self.receive(), f"the connection has ended without {kind.__name__}: {self.events}"

    def body(self, stream_id: int) -> bytes:
        """Wait for the end of a stream and return the data that has come on it."""
        self.wait_for(h2.events.StreamEnded, stream_id)
        pieces = [
            event for event in self.events if isinstance(event, h2.events.DataReceived) and event.stream_id == stream_id
        ]
        return b"".join(bytes(piece.data or b"") for piece in pieces)

    def settle(self) -> None:
        """Wait until everything sent so far has been taken in by the other end."""
        self.h2.ping(b"settled?")
        self.flush()
        self.wait_for(h2.events.PingAckReceived)


class Http2Client(Http2Peer):
    """A client's end."""

    authority = ""

    def request(self, path: str, *fields: tuple[str, str], end: bool = True, order: str = "masp", **pseudo: str) -> int:
        """Send request headers and return the stream's id. `order` has the initials of the pseudo-header fields."""
        values = {"method": "GET", "authority": self.authority, "scheme": "https", "path": path} | pseudo
        names = {name[0]: name for name in values}
        stream_id: int = self.h2.get_next_available_stream_id()
        named = [(f":{names[initial]}", values[names[initial]]) for initial in order]
        self.headers(stream_id, [*named, *fields], end=end)
        return stream_id

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()


def http2_client(proxy: Proxy, port: int | None = None, **options: Any) -> Http2Client:
    """Return a connection: through a tunnel to a port of this machine, or to the proxy itself if none is given."""
    connection = socket.create_connection((HOST, proxy.port), timeout=PATIENCE)
    if port is not None:
        connection.sendall(b"CONNECT localhost:%d HTTP/1.1\r\n\r\n" % port)
        assert connection.recv(4096).startswith(b"HTTP/1.1 200")
    context = trust(proxy)
    context.set_alpn_protocols(["h2"])
    client = Http2Client(context.wrap_socket(connection, server_hostname="localhost"), is_client=True, **options)
    client.authority = f"localhost:{port or proxy.port}"
    return client


class Http2Origin(Listener):
    """A listening server; `answers` by path get the connection and the stream of a request whose headers have come."""

    def __init__(self, tls: ssl.SSLContext) -> None:
        self.answers: dict[str, Callable[[Http2Peer, int], object]] = {}
        self.requests: list[h2.events.RequestReceived] = []
        self._tls = tls
        super().__init__()

    def _serve(self, connection: socket.socket) -> None:
        with suppress(OSError, AssertionError), self._tls.wrap_socket(connection, server_side=True) as secured:
            peer = Http2Peer(secured, is_client=False)
            while True:
                request = peer.wait_for(h2.events.RequestReceived)
                self.requests.append(request)
                assert request.stream_id is not None
                self.answers.get(dict(pairs(request.headers))[":path"], not_found)(peer, request.stream_id)


def pairs(headers: Iterable[Any] | None) -> Fields:
    """Return the header fields of an event; they are text, whatever its annotations say."""
    return [(str(name), str(value)) for name, value in headers or ()]


def not_found(peer: Http2Peer, stream_id: int) -> None:
    peer.headers(stream_id, [(":status", "404")], end=True)


def answering(body: bytes, *fields: tuple[str, str]) -> Callable[[Http2Peer, int], object]:
    """Return an answer of status 200."""

    def answer(peer: Http2Peer, stream_id: int) -> None:
        peer.headers(stream_id, [(":status", "200"), *fields])
        peer.data(stream_id, body, end=True)

    return answer


@contextmanager
def http2_origin(tls: ssl.SSLContext) -> Iterator[Http2Origin]:
    """Serve until the end of the block; `tls` is to offer `h2`."""
    server = Http2Origin(tls)
    try:
        yield server
    finally:
        server.close()


MAX_CONCURRENT_STREAMS, ENABLE_PUSH = int(SettingCodes.MAX_CONCURRENT_STREAMS), int(SettingCodes.ENABLE_PUSH)
