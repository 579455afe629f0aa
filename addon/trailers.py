"""Trailer fields over HTTP/1 (RFC 9112 section 7.1.2): mitmproxy cannot read or write them, and the exchange hangs.

Two classes that take the place of mitmproxy's. They hand trailers on as mitmproxy's own HTTP/2 does, and differ in
nothing where there are none.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import h11
from h11._readers import ChunkedReader
from mitmproxy.http import Headers
from mitmproxy.proxy import commands
from mitmproxy.proxy.layers import http
from mitmproxy.proxy.layers.http import _events as http_events
from mitmproxy.proxy.layers.http._base import ReceiveHttp
from mitmproxy.proxy.layers.http._http1 import Http1Client, Http1Connection, Http1Server

from addon.layers import replaced

if TYPE_CHECKING:
    from mitmproxy.proxy.events import Event
    from mitmproxy.proxy.layer import CommandGenerator

    from rpc.records import Fields

LAST_CHUNK = b"0\r\n"
NO_TRAILERS = b"\r\n"


class TrailerReader:
    """Reads a chunked body, and keeps its trailer fields for itself."""

    def __init__(self, reader: ChunkedReader) -> None:
        self._reader = reader
        self.fields: Fields = ()

    def __call__(self, buffer: Any) -> Any:
        """Return the next event of the body, or null."""
        event = self._reader(buffer)
        if isinstance(event, h11.EndOfMessage) and event.headers:
            self.fields = tuple((bytes(name), bytes(value)) for name, value in event.headers.raw_items())
            return h11.EndOfMessage()
        return event

    def read_eof(self) -> Any:
        """Take in that the connection has ended."""
        return self._reader.read_eof()


class _Trailers(Http1Connection):
    """One side's connection, able to receive and to send trailer fields."""

    ReceiveTrailers: type[http_events.RequestTrailers | http_events.ResponseTrailers]
    _to_send: Fields = ()

    def read_body(self, event: Event) -> CommandGenerator[None]:
        """Read as much of a body as there is."""
        if type(self.body_reader) is ChunkedReader:
            self.body_reader = TrailerReader(self.body_reader)  # type: ignore[assignment]
        reading = super().read_body(event)
        reader = self.body_reader
        return self._with_received_trailers(reading, reader) if isinstance(reader, TrailerReader) else reading

    def _with_received_trailers(self, reading: CommandGenerator[None], reader: TrailerReader) -> CommandGenerator[None]:
        for command in reading:
            if isinstance(command, ReceiveHttp) and isinstance(command.event, self.ReceiveEndOfMessage):
                yield from self._received_trailers(reader)
            yield command

    def _received_trailers(self, reader: TrailerReader) -> CommandGenerator[None]:
        if reader.fields and self.stream_id is not None:
            yield ReceiveHttp(self.ReceiveTrailers(self.stream_id, Headers(reader.fields)))

    def send(self, event: http_events.HttpEvent) -> CommandGenerator[None]:
        """Send an event. Trailer fields go where a chunked body ends; another kind of body has no place for them."""
        if isinstance(event, http_events.RequestTrailers | http_events.ResponseTrailers):
            return self._take_trailers(event)
        sending = super().send(event)
        return self._with_trailers(sending) if self._to_send else sending

    def _take_trailers(
        self, event: http_events.RequestTrailers | http_events.ResponseTrailers
    ) -> CommandGenerator[None]:
        self._to_send = event.trailers.fields
        yield from ()

    def _with_trailers(self, sending: CommandGenerator[None]) -> CommandGenerator[None]:
        for command in sending:
            if self._to_send and isinstance(command, commands.SendData) and command.data == LAST_CHUNK + NO_TRAILERS:
                command.data = LAST_CHUNK + bytes(Headers(self._to_send)) + NO_TRAILERS
                self._to_send = ()
            yield command


class TrailersHttp1Server(_Trailers, Http1Server):
    """The connection with a client."""

    ReceiveTrailers = http_events.RequestTrailers


class TrailersHttp1Client(_Trailers, Http1Client):
    """The connection with a server."""

    ReceiveTrailers = http_events.ResponseTrailers


def trailers_supported() -> AbstractContextManager[None]:
    """Let new connections support trailers while what is returned is entered."""
    return replaced(http, {"Http1Server": TrailersHttp1Server, "Http1Client": TrailersHttp1Client})
