"""What is told and saved of a WebSocket, and told again out of a saved flow."""

from __future__ import annotations

from collections.abc import Awaitable, Generator
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mitmproxy import http
from mitmproxy.test import tflow
from mitmproxy.websocket import WebSocketMessage
from wsproto.frame_protocol import Opcode

from addon import conversations
from addon.clients import Client
from addon.conversations import Conversation, pieces, replayed, tell
from addon.saved import Saved, SavedClient, SavedFrame, encode_frame, frames
from addon.transactions import Transaction
from rpc.records import CHUNK_SIZE, MessageContinued, MessageReceived, MessageType

ID = "01JD8Z7V2NDQ31SRQS54PZAQA0"


class Room:
    """Something to wait for."""

    def __await__(self) -> Generator[None]:
        yield


class Wire:
    """Takes what would go through the pipe; while it is `full`, there is something to wait for."""

    def __init__(self, *, full: bool = False) -> None:
        self.sent: list[Any] = []
        self._full = full

    def send(self, record: Any, size: int = 0) -> None:
        assert size == len(record.data)
        self.sent.append(record)

    def room(self) -> Awaitable[None] | None:
        return Room() if self._full else None


def saved(flow: http.HTTPFlow, *frames: SavedFrame) -> Transaction:
    """Return the transaction of a flow that was saved with these frames."""
    kept = cast(Saved, {"id": ID, "client": SavedClient(tls=None, http2=None)})
    if frames:
        kept["frames"] = [encode_frame(frame) for frame in frames]
    client = Client(1, flow.client_conn, kept["client"], find_process=False)
    return Transaction(flow, client, kept, None)


def websocket(*messages: WebSocketMessage, closed_by_client: bool | None = None) -> http.HTTPFlow:
    flow = tflow.twebsocketflow(messages=False)
    assert flow.websocket is not None
    flow.websocket.messages = list(messages)
    flow.websocket.closed_by_client = closed_by_client
    flow.websocket.close_code, flow.websocket.close_reason = 1001, "away"
    flow.websocket.timestamp_end = 9.0
    return flow


def message(content: bytes, **facts: Any) -> WebSocketMessage:
    return WebSocketMessage(Opcode.TEXT, True, content, 5.0, **facts)


def received(kind: MessageType, data: bytes, **facts: Any) -> MessageReceived:
    known: dict[str, Any] = {"entry": ID, "from_client": True, "started": 1.0, "ended": 2.0} | facts
    return MessageReceived(**known, type=kind, data=data)


def heard(kind: MessageType, data: bytes | None = None, **facts: Any) -> SavedFrame:
    known: dict[str, Any] = {"from_client": True, "started": 1.0, "ended": 2.0} | facts
    return SavedFrame(**known, type=kind, data=data)


KEPT_CLOSE = received("close", b"away", started=None, ended=9.0, code=1001)


# Telling


def test_a_short_message_is_one_record() -> None:
    record = received("binary", b"x" * CHUNK_SIZE)
    assert list(pieces(record)) == [record]


@pytest.mark.parametrize("kind", ["text", "binary"])
@pytest.mark.parametrize("over", [1, 2, 3, CHUNK_SIZE, 2 * CHUNK_SIZE + 5])
def test_a_long_message_is_cut_into_pieces_that_can_be_read_alone(kind: MessageType, over: int) -> None:
    data = ("𝄞" * CHUNK_SIZE).encode()[: 4 * ((CHUNK_SIZE + over + 3) // 4)]
    first, *rest = pieces(received(kind, data))
    assert isinstance(first, MessageReceived)
    assert first == received(kind, first.data, more=True)
    assert all(isinstance(piece, MessageContinued) and (piece.entry, piece.type) == (ID, kind) for piece in rest)
    assert [piece.more for piece in (first, *rest)] == [True] * len(rest) + [False]
    assert b"".join(piece.data for piece in (first, *rest)) == data
    for piece in (first, *rest):
        assert len(piece.data) <= CHUNK_SIZE
        if kind == "text":
            piece.data.decode()
        elif piece.more:
            assert len(piece.data) % 3 == 0


@given(st.text(), st.text(min_size=1, max_size=8))
def test_text_is_never_cut_within_a_character(beginning: str, character: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conversations, "CHUNK_SIZE", 5)
        told = list(pieces(received("text", (beginning + character).encode(errors="replace"))))
    assert "".join(piece.data.decode() for piece in told).encode() == (beginning + character).encode(errors="replace")


def test_what_is_no_text_is_cut_all_the_same() -> None:
    told = list(pieces(received("text", b"\x80" * 2 * CHUNK_SIZE)))
    assert [len(piece.data) for piece in told] == [CHUNK_SIZE, CHUNK_SIZE]


def test_a_long_message_waits_for_room_between_its_pieces() -> None:
    wire = Wire(full=True)
    telling = tell(wire, received("binary", b"x" * 2 * CHUNK_SIZE))  # type: ignore[arg-type]
    for number in (1, 2, 3):
        next(telling)
        assert len(wire.sent) == number
    assert list(telling) == []


def test_a_short_message_waits_for_room_after_it_is_sent() -> None:
    full, empty = Wire(full=True), Wire()
    for wire, waits in ((full, 1), (empty, 0)):
        conversation = Conversation(saved(websocket()), wire, trims=False)  # type: ignore[arg-type]
        assert len(list(conversation.message(heard("text"), b"hello") or ())) == waits
        assert wire.sent == [received("text", b"hello")]


# Saving


def test_what_mitmproxy_does_not_keep_is_saved_in_order() -> None:
    transaction = saved(websocket(message(b"hello")))
    conversation = Conversation(transaction, Wire(), trims=False)  # type: ignore[arg-type]
    assert transaction.flow.websocket is not None
    conversation.control(heard("ping", b"?"))
    conversation.message(heard("text"), b"hello")
    conversation.passed(heard("text"), transaction.flow.websocket)
    conversation.control(heard("close", b"", code=1000))
    conversation.end(transaction.flow.websocket, 9.0)
    assert frames(transaction.saved) == [heard("ping", b"?"), heard("text"), heard("close", b"", code=1000)]


def test_an_end_without_a_close_frame_is_a_close_without_a_beginning() -> None:
    wire, flow = Wire(), websocket(closed_by_client=False)
    assert flow.websocket is not None
    Conversation(saved(flow), wire, trims=False).end(flow.websocket, 4.0)  # type: ignore[arg-type]
    assert wire.sent == [received("close", b"away", from_client=False, started=None, ended=4.0, code=1001)]


def test_trimming_leaves_the_latest_message_and_saves_nothing() -> None:
    transaction = saved(websocket(message(b"one"), message(b"two")))
    conversation = Conversation(transaction, Wire(), trims=True)  # type: ignore[arg-type]
    socket = transaction.flow.websocket
    assert socket is not None
    conversation.control(heard("ping", b"?"))
    conversation.passed(heard("text"), socket)
    assert [kept.content for kept in socket.messages] == [b"two"]
    assert "frames" not in transaction.saved


# Replaying


def test_a_saved_flow_gives_again_what_was_told() -> None:
    flow = websocket(message(b"kept"), message(b"changed"), message(b"", dropped=True), closed_by_client=True)
    said = [
        heard("ping", b"?"),
        heard("text"),
        heard("text", b"change"),
        heard("binary"),
        heard("close", b"", code=4000),
    ]
    assert list(replayed(saved(flow, *said))) == [
        received("ping", b"?"),
        received("text", b"kept"),
        received("text", b"change"),
        received("binary", b""),
        received("close", b"", code=4000),
    ]


def test_a_flow_that_was_saved_without_the_addon_gives_what_mitmproxy_kept() -> None:
    flow = websocket(message(b"one"), message(b"two", dropped=True), closed_by_client=True)
    kept = [received("text", content, started=None, ended=5.0) for content in (b"one", b"two")]
    assert list(replayed(saved(flow))) == [*kept, KEPT_CLOSE]


def test_an_injected_message_that_was_dropped_was_never_sent() -> None:
    flow = websocket(message(b"no", injected=True, dropped=True), message(b"yes", injected=True))
    assert list(replayed(saved(flow, heard("text")))) == [received("text", b"yes")]
    assert list(replayed(saved(flow))) == [received("text", b"yes", started=None, ended=5.0)]


def test_a_websocket_that_was_open_has_no_close() -> None:
    assert list(replayed(saved(websocket(message(b"one")), heard("text")))) == [received("text", b"one")]
    assert list(replayed(saved(websocket()))) == []


def test_a_message_that_was_held_when_the_flow_was_saved_comes_last() -> None:
    flow = websocket(message(b"told"), message(b"held"))
    assert list(replayed(saved(flow, heard("text"), heard("ping", b"?")))) == [
        received("text", b"told"),
        received("ping", b"?"),
        received("text", b"held", started=None, ended=5.0),
    ]


def test_messages_that_an_addon_removed_are_the_oldest_ones() -> None:
    flow = websocket(message(b"latest"), closed_by_client=True)
    said = [heard("text", started=0.5), heard("pong", b""), heard("text"), heard("close", b"", code=1000)]
    assert list(replayed(saved(flow, *said))) == [
        received("pong", b""),
        received("text", b"latest"),
        received("close", b"", code=1000),
    ]


def test_frames_that_cannot_be_read_are_none() -> None:
    transaction = saved(websocket(message(b"one"), closed_by_client=True), heard("ping"))
    transaction.saved["frames"].append(b"damaged")
    assert list(replayed(transaction)) == [received("text", b"one", started=None, ended=5.0), KEPT_CLOSE]


def test_a_flow_that_is_no_websocket_has_no_messages() -> None:
    assert list(replayed(saved(tflow.tflow()))) == []
