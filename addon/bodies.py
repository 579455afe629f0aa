"""Bodies on their way through the proxy: what has arrived of each, and how much of that the child has been told.

mitmproxy's hooks show a body when it is complete, or not at all if it is streamed. The layer of a stream sees it pass:
what it waits for as it arrives, and what it streams as it goes out again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Protocol

from mitmproxy.proxy.layers.http import HttpStream, SendHttp
from mitmproxy.proxy.layers.http._events import RequestData, RequestEndOfMessage, ResponseData, ResponseEndOfMessage
from mitmproxy.proxy.layers.http._hooks import HttpRequestHook, HttpResponseHook

from addon.layers import observed
from rpc.records import CHUNK_SIZE, BodyChunk, Side

if TYPE_CHECKING:
    from mitmproxy import http
    from mitmproxy.proxy.commands import Command
    from mitmproxy.proxy.events import Event
    from mitmproxy.proxy.layers.http._events import RequestProtocolError, ResponseProtocolError

    from addon.layers import Commands


BEHIND_BYTES = 32 * 1024
"""Bytes of a body that go behind their frame; fewer cost less inside it."""


class Chunk(NamedTuple):
    """A piece of a body as the link takes it: the record, how many bytes it carries, and those that go behind it."""

    record: BodyChunk
    size: int
    behind: Sequence[bytes | memoryview]


class Body:
    """One side's body. `is_streamed`: mitmproxy passes it on as it comes, and does not keep it."""

    __slots__ = ("_content", "_pieces", "_size", "entry", "is_streamed", "side", "told")

    def __init__(self, entry: str, side: Side) -> None:
        self.entry = entry
        self.side = side
        self.is_streamed = False
        self.told = 0
        self._pieces: list[bytes] = []
        self._size = 0
        self._content: bytes | None = None

    @property
    def is_ripe(self) -> bool:
        """Whether enough has arrived for a record of its own."""
        return self._size - self.told >= CHUNK_SIZE

    @property
    def size(self) -> int:
        """Bytes that have arrived."""
        return self._size

    def arrive(self, data: bytes) -> None:
        """Take in a piece."""
        self._pieces.append(data)
        self._size += len(data)

    def stream(self) -> None:
        """Begin anew with what goes out: it need not be what has arrived."""
        self.is_streamed = True
        self.told = self._size = 0
        self._pieces = []

    def complete(self, content: bytes | None) -> None:
        """Take in that all has arrived, and is this object. Another one in its place later is another body."""
        self._content = content

    def take(self) -> Chunk | None:
        """Return what has arrived and is not told yet; null if nothing has."""
        if not self._pieces:
            return None
        chunk = self._chunk(self.told, self._pieces)
        self.told, self._pieces = self._size, []
        return chunk

    def rest(self, content: bytes) -> Iterator[Chunk]:
        """Yield what is not told yet of the content that the body has in the end, in pieces that fit a record."""
        self._pieces = []
        start = self.told if content is self._content else 0
        view = memoryview(content)
        for at in range(start, len(content), CHUNK_SIZE):
            yield self._chunk(at, [view[at : at + CHUNK_SIZE]])

    def _chunk(self, offset: int, pieces: Sequence[bytes | memoryview]) -> Chunk:
        size = sum(map(len, pieces))
        if size < BEHIND_BYTES:
            return Chunk(BodyChunk(self.entry, self.side, offset, b"".join(pieces)), size, ())
        return Chunk(BodyChunk(self.entry, self.side, offset, b"", size), size, pieces)


class Tap(Protocol):
    """Who is told of bodies."""

    def body_of(self, flow: http.HTTPFlow, side: Side) -> Body | None:
        """Return a body of an exchange that goes on; null for one that is not recorded."""
        ...

    def body_arrived(self, body: Body) -> None:
        """More of a body has arrived."""


class TappedHttpStream(HttpStream):
    """mitmproxy's layer of one exchange; it tells `tap` what passes."""

    tap: ClassVar[Tap]

    def state_consume_request_body(self, event: Event) -> Commands[None]:
        """Wait for the request's body."""
        if isinstance(event, RequestData):
            self._arrive("request", event.data)
        consuming = super().state_consume_request_body(event)
        is_end = isinstance(event, RequestEndOfMessage) and self._is_told("request")
        return observed(consuming, self._see_request_end) if is_end else consuming

    def state_consume_response_body(self, event: Event) -> Commands[None]:
        """Wait for the response's body."""
        if isinstance(event, ResponseData):
            self._arrive("response", event.data)
        consuming = super().state_consume_response_body(event)
        is_end = isinstance(event, ResponseEndOfMessage) and self._is_told("response")
        return observed(consuming, self._see_response_end) if is_end else consuming

    def start_request_stream(self) -> Commands[None]:
        """Begin to pass the request's body on."""
        self._stream("request")
        return super().start_request_stream()

    def start_response_stream(self) -> Commands[None]:
        """Begin to pass the response's body on."""
        self._stream("response")
        return super().start_response_stream()

    def state_stream_request_body(self, event: Event) -> Commands[None]:
        """Pass the request's body on."""
        return observed(super().state_stream_request_body(event), self._see_request_data)

    def state_stream_response_body(self, event: Event) -> Commands[None]:
        """Pass the response's body on."""
        return observed(super().state_stream_response_body(event), self._see_response_data)

    def handle_protocol_error(self, event: RequestProtocolError | ResponseProtocolError) -> Commands[None]:
        """End the exchange early. What had arrived is kept in the flow: mitmproxy would drop it."""
        request, response = self.flow.request, self.flow.response
        if request.data.content is None and self.request_body_buf:
            request.data.content = bytes(self.request_body_buf)
        if response is not None and response.data.content is None and self.response_body_buf:
            response.data.content = bytes(self.response_body_buf)
        return super().handle_protocol_error(event)

    def _see_request_end(self, command: Command) -> None:
        if isinstance(command, HttpRequestHook) and (body := self.tap.body_of(self.flow, "request")) is not None:
            body.complete(self.flow.request.data.content)

    def _see_response_end(self, command: Command) -> None:
        if isinstance(command, HttpResponseHook) and (body := self.tap.body_of(self.flow, "response")) is not None:
            assert self.flow.response is not None
            body.complete(self.flow.response.data.content)

    def _see_request_data(self, command: Command) -> None:
        if isinstance(command, SendHttp) and isinstance(command.event, RequestData):
            self._arrive("request", command.event.data)

    def _see_response_data(self, command: Command) -> None:
        if isinstance(command, SendHttp) and isinstance(command.event, ResponseData):
            self._arrive("response", command.event.data)

    def _arrive(self, side: Side, data: bytes) -> None:
        if data and (body := self.tap.body_of(self.flow, side)) is not None:
            body.arrive(data)
            self.tap.body_arrived(body)

    def _is_told(self, side: Side) -> bool:
        """Whether some of a body has been told already, so that it matters if that stays the body."""
        body = self.tap.body_of(self.flow, side)
        return body is not None and body.told > 0

    def _stream(self, side: Side) -> None:
        if (body := self.tap.body_of(self.flow, side)) is not None:
            body.stream()


def tapped_stream(tap: Tap) -> type[HttpStream]:
    """Return the layer that tells this tap what passes."""
    return type("TappedHttpStream", (TappedHttpStream,), {"tap": tap})
