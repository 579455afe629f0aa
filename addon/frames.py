"""WebSocket frames as they come: mitmproxy shows addons whole text and binary messages alone.

A layer that takes the place of mitmproxy's `WebsocketLayer` sees when data arrives, and what the parser makes of it
before that is held to any rule. It relays nothing differently.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mitmproxy.proxy import commands, events
from mitmproxy.proxy.layers.websocket import WebsocketEndHook, WebsocketLayer, WebsocketMessageHook, WebsocketStartHook
from msgspec import structs
from wsproto.frame_protocol import Opcode, ParseFailed, XorMaskerSimple

from addon.conversations import kind_of
from addon.faults import FAULTS, guarded
from addon.saved import SavedFrame

if TYPE_CHECKING:
    from mitmproxy import http
    from mitmproxy.proxy.layer import CommandGenerator
    from mitmproxy.proxy.layers.websocket import WebsocketConnection
    from mitmproxy.websocket import WebSocketMessage
    from wsproto.frame_protocol import Frame

    from addon.conversations import Conversation, Telling
    from rpc.records import MessageType

ARRIVED = "_entries_arrived"
"""The attribute of an event that says when it came: it may have to wait until a hook is done."""

OPCODE_BITS, MASK_BIT, LENGTH_BITS = 0x0F, 0x80, 0x7F
EXTENDED_LENGTH_BYTES = {126: 2, 127: 8}
"""By the value of the short length (RFC 6455 section 5.2)."""
MASK_BYTES = 4
CODE_BYTES = 2
"""Of a close frame's payload, the first ones (RFC 6455 section 5.5.1)."""


@dataclass
class EntriesRoomHook(commands.StartHook):
    """A WebSocket waits, since the child is far behind."""

    waiting: Awaitable[None]


class Incoming:
    """The frames that one side sends. Times are Unix times; `arrived` is when the latest data did."""

    def __init__(self, connection: WebsocketConnection, conversation: Conversation, *, from_client: bool) -> None:
        self.arrived = 0.0
        self._message_began: float | None = None
        self._frame_began: float | None = None
        self._from_client = from_client
        self._conversation = conversation
        self._connection = connection
        self._parser: Any = connection._proto._frame_decoder  # noqa: SLF001
        self._next: Callable[[], Frame | None] = self._parser.process_buffer
        self._parser.process_buffer = self._process_buffer

    def finish_message(self, kind: MessageType) -> SavedFrame:
        """Return when the message that is complete now began and ended."""
        began, self._message_began = self._message_began, None
        return SavedFrame(kind, self._from_client, began, self.arrived)

    def _process_buffer(self) -> Frame | None:
        try:
            frame = self._next()
        except ParseFailed:
            self._see_refused()
            raise
        if frame is None:
            if self._parser.header is not None or self._parser.buffer.buffer:
                self._see_beginning()
        elif frame.opcode < Opcode.CLOSE and frame.frame_finished and self._frame_began is None:
            # A data frame that has come at once, as most do: this is the path of every message.
            if self._message_began is None:
                self._message_began = self.arrived
        else:
            self._see(frame)
        return frame

    def _see_beginning(self) -> None:
        """Take in that something has come of a frame, if only of its header."""
        if self._frame_began is None:
            self._frame_began = self.arrived

    @guarded
    def _see(self, frame: Frame) -> None:
        """Take in a frame, or what has come of it."""
        if frame.opcode < Opcode.CLOSE:
            self._see_data(frame)
        else:
            self._see_control(frame.opcode, bytes(frame.payload))  # type: ignore[arg-type]

    def _see_data(self, frame: Frame) -> None:
        began = self._take_beginning()
        if self._message_began is None:
            self._message_began = began
        if not frame.frame_finished:
            # mitmproxy adds what has come of a frame up here. With bytes each addition copies all that was there
            # before: a frame of 64 MB would take it a minute.
            buffer: list[Any] = self._connection.frame_buf
            if isinstance(buffer[-1], bytes):
                buffer[-1] = bytearray(buffer[-1])

    def _take_beginning(self) -> float:
        began, self._frame_began = self._frame_began, None
        return self.arrived if began is None else began

    def _see_control(self, opcode: Opcode, payload: bytes) -> None:
        if opcode is Opcode.PING:
            self._tell("ping", payload)
        elif opcode is Opcode.PONG:
            self._tell("pong", payload)
        elif not payload:
            self._tell("close", b"")
        elif len(payload) >= CODE_BYTES:
            self._tell("close", payload[CODE_BYTES:], int.from_bytes(payload[:CODE_BYTES]))

    @guarded
    def _see_refused(self) -> None:
        """Take in what the parser refuses. If it refuses a header, what has come of the frame is in its buffer."""
        data = bytes(self._parser.buffer.buffer)
        if self._parser.header is None and data and is_reserved(data[0] & OPCODE_BITS):
            self._tell("unknown", payload_of(data))

    def _tell(self, kind: MessageType, data: bytes, code: int | None = None) -> None:
        began = self._take_beginning()
        self._conversation.control(SavedFrame(kind, self._from_client, began, self.arrived, data, code))


def is_reserved(opcode: int) -> bool:
    """Return whether no meaning is defined for an opcode (RFC 6455 section 5.2)."""
    return 0x3 <= opcode <= 0x7 or opcode >= 0xB


def payload_of(data: bytes) -> bytes:
    """Return the payload of the frame at the start of the data, unmasked, as far as it is there."""
    if len(data) < 2:
        return b""
    length = data[1] & LENGTH_BITS
    start = 2
    if (more := EXTENDED_LENGTH_BYTES.get(length)) is not None:
        length = int.from_bytes(data[start : start + more])
        start += more
    if not data[1] & MASK_BIT:
        return data[start : start + length]
    mask, start = data[start : start + MASK_BYTES], start + MASK_BYTES
    payload = data[start : start + length]
    return bytes(XorMaskerSimple(mask).process(bytearray(payload))) if payload else b""


class TappedWebsocketLayer(WebsocketLayer):
    """mitmproxy's layer, which tells a conversation of what it relays. A subclass says which one."""

    _conversation: Conversation | None = None
    _incoming: dict[bool, Incoming]
    """By whether they come from the client."""

    def _begin(self) -> Conversation:
        raise NotImplementedError

    def start(self, event: events.Event) -> CommandGenerator[None]:
        """Begin to relay."""
        for command in super().start(event):
            if isinstance(command, WebsocketStartHook):
                self._tap()
            yield command

    _handle_event = start

    def handle_event(self, event: events.Event) -> CommandGenerator[None]:
        """Handle an event, now or when what is being waited for is done."""
        if isinstance(event, events.ConnectionEvent):
            setattr(event, ARRIVED, time.time())
        return super().handle_event(event)

    def relay_messages(self, event: events.Event) -> CommandGenerator[None]:
        """Relay what has arrived."""
        if self._conversation is None:
            yield from super().relay_messages(event)
            return
        if isinstance(event, events.ConnectionEvent):
            self._incoming[event.connection is self.context.client].arrived = getattr(event, ARRIVED)
        for command in super().relay_messages(event):
            if isinstance(command, WebsocketMessageHook):
                yield from self._relay_message(command, self._conversation)
            else:
                if isinstance(command, WebsocketEndHook):
                    self._end(self._conversation)
                yield command

    @guarded
    def _tap(self) -> None:
        conversation = self._begin()
        sides = ((True, self.client_ws), (False, self.server_ws))
        self._incoming = {
            from_client: Incoming(connection, conversation, from_client=from_client)
            for from_client, connection in sides
        }
        self._conversation = conversation

    def _relay_message(self, hook: WebsocketMessageHook, conversation: Conversation) -> CommandGenerator[None]:
        """Show a message to the addons, after it has been told as it came. An injected one is told as it goes out."""
        assert self.flow.websocket is not None
        message = self.flow.websocket.messages[-1]
        if message.injected:
            yield hook
            yield from _waiting(self._send_injected(conversation, message))
            return
        frame = self._incoming[message.from_client].finish_message(kind_of(message))
        content = message.content
        if (telling := conversation.message(frame, content)) is not None:
            yield from _waiting(telling)
        yield hook
        if message.content is not content:
            frame = structs.replace(frame, data=content)
        conversation.passed(frame, self.flow.websocket)

    def _send_injected(self, conversation: Conversation, message: WebSocketMessage) -> Telling:
        if not message.dropped:
            now = time.time()
            frame = SavedFrame(kind_of(message), message.from_client, now, now)
            yield from conversation.message(frame, message.content) or ()
            assert self.flow.websocket is not None
            conversation.passed(frame, self.flow.websocket)

    @guarded
    def _end(self, conversation: Conversation) -> None:
        assert self.flow.websocket is not None
        conversation.end(self.flow.websocket, self._incoming[bool(self.flow.websocket.closed_by_client)].arrived)


def tapped(converse: Callable[[http.HTTPFlow], Conversation]) -> type[WebsocketLayer]:
    """Return what is to take the place of `WebsocketLayer`; `converse` begins the conversation of a flow."""

    class Layer(TappedWebsocketLayer):
        def _begin(self) -> Conversation:
            return converse(self.flow)

    return Layer


def _waiting(telling: Telling) -> CommandGenerator[None]:
    try:
        for waiting in telling:
            yield EntriesRoomHook(waiting)
    except Exception as error:
        FAULTS.count("telling of a WebSocket message", error)
