"""WebSocket messages as the contract has them, whole and piece by piece."""

from __future__ import annotations

import base64
import json
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpc.messages import render, render_continued
from rpc.records import MessageContinued, MessageReceived, MessageType
from tests import strict_client

ENTRY = "01ENTRY"
TYPES = get_args(MessageType.__value__)


def received(type_: MessageType, data: bytes, **more: Any) -> MessageReceived:
    facts: dict[str, Any] = {"from_client": True, "started": 1.0, "ended": 2.0} | more
    return MessageReceived(entry=ENTRY, type=type_, data=data, **facts)


def rendered(type_: MessageType, data: bytes, **more: Any) -> Any:
    value = json.loads(render(received(type_, data, **more)))
    strict_client.check_messages([value])
    return value


def test_message_has_its_side_and_its_times() -> None:
    assert rendered("text", b"hello", started=1732406106.8361, ended=None) == {
        "side": "client",
        "startedAt": "2024-11-23T23:55:06.836Z",
        "endedAt": None,
        "payload": {"type": "text", "text": "hello"},
    }
    assert rendered("text", b"", from_client=False)["side"] == "server"


@pytest.mark.parametrize("type_", ["binary", "ping", "pong", "unknown"])
def test_bytes_are_in_base64(type_: MessageType) -> None:
    assert rendered(type_, b"\x00\xff")["payload"] == {"type": type_, "data": "AP8="}


def test_close_has_code_and_reason() -> None:
    assert rendered("close", "für".encode(), code=4999)["payload"] == {"type": "close", "code": 4999, "reason": "für"}


def test_close_without_code_is_1005() -> None:
    assert rendered("close", b"")["payload"] == {"type": "close", "code": 1005, "reason": ""}


@pytest.mark.parametrize("code", [-1, 65536, 2**63])
def test_close_with_a_code_that_the_wire_cannot_carry_is_1005(code: int) -> None:
    assert rendered("close", b"", code=code)["payload"]["code"] == 1005


def test_reason_that_is_not_utf_8_is_latin_1() -> None:
    assert rendered("close", b"caf\xe9", code=1000)["payload"]["reason"] == "café"


def test_text_that_is_not_utf_8_is_read_as_far_as_it_can_be() -> None:
    assert rendered("text", b"a\xff\xed\xa0\x80")["payload"]["text"] == "a" + "\ufffd" * 4


def test_message_does_not_end_before_it_begins_when_the_clock_is_set_back() -> None:
    message = rendered("text", b"", started=1764000000.5, ended=1764000000.4)
    assert message["startedAt"] == message["endedAt"] == "2025-11-24T16:00:00.500Z"


times = st.none() | st.floats()


@given(
    type_=st.sampled_from(TYPES),
    data=st.binary(),
    code=st.none() | st.integers(-(2**63), 2**64 - 1),
    started=times,
    ended=times,
)
def test_strict_client_takes_whatever_is_received(type_: MessageType, data: bytes, **more: Any) -> None:
    payload = rendered(type_, data, **more)["payload"]
    assert payload["type"] == type_
    if "data" in payload:
        assert base64.b64decode(payload["data"]) == data


@pytest.mark.parametrize("pieces", [["one"], ["", ""], ['a"}}', '{"\\', "\x00\n"], ["ß", "𝄞" * 3, "\u2028"]])
def test_long_text_is_rendered_piece_by_piece(pieces: list[str]) -> None:
    json_text = render(received("text", b"head:", more=True))
    for number, piece in enumerate(pieces, 1):
        json_text += render_continued(MessageContinued(ENTRY, "text", piece.encode(), number < len(pieces)))
    assert json_text == render(received("text", b"head:" + "".join(pieces).encode()))


def test_long_binary_message_is_rendered_piece_by_piece() -> None:
    json_text = render(received("binary", b"abc", more=True))
    json_text += render_continued(MessageContinued(ENTRY, "binary", b"defghi", more=True))
    json_text += render_continued(MessageContinued(ENTRY, "binary", b"j", more=False))
    assert json.loads(json_text)["payload"]["data"] == base64.b64encode(b"abcdefghij").decode()
