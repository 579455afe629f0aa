"""HTTP/3 over QUIC: a server in a thread, and a client that sends its header fields in the order that it is given."""

from __future__ import annotations

import asyncio
import queue
import ssl
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.asyncio.server import serve
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import QuicEvent

from tests.peers.api import PATIENCE

type Fields = list[tuple[bytes, bytes]]


class _Exchange:
    """One stream: what has arrived on it."""

    def __init__(self, stream: int) -> None:
        self.stream = stream
        self.fields: Fields = []
        self.body = b""


class _Protocol(QuicConnectionProtocol):
    """One end of a connection; `ended` is called with each exchange whose stream the other end has finished."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.http = H3Connection(self._quic)
        self.exchanges: dict[int, _Exchange] = {}

    def quic_event_received(self, event: QuicEvent) -> None:
        for received in self.http.handle_event(event):
            if not isinstance(received, HeadersReceived | DataReceived):
                continue
            exchange = self.exchanges.setdefault(received.stream_id, _Exchange(received.stream_id))
            if isinstance(received, HeadersReceived):
                exchange.fields += received.headers
            else:
                exchange.body += received.data
            if received.stream_ended:
                self.ended(exchange)

    def ended(self, exchange: _Exchange) -> None:
        raise NotImplementedError

    def send(self, stream: int, fields: Fields, body: bytes) -> None:
        self.http.send_headers(stream, fields, end_stream=not body)
        if body:
            self.http.send_data(stream, body, end_stream=True)
        self.transmit()


class _Server(_Protocol):
    """Answers every request with its own body, or `hello`."""

    def ended(self, exchange: _Exchange) -> None:
        path = dict(exchange.fields)[b":path"]
        fields = [(b":status", b"200"), (b"content-type", b"text/plain"), (b"x-path", path), (b"x-path", b"2")]
        self.send(exchange.stream, fields, exchange.body or b"hello")


class _Client(_Protocol):
    """Sends requests; `answers` has the answers in the order in which they are complete."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.answers: deque[_Exchange] = deque()
        self.is_answered = asyncio.Event()

    def ended(self, exchange: _Exchange) -> None:
        self.answers.append(exchange)
        self.is_answered.set()

    async def request(self, fields: Fields, body: bytes) -> tuple[Fields, bytes]:
        self.send(self._quic.get_next_available_stream_id(), fields, body)
        await asyncio.wait_for(self.is_answered.wait(), PATIENCE)
        self.is_answered.clear()
        answer = self.answers.popleft()
        return answer.fields, answer.body


@contextmanager
def http3_server(certificate: Path) -> Iterator[int]:
    """Serve HTTP/3 until the end of the block; yield the port."""
    configuration = QuicConfiguration(is_client=False, alpn_protocols=H3_ALPN)
    configuration.load_cert_chain(certificate, certificate)
    started: queue.Queue[tuple[int, asyncio.AbstractEventLoop]] = queue.Queue()
    stop = asyncio.Event()

    async def run() -> None:
        server = await serve("127.0.0.1", 0, configuration=configuration, create_protocol=_Server)
        assert server._transport is not None
        started.put((server._transport.get_extra_info("sockname")[1], asyncio.get_running_loop()))
        await stop.wait()
        server.close()  # type: ignore[no-untyped-call]
        await asyncio.sleep(0.1)  # what closes the connections and the socket is only scheduled

    thread = threading.Thread(target=asyncio.run, args=(run(),), daemon=True)
    thread.start()
    port, loop = started.get(timeout=PATIENCE)
    try:
        yield port
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(PATIENCE)


def _add_extensions(quic: Any, extensions: list[tuple[int, bytes]]) -> None:
    """Make a client add extensions to its ClientHello, which the library prepares when it begins."""
    begin = quic._initialize

    def begin_and_add(peer: bytes) -> None:
        begin(peer)
        quic.tls.handshake_extensions += extensions

    quic._initialize = begin_and_add


def http3(
    port: int, *requests: tuple[Fields, bytes], extensions: list[tuple[int, bytes]] | None = None, **options: Any
) -> list[tuple[Fields, bytes]]:
    """Send requests one after the other on one connection, and return the answers.

    `extensions` are added to the ClientHello, `options` are those of the library's configuration.
    """
    configuration = QuicConfiguration(alpn_protocols=H3_ALPN, verify_mode=ssl.CERT_NONE, server_name="localhost")
    for name, value in options.items():
        setattr(configuration, name, value)

    def make(quic: Any, **arguments: Any) -> _Client:
        _add_extensions(quic, extensions or [])
        return _Client(quic, **arguments)

    async def exchange() -> list[tuple[Fields, bytes]]:
        async with connect("127.0.0.1", port, configuration=configuration, create_protocol=make) as client:
            assert isinstance(client, _Client)
            return [await client.request(fields, body) for fields, body in requests]

    return asyncio.run(exchange())
