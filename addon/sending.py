"""When each request is sent on, and over which connection: mitmproxy's hooks do not tell.

After the `request` hook, in which a request may be held for long, the layer of its exchange asks for a connection. It
gets one that is there, or waits for one that is made for it or for another request, and then sends. Over HTTP/2 what
is sent may have to wait once more, until the server allows another stream (RFC 9113 section 5.1.2).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, NamedTuple

from mitmproxy.proxy.layers.http import GetHttpConnection, HttpLayer, HttpStream
from mitmproxy.proxy.layers.http._events import RequestHeaders
from mitmproxy.proxy.layers.http._http2 import Http2Client

from addon.servers import Server, server_of

if TYPE_CHECKING:
    from mitmproxy import http
    from mitmproxy.connection import Connection
    from mitmproxy.proxy.commands import Command
    from mitmproxy.proxy.events import Event
    from mitmproxy.proxy.layer import CommandGenerator

MARK = "_entries_sent"
"""Where the instant lies at which a request was sent as a stream: on mitmproxy's own object."""

type Making = Generator[Command, Any, bool]


class Answer(NamedTuple):
    """What an HTTP layer has answered to a request for a connection; `granted` is null if there is none."""

    layer: HttpLayer
    wanted: GetHttpConnection
    granted: Connection | None

    def server(self) -> Server | None:
        """Return what is known of the connection, or else of the attempt at one that the request stands for.

        That is the first that has failed and that no entry accounts for: several requests may have waited for it.
        """
        if self.granted is not None:
            return self._known(self.granted)
        conns = (*self.layer.connections, self.layer.context.server)
        failed = (conn for conn in conns if self.wanted.connection_spec_matches(conn) and not conn.connected)
        servers = (server for conn in failed if (server := self._known(conn)) is not None)
        return next((server for server in servers if server.charged_to is None), None)

    def _known(self, conn: Connection) -> Server | None:
        made_by = self.layer.connections.get(conn)
        return server_of(conn, made_by.context.layers if made_by is not None else self.layer.context.layers)


def timed_stream(base: type[HttpStream], answered: Callable[[http.HTTPFlow, Answer], object]) -> type[HttpStream]:
    """Return a stream's layer that tells when its request has got a connection, and is sent, or has not got one."""

    class TimedHttpStream(base):  # type: ignore[misc,valid-type]
        """mitmproxy's layer of one exchange."""

        def make_server_connection(self) -> Making:
            """Get a connection to the server; return whether there is one."""
            making = super().make_server_connection()
            wanted = next(making)
            reply = yield wanted
            http_layer = self.context.layers[self.context.layers.index(self) - 1]
            answered(self.flow, Answer(http_layer, wanted, reply[0]))
            return (yield from _resumed(making, reply))

    return TimedHttpStream


def _resumed(making: Making, reply: object) -> Making:
    """Go on with what has waited for this reply."""
    try:
        command = making.send(reply)
    except StopIteration as done:
        return bool(done.value)
    yield command
    return (yield from making)


def timed_http2_client(base: type[Http2Client]) -> type[Http2Client]:
    """Return a server connection's layer that notes on each request when its stream begins, on the monotonic clock."""

    class TimedHttp2Client(base):  # type: ignore[misc,valid-type]
        """mitmproxy's side of an HTTP/2 connection to a server."""

        def _handle_event2(self, event: Event) -> CommandGenerator[None]:
            if isinstance(event, RequestHeaders):
                setattr(event.request, MARK, time.monotonic())
            yield from super()._handle_event2(event)

    return TimedHttp2Client


def stream_began(request: http.Request) -> float | None:
    """Return when a request was sent as a stream of HTTP/2; null if it was not."""
    return getattr(request, MARK, None)
