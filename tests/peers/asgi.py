"""A hypercorn server in a thread: HTTP/1.1, HTTP/2 and WebSocket over TLS, as real applications are served."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hypercorn.asyncio import serve
from hypercorn.config import Config


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Answer every request with its own body and path; echo every WebSocket message."""
    if scope["type"] == "websocket":
        await _echo_messages(receive, send)
    elif scope["type"] == "http":
        await _echo_body(scope, receive, send)


async def _echo_body(scope: Any, receive: Any, send: Any) -> None:
    body, more = b"", True
    while more:
        event = await receive()
        body, more = body + event.get("body", b""), event.get("more_body", False)
    fields = [(b"content-type", b"text/plain"), (b"x-path", scope["raw_path"]), (b"x-twice", b"1"), (b"x-twice", b"2")]
    await send({"type": "http.response.start", "status": 200, "headers": fields})
    await send({"type": "http.response.body", "body": body or b"hello"})


async def _echo_messages(receive: Any, send: Any) -> None:
    while (event := await receive())["type"] != "websocket.disconnect":
        if event["type"] == "websocket.connect":
            await send({"type": "websocket.accept"})
        else:
            await send({"type": "websocket.send", "text": event.get("text"), "bytes": event.get("bytes")})


class _DatagramEndpoints:
    """Those of a loop, which hypercorn leaves open."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._create = loop.create_datagram_endpoint
        self._transports: list[asyncio.BaseTransport] = []
        loop.create_datagram_endpoint = self._create_endpoint  # type: ignore[method-assign]

    async def _create_endpoint(self, *arguments: Any, **options: Any) -> Any:
        transport, protocol = await self._create(*arguments, **options)
        self._transports.append(transport)
        return transport, protocol

    async def close(self) -> None:
        for transport in self._transports:
            transport.close()
        await asyncio.sleep(0)


@contextmanager
def hypercorn(
    certificate: Path | None = None, served: Any = application, *, quic: bool = False, streams: int = 100
) -> Iterator[int]:
    """Serve an application until the end of the block; yield the port. `certificate` has key and chain in one file.

    With `quic`, HTTP/3 is served on the same port of UDP. `streams` of HTTP/2 can be open on a connection.
    """
    listener = socket.create_server(("127.0.0.1", 0))
    config = Config()
    config.h2_max_concurrent_streams = streams
    if quic:
        config.quic_bind = [f"127.0.0.1:{listener.getsockname()[1]}"]
    config.bind = [f"fd://{listener.detach()}"]
    config.errorlog = None
    if certificate is not None:
        config.certfile = config.keyfile = str(certificate)
    port = socket.socket(fileno=int(config.bind[0][5:]))
    number: int = port.getsockname()[1]
    port.detach()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def run_server() -> None:
        datagrams = _DatagramEndpoints(loop)
        await serve(served, config, shutdown_trigger=stop.wait)
        await datagrams.close()

    def run() -> None:
        loop.run_until_complete(run_server())
        loop.close()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield number
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(20)
