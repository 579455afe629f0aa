"""Server push (RFC 9113 section 8.4), which mitmproxy switches off: where the client allows it, it reaches the client.

A pushed exchange is a flow like any other, and its stream is the promised one on the client's connection. The
connection with the server hands a promise to the connection with the client, which promises the same to the client
and lets the flow begin. When it is the flow's turn to send its request, nothing is sent: what was pushed is its answer.
The client has been promised the request before any addon sees it, so changes to that reach nobody; those to the
response do.
"""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import h2.events
from h2.errors import ErrorCodes
from h2.settings import SettingCodes
from mitmproxy.http import Request
from mitmproxy.proxy.commands import Log, SendData
from mitmproxy.proxy.layers import http
from mitmproxy.proxy.layers.http import HttpLayer, SendHttp
from mitmproxy.proxy.layers.http._base import HttpEvent, ReceiveHttp
from mitmproxy.proxy.layers.http._events import (
    ErrorCode,
    RequestData,
    RequestEndOfMessage,
    RequestHeaders,
    RequestProtocolError,
    RequestTrailers,
    ResponseData,
    ResponseEndOfMessage,
    ResponseHeaders,
    ResponseProtocolError,
)
from mitmproxy.proxy.layers.http._http2 import Http2Client, StreamState, parse_h2_request_headers

from addon.layers import replaced
from addon.streams import Stream, TappedHttp2Server, mark, stream_of

if TYPE_CHECKING:
    from mitmproxy.connection import Server
    from mitmproxy.proxy.context import Context
    from mitmproxy.proxy.events import Event
    from mitmproxy.proxy.layer import CommandGenerator

    from rpc.records import Fields

MAX_PUSHES = 256
"""Pushes on one client connection that may be unfinished at a time; a promise beyond that is refused."""

MAX_WINDOW = 2**31 - 1
"""Bytes that mitmproxy lets a server send on a stream before it has to hear of them."""

UNCLAIMED_WINDOW = 2**16 - 1
"""Bytes that a server may push before the flow asks for them: what its hooks are waited for with is held in memory."""

SAFE_METHODS = frozenset({b"GET", b"HEAD"})
"""What can be promised: safe, cacheable and without content."""

REQUEST_PARTS = (RequestHeaders, RequestData, RequestTrailers, RequestEndOfMessage)

NO_STREAM = 0
"""Stands for the stream of a push whose connection has gone."""


class Push:
    """A pushed exchange. `arrived` is what has come of the response before the flow has claimed it."""

    def __init__(self, fields: Fields, request: Request, connection: Server) -> None:
        self.id: int | None = None
        """The promised stream's id on the client's connection; null: not promised."""
        self.fields = fields
        self.request = request
        self.connection = connection
        self.is_claimed = False
        self.arrived: list[HttpEvent] = []
        self.unacknowledged = 0


@dataclass
class Promised(HttpEvent):
    """A server has promised a push along with the response on the stream `stream_id`."""

    push: Push


class PushingHttp2Server(TappedHttp2Server):
    """The connection with a client. It can promise and push."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.pushes: dict[int, Push] = {}
        """Those that are not finished, by promised stream."""
        self._waiting: dict[int, list[HttpEvent]] = {}

    @property
    def allows_push(self) -> bool:
        """Whether the client allows it, as its settings are now."""
        settings = self.h2_conn.remote_settings
        return bool(settings.enable_push) and settings.max_concurrent_streams > 0

    def _handle_event(self, event: Event) -> CommandGenerator[None]:
        if isinstance(event, Promised):
            yield from self._promise(event.stream_id, event.push)
        elif isinstance(event, HttpEvent) and event.stream_id in self.pushes:
            yield from self._respond(event)
        else:
            yield from super()._handle_event(event)
        if self._waiting:
            yield from self._respond_to_waiting()

    def handle_h2_event(self, event: h2.events.Event) -> CommandGenerator[bool]:
        """Handle an event of the connection; return whether to stop."""
        is_done = yield from super().handle_h2_event(event)
        if isinstance(event, h2.events.StreamReset) and event.stream_id in self.pushes:
            yield from self._finish(event.stream_id)
        return is_done

    def _promise(self, parent: int, push: Push) -> CommandGenerator[None]:
        if not self.allows_push or not self.is_open_for_us(parent) or len(self.pushes) >= MAX_PUSHES:
            return
        push.id = self.h2_conn.get_next_available_stream_id()
        self.h2_conn.push_stream(parent, push.id, push.fields)
        yield SendData(self.conn, self.h2_conn.data_to_send())
        self.pushes[push.id] = push
        self.streams[push.id] = StreamState.HEADERS_RECEIVED
        mark(push.request, Stream.of(push.id, push.fields, is_pushed=True))
        yield ReceiveHttp(RequestHeaders(push.id, push.request, end_stream=True))
        yield ReceiveHttp(RequestEndOfMessage(push.id))

    def _respond(self, event: HttpEvent) -> CommandGenerator[None]:
        if isinstance(event, ResponseProtocolError):
            yield from self._withdraw(event)
        elif self._has_to_wait(event):
            self._waiting.setdefault(event.stream_id, []).append(event)
        else:
            yield from super()._handle_event(event)
            if isinstance(event, ResponseEndOfMessage):
                yield from self._finish(event.stream_id)

    def _has_to_wait(self, event: HttpEvent) -> bool:
        return event.stream_id in self._waiting or (isinstance(event, ResponseHeaders) and self._has_all_open())

    def _has_all_open(self) -> bool:
        """Whether as many pushed streams are open as the client allows; a promise alone does not count."""
        limit: int = self.h2_conn.remote_settings.max_concurrent_streams
        return self.h2_conn.open_outbound_streams >= limit

    def _respond_to_waiting(self) -> CommandGenerator[None]:
        while self._waiting and not self._has_all_open():
            for event in self._waiting.pop(next(iter(self._waiting))):
                yield from self._respond(event)

    def _withdraw(self, event: ResponseProtocolError) -> CommandGenerator[None]:
        """Reset a promised stream: unlike a response, a push that fails is better missing than an error page."""
        if not self.is_closed(event.stream_id):
            is_cancelled = event.code is ErrorCode.CANCEL
            code = ErrorCodes.CANCEL if is_cancelled else ErrorCodes.INTERNAL_ERROR
            self.h2_conn.reset_stream(event.stream_id, code)
            yield SendData(self.conn, self.h2_conn.data_to_send())
        yield from self._finish(event.stream_id)

    def _finish(self, stream_id: int) -> CommandGenerator[None]:
        """Let go of a push; the server hears of it if nobody has asked for what it pushes."""
        push = self.pushes.pop(stream_id)
        self.streams.pop(stream_id, None)
        self._waiting.pop(stream_id, None)
        if not push.is_claimed:
            yield SendHttp(RequestProtocolError(stream_id, "push not used", ErrorCode.CANCEL), push.connection)


class PushingHttp2Client(Http2Client):
    """The connection with a server. It allows push if the client does."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._allows_push: bool | None = None
        self._parents: dict[int, Request] = {}
        self._unclaimed: dict[int, Push] = {}

    @property
    def _client_side(self) -> PushingHttp2Server | None:
        layers = (layer for layer in reversed(self.context.layers) if isinstance(layer, HttpLayer))
        side = next(layers).connections.get(self.context.client)
        return side if isinstance(side, PushingHttp2Server) else None

    def _handle_event(self, event: Event) -> CommandGenerator[None]:
        if isinstance(event, RequestHeaders) and (push := self._pushed(event.stream_id)) is not None:
            yield from self._claim(event.stream_id, push)
        elif not self._is_of_promised_request(event):
            is_refusal = isinstance(event, RequestProtocolError)
            refused = self._unclaimed.pop(event.stream_id, None) if is_refusal else None  # type: ignore[attr-defined]
            for command in super()._handle_event(event):
                if isinstance(command, ReceiveHttp) and command.event.stream_id in self._unclaimed:
                    self._unclaimed[command.event.stream_id].arrived.append(command.event)
                else:
                    yield command
            if refused is not None:
                self._acknowledge(refused)

    def _pushed(self, promised: int) -> Push | None:
        """Return the push that a flow asks for; one of an earlier connection to this server has arrived by then."""
        push = side.pushes.get(promised) if (side := self._client_side) else None
        return push if push and not push.is_claimed and push.connection.address == self.context.server.address else None

    def _is_of_promised_request(self, event: Event) -> bool:
        """Whether an event is to send a part of a request that the server itself has promised."""
        return isinstance(event, REQUEST_PARTS) and self.our_stream_id.get(event.stream_id, 1) % 2 == 0

    def _claim(self, promised: int, push: Push) -> CommandGenerator[None]:
        """Give a flow what has arrived for it; from now on it gets everything as it comes."""
        push.is_claimed = True
        self._unclaimed.pop(promised, None)
        stream_id = self.our_stream_id.setdefault(promised, NO_STREAM)
        arrived, push.arrived = push.arrived, []
        for event in arrived:
            yield ReceiveHttp(event)
        if not self.is_closed(stream_id):
            self.h2_conn.increment_flow_control_window(MAX_WINDOW - UNCLAIMED_WINDOW, stream_id)
        if stream_id != NO_STREAM:
            self._acknowledge(push)
            yield SendData(self.conn, self.h2_conn.data_to_send())

    def _acknowledge(self, push: Push) -> None:
        if push.id is not None:
            self.h2_conn.acknowledge_received_data(push.unacknowledged, self.our_stream_id[push.id])

    def _handle_event2(self, event: Event) -> CommandGenerator[None]:
        if not isinstance(event, RequestHeaders):
            if isinstance(event, RequestProtocolError):
                self._parents.pop(event.stream_id, None)
            yield from super()._handle_event2(event)
            return
        self._settle()
        yield from super()._handle_event2(event)
        if self._allows_push:
            self._parents[event.stream_id] = event.request
            self.h2_conn.increment_flow_control_window(MAX_WINDOW - UNCLAIMED_WINDOW, event.stream_id)
            yield SendData(self.conn, self.h2_conn.data_to_send())

    def _settle(self) -> None:
        """Tell the server before the first request that push is allowed, if it is: only then is that known."""
        if self._allows_push is None:
            self._allows_push = (side := self._client_side) is not None and side.allows_push
            if self._allows_push:
                self.h2_conn.update_settings(
                    {SettingCodes.ENABLE_PUSH: 1, SettingCodes.INITIAL_WINDOW_SIZE: UNCLAIMED_WINDOW}
                )
                # They apply to all streams to come; that the server acknowledges them changes nothing.
                self.h2_conn.local_settings.acknowledge()

    def handle_h2_event(self, event: h2.events.Event) -> CommandGenerator[bool]:
        """Handle an event of the connection; return whether to stop."""
        if isinstance(event, h2.events.PushedStreamReceived):
            yield from self._receive_promise(event)
            return False
        if isinstance(event, h2.events.DataReceived) and (push := self._unclaimed_on(event.stream_id)) is not None:
            # Not acknowledged, so that the server stops before much is held.
            push.unacknowledged += event.flow_controlled_length
            if event.data:
                push.arrived.append(ResponseData(push.id, event.data))  # type: ignore[arg-type]
            return False
        if isinstance(event, h2.events.StreamEnded | h2.events.StreamReset):
            self._parents.pop(event.stream_id, None)
        return (yield from super().handle_h2_event(event))

    def _unclaimed_on(self, stream_id: int) -> Push | None:
        return self._unclaimed.get(self.their_stream_id.get(stream_id, NO_STREAM))

    def _receive_promise(self, event: Any) -> CommandGenerator[None]:
        stream_id = event.pushed_stream_id
        try:
            push = self._read_promise(event)
        except ValueError as error:
            yield Log(f"Refused a pushed stream: {error}")
            self.h2_conn.reset_stream(stream_id, ErrorCodes.PROTOCOL_ERROR)
            return
        yield SendHttp(Promised(self.their_stream_id[event.parent_stream_id], push), self.context.client)
        if push.id is None:
            self.h2_conn.reset_stream(stream_id, ErrorCodes.REFUSED_STREAM)
            return
        self.our_stream_id[push.id] = stream_id
        self.their_stream_id[stream_id] = push.id
        self.streams[stream_id] = StreamState.EXPECTING_HEADERS
        self._unclaimed[push.id] = push

    def _read_promise(self, event: Any) -> Push:
        """Return the push that is promised, as it is to be promised to the client. Raises `ValueError`."""
        _, _, method, scheme, authority, path, headers = parse_h2_request_headers(event.headers)
        parent = self._parents.get(event.parent_stream_id)
        if parent is None or (scheme, authority) != _origin(parent):
            # A proxy cannot tell what else the server speaks for (RFC 9113 section 10.1).
            raise ValueError(f"the server does not speak for {authority!r}")
        if method not in SAFE_METHODS:
            raise ValueError(f"{method!r} cannot be promised")
        fields = _as_client_named(parent, event.headers)
        named = dict(fields[:4])
        request = Request(
            host=parent.data.host,
            port=parent.data.port,
            method=method,
            scheme=named[b":scheme"],
            authority=named[b":authority"],
            path=path,
            http_version=b"HTTP/2.0",
            headers=headers,
            content=None,
            trailers=None,
            timestamp_start=time.time(),
            timestamp_end=None,
        )
        return Push(fields, request, self.context.server)


def _origin(request: Request) -> tuple[bytes, bytes]:
    """Return scheme and authority of a request as it is sent to the server."""
    authority = request.data.authority or request.data.headers.get(b"host", "").encode()
    return request.data.scheme, authority


def _as_client_named(parent: Request, promised: Fields) -> Fields:
    """Return promised fields with the parent's scheme and authority as the client named them, not the server."""
    stream = stream_of(parent)
    named = dict(stream.pseudo) if stream else {}
    kept = {name: value for name, value in named.items() if name in (b":scheme", b":authority")}
    return tuple((bytes(name), kept.get(name, bytes(value))) for name, value in promised)


def push_supported() -> AbstractContextManager[None]:
    """Let new connections to servers support push while what is returned is entered."""
    return replaced(http, {"Http2Client": PushingHttp2Client})
