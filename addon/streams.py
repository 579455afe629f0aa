"""Streams of clients: the id and the header fields in wire order, which mitmproxy reads but does not keep.

HTTP/2 here; HTTP/3, which has the same ones, in a file of its own.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any, NamedTuple

import h2.events
from mitmproxy.proxy.layers.http._base import ReceiveHttp
from mitmproxy.proxy.layers.http._events import RequestHeaders
from mitmproxy.proxy.layers.http._http2 import Http2Server

from addon.layers import observed

if TYPE_CHECKING:
    from mitmproxy import http
    from mitmproxy.proxy import commands

    from rpc.records import Fields

MARK = "_entries_stream"


class Stream(NamedTuple):
    """Where a request came from: its stream's id and its pseudo-header fields as the client sent them.

    `is_pushed`: the server's promise was the request, and the stream is the promised one.
    """

    id: int
    pseudo: Fields
    is_pushed: bool = False

    @classmethod
    def of(cls, stream_id: int, fields: Any, *, is_pushed: bool = False) -> Stream:
        """Return the stream of a request with these fields."""
        pseudo = tuple((bytes(name), bytes(value)) for name, value in fields if name.startswith(b":"))
        return cls(stream_id, pseudo, is_pushed)

    @property
    def pseudo_names(self) -> tuple[bytes, ...]:
        """The names of the pseudo-header fields in order."""
        return tuple(name for name, _ in self.pseudo)


def mark(request: http.Request, stream: Stream) -> None:
    """Note on a request what stream it has come on."""
    setattr(request, MARK, stream)


def stream_of(request: http.Request) -> Stream | None:
    """Return the stream that a request has come on; null if it has come over HTTP/1."""
    return getattr(request, MARK, None)


class TappedHttp2Server(Http2Server):
    """mitmproxy's side of a client's HTTP/2 connection; it notes on each request what stream it has come on."""

    def handle_h2_event(self, event: h2.events.Event) -> Generator[commands.Command, Any, bool]:
        """Handle an event of the connection; return whether to stop."""
        handling = super().handle_h2_event(event)
        if isinstance(event, h2.events.RequestReceived):
            stream = Stream.of(event.stream_id, event.headers)
            handling = observed(handling, lambda command: _mark_request(command, stream))
        return handling


def _mark_request(command: commands.Command, stream: Stream) -> None:
    """Note the stream on the request that a command may carry."""
    if isinstance(command, ReceiveHttp) and isinstance(command.event, RequestHeaders):
        mark(command.event.request, stream)
