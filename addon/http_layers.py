"""Taps in mitmproxy's HTTP layers, one of which stands on each client connection that speaks HTTP."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mitmproxy.proxy.layers.http import HttpLayer
from mitmproxy.proxy.layers.http._http2 import Http2Server
from mitmproxy.proxy.layers.http._http3 import Http3Server

from addon.http3 import TappedHttp3Server
from addon.push import PushingHttp2Server

if TYPE_CHECKING:
    from mitmproxy import http
    from mitmproxy.connection import Client, Connection
    from mitmproxy.proxy import layer


class _Connections(dict[Any, Any]):
    """The connections of an `HttpLayer`, which offers its client's connection with `setdefault` when it starts."""

    def __init__(self, connections: dict[Any, Any], http: HttpLayer, on_http2: Callable[[Client], None]) -> None:
        super().__init__(connections)
        self._http = http
        self._on_http2 = on_http2

    def setdefault(self, key: Connection, default: Any = None) -> Any:
        """Return the connection's layer; the tapped one in place of a client's HTTP/2 or HTTP/3 layer."""
        if key not in self and type(default) is Http2Server:
            default = PushingHttp2Server(self._http.context.fork())
            self._on_http2(self._http.context.client)
        elif key not in self and type(default) is Http3Server:
            default = TappedHttp3Server(self._http.context.fork())
        return super().setdefault(key, default)


class _Streams(dict[int, Any]):
    """The streams of an `HttpLayer`, which takes out each one that will see no more hooks."""

    def __init__(self, streams: dict[int, Any], on_dropped: Callable[[http.HTTPFlow], None]) -> None:
        super().__init__(streams)
        self._on_dropped = on_dropped

    def pop(self, key: int, default: Any = None) -> Any:
        """Take out a stream."""
        stream = super().pop(key, default)
        if stream is not None:
            self._on_dropped(stream.flow)
        return stream


def tap(
    top: layer.Layer | None,
    *,
    on_http2: Callable[[Client], None],
    on_dropped: Callable[[http.HTTPFlow], None],
) -> None:
    """Tap the HTTP layer that a next-layer decision has brought, on its own or at the end of a stack of layers.

    `on_http2` is called when a client's HTTP/2 connection begins: whether it does is not known before TLS is up.
    `on_dropped` is called with each flow that is over, also where no hook says so: mitmproxy has none for a request
    that is broken off after its response was complete.
    """
    while top is not None and not isinstance(top, HttpLayer):
        top = getattr(top, "child_layer", None)
    if top is not None and not isinstance(top.connections, _Connections):
        top.connections = _Connections(top.connections, top, on_http2)
        top.streams = _Streams(top.streams, on_dropped)
