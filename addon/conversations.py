"""What is said over one WebSocket: told to the child as it comes, saved with the flow, told again out of a capture.

Nothing here knows of frames on the wire, nor of how mitmproxy relays them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Iterator
from typing import TYPE_CHECKING, Literal

from msgspec import structs

from addon import saved as saving
from addon.faults import guarded
from addon.saved import SavedFrame
from rpc.records import CHUNK_SIZE, MessageContinued, MessageReceived

if TYPE_CHECKING:
    from mitmproxy.websocket import WebSocketData, WebSocketMessage

    from addon.link import Link
    from addon.transactions import Transaction

type Telling = Iterator[Awaitable[None]]
"""Sends records as it goes on; what it yields is to be waited for before that."""

CONTINUATION_BITS, CONTINUATION = 0xC0, 0x80
"""What tells the other bytes of a character from its first one (RFC 3629 section 3)."""
MAX_CHARACTER = 4
"""Bytes of a character."""


class Conversation:
    """A live WebSocket. What mitmproxy does not keep of it is saved with the flow, unless `trims` is on.

    Then mitmproxy's own copy of the messages is cut down to the latest one, for which other addons may ask.
    """

    def __init__(self, transaction: Transaction, link: Link, *, trims: bool) -> None:
        self._id = transaction.id
        self._link = link
        self._trims = trims
        self._frames: list[bytes] = []
        self._is_closed = False
        if not trims:
            transaction.saved["frames"] = self._frames

    def control(self, frame: SavedFrame) -> None:
        """Take in a frame that is a message of its own."""
        self._is_closed |= frame.type == "close"
        data = frame.data or b""
        self._link.send(_record(self._id, frame, data), len(data))
        self._save(frame)

    @guarded
    def message(self, frame: SavedFrame, content: bytes) -> Telling | None:
        """Take in a message with this content; return null if it is told, and there is no need to wait."""
        record = _record(self._id, frame, content)
        if len(content) > CHUNK_SIZE:
            return tell(self._link, record)
        self._link.send(record, len(content))
        return None if (room := self._link.room()) is None else iter((room,))

    @guarded
    def passed(self, frame: SavedFrame, socket: WebSocketData) -> None:
        """Take in that a message has gone through every addon; the frame says what mitmproxy does not keep of it."""
        self._save(frame)
        if self._trims:
            del socket.messages[:-1]

    def end(self, socket: WebSocketData, ended: float) -> None:
        """Take in that the WebSocket has ended. Where no frame said so, it was a vanishing side or a broken rule."""
        if not self._is_closed:
            reason, code = (socket.close_reason or "").encode(errors="replace"), socket.close_code
            self.control(SavedFrame("close", bool(socket.closed_by_client), None, ended, reason, code))

    def _save(self, frame: SavedFrame) -> None:
        if not self._trims:
            self._frames.append(saving.encode_frame(frame))


def tell(link: Link, record: MessageReceived) -> Telling:
    """Send a message, in pieces if it is long."""
    for piece in pieces(record):
        link.send(piece, len(piece.data))
        if (room := link.room()) is not None:
            yield room


def pieces(record: MessageReceived) -> Iterator[MessageReceived | MessageContinued]:
    """Yield the records that carry a message."""
    data, kind = record.data, record.type
    if len(data) <= CHUNK_SIZE or (kind != "text" and kind != "binary"):
        yield record
        return
    start, end = 0, _cut(data, 0, kind)
    yield structs.replace(record, data=data[:end], more=True)
    while end < len(data):
        start, end = end, _cut(data, end, kind)
        yield MessageContinued(record.entry, kind, data[start:end], end < len(data))


def _cut(data: bytes, start: int, kind: str) -> int:
    """Return where the piece that begins at `start` ends, so that it can be read by itself."""
    end = start + CHUNK_SIZE
    if end >= len(data):
        return len(data)
    if kind == "binary":
        return end - CHUNK_SIZE % 3
    for shorter in range(end, end - MAX_CHARACTER, -1):
        if data[shorter] & CONTINUATION_BITS != CONTINUATION:
            return shorter
    return end


def _record(entry: str, frame: SavedFrame, data: bytes) -> MessageReceived:
    return MessageReceived(entry, frame.from_client, frame.type, data, frame.started, frame.ended, frame.code)


def kind_of(message: WebSocketMessage) -> Literal["text", "binary"]:
    """Return the type of a message."""
    return "text" if message.is_text else "binary"


def kept_message(entry: str, message: WebSocketMessage) -> MessageReceived:
    """Return a message as mitmproxy keeps it, without its beginning."""
    return MessageReceived(entry, message.from_client, kind_of(message), message.content, None, message.timestamp)


def kept_close(entry: str, socket: WebSocketData) -> MessageReceived | None:
    """Return the end of a WebSocket as mitmproxy keeps it; null if it has not ended."""
    if socket.closed_by_client is None:
        return None
    reason, code = (socket.close_reason or "").encode(errors="replace"), socket.close_code
    return MessageReceived(entry, socket.closed_by_client, "close", reason, None, socket.timestamp_end, code)


def replayed(transaction: Transaction) -> Iterator[MessageReceived]:
    """Yield the messages of a loaded flow: as they were told when it was live, or else as mitmproxy has kept them."""
    entry, socket = transaction.id, transaction.flow.websocket
    if socket is None:
        return
    frames = saving.frames(transaction.saved)
    kept = deque(message for message in socket.messages if not _was_never_sent(message))
    # An addon may have removed messages, as a rule the oldest ones.
    removed = sum(frame.is_message for frame in frames) - len(kept)
    for frame in frames:
        if not frame.is_message:
            yield _record(entry, frame, frame.data or b"")
        elif removed > 0:
            removed -= 1
        else:
            content = kept.popleft().content
            yield _record(entry, frame, content if frame.data is None else frame.data)
    yield from (kept_message(entry, message) for message in kept)
    close = kept_close(entry, socket)
    if close is not None and all(frame.type != "close" for frame in frames):
        yield close


def _was_never_sent(message: WebSocketMessage) -> bool:
    return message.injected and message.dropped
