"""HTTP/2 streams of clients: the id and the header fields in wire order, which mitmproxy reads but does not keep."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, NamedTuple

import h2.events
from mitmproxy.proxy.layers.http import HttpLayer
from mitmproxy.proxy.layers.http._base import ReceiveHttp
from mitmproxy.proxy.layers.http._events import RequestHeaders
from mitmproxy.proxy.layers.http._http2 import Http2Server

if TYPE_CHECKING:
    from mitmproxy import http
    from mitmproxy.connection import Client, Connection
    from mitmproxy.proxy import commands, layer

MARK = "_entries_stream"


class Stream(NamedTuple):
    """Where a request came from: its stream's id and the names of its pseudo-header fields as the client sent them."""

    id: int
    pseudo: tuple[bytes, ...]


def stream_of(request: http.Request) -> Stream | None:
    """Return the stream that a request has come on; null if it has not come over HTTP/2."""
    return getattr(request, MARK, None)


def _pseudo_names(fields: Any) -> tuple[bytes, ...]:
    return tuple(bytes(name) for name, _ in fields if name.startswith(b":"))


class TappedHttp2Server(Http2Server):
    """mitmproxy's side of a client's HTTP/2 connection; it notes on each request what stream it has come on."""

    def handle_h2_event(self, event: h2.events.Event) -> Generator[commands.Command, Any, bool]:
        """Handle an event of the connection; return whether to stop."""
        handling = super().handle_h2_event(event)
        if isinstance(event, h2.events.RequestReceived):
            handling = _marked(handling, Stream(event.stream_id, _pseudo_names(event.headers)))
        return (yield from handling)


def _marked(handling: Generator[commands.Command, Any, bool], stream: Stream) -> Generator[commands.Command, Any, bool]:
    """Pass commands on, and note the stream on the request that one of them carries."""
    try:
        while True:
            command = next(handling)
            if isinstance(command, ReceiveHttp) and isinstance(command.event, RequestHeaders):
                setattr(command.event.request, MARK, stream)
            yield command
    except StopIteration as stop:
        return bool(stop.value)


class _Connections(dict[Any, Any]):
    """The connections of an `HttpLayer`, which offers its client's connection with `setdefault` when it starts."""

    def __init__(self, connections: dict[Any, Any], http: HttpLayer, on_http2: Callable[[Client], None]) -> None:
        super().__init__(connections)
        self._http = http
        self._on_http2 = on_http2

    def setdefault(self, key: Connection, default: Any = None) -> Any:
        """Return the connection's layer; the tapped one in place of a client's HTTP/2 layer."""
        if key not in self and type(default) is Http2Server:
            default = TappedHttp2Server(self._http.context.fork())
            self._on_http2(self._http.context.client)
        return super().setdefault(key, default)


def tap(top: layer.Layer | None, on_http2: Callable[[Client], None]) -> None:
    """Tap the HTTP layer that a next-layer decision has brought, on its own or at the end of a stack of layers.

    `on_http2` is called when a client's HTTP/2 connection begins: whether it does is not known before TLS is up.
    """
    while top is not None and not isinstance(top, HttpLayer):
        top = getattr(top, "child_layer", None)
    if top is not None and not isinstance(top.connections, _Connections):
        top.connections = _Connections(top.connections, top, on_http2)
