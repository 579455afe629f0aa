"""The layer that taps WebSocket frames, without a network: it relays as mitmproxy's own does, and tells of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mitmproxy import http
from mitmproxy.options import Options
from mitmproxy.proxy import commands, context, events
from mitmproxy.proxy.layers.websocket import WebsocketLayer, WebsocketMessageHook
from mitmproxy.test import tflow

from addon.conversations import Conversation
from addon.faults import FAULTS
from addon.frames import EntriesRoomHook, is_reserved, payload_of, tapped
from rpc.records import CHUNK_SIZE
from tests.addon.test_conversations import Wire, saved
from tests.peers.websocket import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, close_payload, frame


class Relay:
    """A layer between a client and a server, and the commands that come of what they send."""

    def __init__(self, make: Callable[[context.Context, http.HTTPFlow], WebsocketLayer], extensions: str = "") -> None:
        flow = tflow.twebsocketflow(messages=False)
        assert flow.response is not None
        flow.response.headers["Sec-WebSocket-Extensions"] = extensions
        self.context = context.Context(flow.client_conn, Options())
        self.context.server = flow.server_conn
        self.layer = make(self.context, flow)
        self.commands: list[commands.Command] = []
        self.held: commands.Command | None = None
        self._holds: type[commands.Command] | None = None
        self.handle(events.Start())

    def hold(self, kind: type[commands.Command] | None) -> None:
        """Leave the next commands of this kind unanswered."""
        self._holds = kind

    def client_sends(self, data: bytes) -> None:
        self.handle(events.DataReceived(self.context.client, data))

    def server_sends(self, data: bytes) -> None:
        self.handle(events.DataReceived(self.context.server, data))

    def go_on(self) -> None:
        """Answer the command that is held."""
        held, self.held = self.held, None
        assert isinstance(held, commands.StartHook)
        self.handle(events.HookCompleted(held))

    def handle(self, event: events.Event) -> None:
        for command in list(self.layer.handle_event(event)):
            self.commands.append(command)
            if isinstance(command, commands.StartHook) and command.blocking:
                self.held = command
                if self._holds is None or not isinstance(command, self._holds):
                    self.go_on()

    def sent_to_client(self) -> bytes:
        sent = [command for command in self.commands if isinstance(command, commands.SendData)]
        return b"".join(command.data for command in sent if command.connection is self.context.client)

    def count(self, kind: type[commands.Command]) -> int:
        return sum(isinstance(command, kind) for command in self.commands)


def tap(wire: Wire) -> type[WebsocketLayer]:
    return tapped(lambda flow: Conversation(saved(flow), wire, trims=False))  # type: ignore[arg-type]


def said(wire: Wire) -> list[tuple[str, bytes]]:
    return [(record.type, record.data) for record in wire.sent]


# Relaying

DATA_FRAMES = st.lists(st.binary(max_size=200), min_size=1, max_size=4).flatmap(
    lambda parts: st.sampled_from([TEXT, BINARY]).map(
        lambda opcode: b"".join(
            frame(CONTINUATION if number else opcode, part, fin=number == len(parts) - 1)
            for number, part in enumerate(parts)
        )
    )
)
CONTROL_FRAMES = st.builds(frame, st.sampled_from([PING, PONG]), st.binary(max_size=125))
ODD_FRAMES = st.builds(frame, st.integers(0, 15), st.binary(max_size=130), fin=st.booleans())
STREAMS = st.builds(
    lambda frames, end: b"".join(frames) + end,
    st.lists(DATA_FRAMES | CONTROL_FRAMES, max_size=6),
    ODD_FRAMES | st.just(b""),
)


@given(STREAMS, st.lists(st.integers(1, 300), max_size=20), st.booleans())
def test_everything_is_relayed_as_without_the_tap(stream: bytes, sizes: list[int], vanishes: bool) -> None:
    plain, tapped_ = Relay(WebsocketLayer), Relay(tap(Wire()))
    for relay in (plain, tapped_):
        rest = stream
        for size in [*sizes, len(stream) + 1]:
            relay.server_sends(rest[:size])
            rest = rest[size:]
        if vanishes:
            relay.handle(events.ConnectionClosed(relay.context.server))
    assert tapped_.sent_to_client() == plain.sent_to_client()
    assert [type(command) for command in tapped_.commands] == [type(command) for command in plain.commands]


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=4), st.lists(st.integers(1, 300), max_size=10))
def test_a_message_is_told_as_it_came_however_it_was_cut(parts: list[bytes], sizes: list[int]) -> None:
    wire = Wire()
    relay = Relay(tap(wire))
    rest = b"".join(
        frame(CONTINUATION if number else BINARY, part, fin=number == len(parts) - 1, masked=True)
        for number, part in enumerate(parts)
    )
    for size in [*sizes, len(rest)]:
        relay.client_sends(rest[:size])
        rest = rest[size:]
    assert said(wire) == [("binary", b"".join(parts))]
    assert wire.sent[0].started <= wire.sent[0].ended


def test_what_arrives_while_a_hook_is_waited_for_has_the_time_when_it_arrived() -> None:
    wire = Wire()
    relay = Relay(tap(wire))
    relay.hold(WebsocketMessageHook)
    relay.server_sends(frame(TEXT, b"held"))
    relay.server_sends(frame(TEXT, b"next"))
    seen = time.time()
    time.sleep(0.01)
    relay.go_on()
    assert said(wire) == [("text", b"held"), ("text", b"next")]
    assert wire.sent[1].started <= seen
    assert wire.sent[1].ended <= seen


def test_a_message_is_told_before_the_addons_see_it() -> None:
    wire = Wire()
    relay = Relay(tap(wire))
    relay.hold(WebsocketMessageHook)
    relay.server_sends(frame(TEXT, b"held"))
    assert said(wire) == [("text", b"held")]
    assert relay.sent_to_client() == b""


def test_the_pieces_of_a_large_frame_are_added_up_without_copying_what_came_before() -> None:
    relay = Relay(tap(Wire()))
    sent = frame(BINARY, b"x" * 1000)
    relay.server_sends(sent[:500])
    assert isinstance(relay.layer.server_ws.frame_buf[-1], bytearray)
    relay.server_sends(sent[500:])
    assert relay.layer.flow.websocket is not None
    assert type(relay.layer.flow.websocket.messages[-1].content) is bytes
    assert relay.sent_to_client() == sent


# Waiting


def test_a_message_waits_for_room_before_the_addons_see_it() -> None:
    wire = Wire(full=True)
    relay = Relay(tap(wire))
    relay.hold(EntriesRoomHook)
    relay.server_sends(frame(TEXT, b"waits"))
    assert said(wire) == [("text", b"waits")]
    assert relay.count(WebsocketMessageHook) == 0
    relay.go_on()
    assert relay.count(WebsocketMessageHook) == 1
    assert relay.sent_to_client() == frame(TEXT, b"waits")


def test_a_long_message_waits_for_room_between_its_pieces() -> None:
    wire = Wire(full=True)
    relay = Relay(tap(wire))
    relay.hold(EntriesRoomHook)
    relay.server_sends(frame(TEXT, b"x" * (2 * CHUNK_SIZE + 1)))
    for number in (1, 2, 3):
        assert len(wire.sent) == number
        assert relay.count(WebsocketMessageHook) == 0
        relay.go_on()
    assert relay.count(WebsocketMessageHook) == 1


# Frames that are refused


@pytest.mark.parametrize("opcode", range(16))
def test_reserved_opcodes_are_those_without_a_meaning(opcode: int) -> None:
    assert is_reserved(opcode) == (opcode not in {CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG})


@pytest.mark.parametrize("length", [0, 1, 125, 126, 65535, 65536])
@pytest.mark.parametrize("masked", [True, False])
def test_the_payload_of_a_frame_is_unmasked(length: int, masked: bool) -> None:
    payload = bytes(number % 251 for number in range(length))
    assert payload_of(frame(3, payload, masked=masked) + b"more") == payload


def test_of_a_frame_that_has_not_come_whole_there_is_what_has_come() -> None:
    whole = frame(3, b"payload", masked=True)
    assert [payload_of(whole[:length]) for length in range(7)] == [b""] * 7
    assert payload_of(whole[:8]) == b"pa"


def test_what_follows_a_message_that_cannot_be_inflated_is_not_taken_for_a_frame() -> None:
    wire = Wire()
    relay = Relay(tap(wire), extensions="permessage-deflate")
    relay.server_sends(frame(TEXT | 0x40, b"\xff\xff\xff") + frame(0x3, b"never read"))
    assert [record.type for record in wire.sent] == ["close"]
    assert wire.sent[0].code == 1007


# Faults


class BrokenWire(Wire):
    """A wire that nothing can be sent through."""

    def send(self, record: Any, size: int = 0) -> None:  # noqa: ARG002
        raise RuntimeError("broken")


@pytest.mark.parametrize("breaks", ["tap", "wire"])
def test_a_fault_of_recording_fails_no_websocket(breaks: str) -> None:
    def fail(_: http.HTTPFlow) -> Conversation:
        raise RuntimeError("broken")

    before = FAULTS.counts.total()
    relay = Relay(tapped(fail) if breaks == "tap" else tap(BrokenWire()))
    sent = frame(PING, b"?") + frame(TEXT, b"x" * (CHUNK_SIZE + 1)) + frame(TEXT, b"short")
    relay.server_sends(sent + frame(CLOSE, close_payload(1000)))
    assert relay.sent_to_client() == sent + frame(CLOSE, close_payload(1000))
    assert relay.count(commands.CloseConnection) == 2
    assert FAULTS.counts.total() > before
