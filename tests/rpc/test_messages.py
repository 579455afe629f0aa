from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from rpc.messages import render, render_continued
from rpc.records import MessageContinued, MessageReceived, MessageType

ENTRY = "01ENTRY"


def received(type_: MessageType, data: bytes, **more: Any) -> MessageReceived:
    facts: dict[str, Any] = {"from_client": True, "started": 1.0, "ended": 2.0} | more
    return MessageReceived(entry=ENTRY, type=type_, data=data, **facts)


def rendered(type_: MessageType, data: bytes, **more: Any) -> Any:
    return json.loads(render(received(type_, data, **more)))


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


def test_reason_that_is_not_utf_8_is_read_as_far_as_it_can_be() -> None:
    assert rendered("close", b"a\xff", code=1000)["payload"]["reason"] == "a\ufffd"


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
