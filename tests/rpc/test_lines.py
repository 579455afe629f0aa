from __future__ import annotations

import time

import pytest

from rpc.lines import clock, duration, entry_line, message_line, safe, size
from rpc.schema import EntrySummary, WebSocketMessage
from tests.test_strict_client import SUMMARY


@pytest.fixture(autouse=True)
def _utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


def summary(**changes: object) -> EntrySummary:
    return EntrySummary.model_validate(SUMMARY | changes, by_alias=True)


def message(**payload: object) -> WebSocketMessage:
    value = {"side": "server", "startedAt": None, "endedAt": "2026-11-24T14:55:06.901Z", "payload": payload}
    return WebSocketMessage.model_validate(value, by_alias=True)


def test_entry_is_a_line() -> None:
    assert entry_line(summary()) == "14:55:06.836  GET     200     648 B     95 ms  https://example.com/search?q=1"


def test_failed_entry_says_why() -> None:
    line = entry_line(summary(statusCode=None, responseBodySize=None, error="reset\x1b[2J"))
    assert line == "14:55:06.836  GET       -         -     95 ms  https://example.com/search?q=1  (reset\\x1b[2J)"


@pytest.mark.parametrize(
    ("status", "colour"), [(200, 32), (302, 36), (404, 33), (503, 31), (101, 2), (700, 31), (None, 31)]
)
def test_status_has_the_colour_of_its_class(status: int | None, colour: int) -> None:
    text = "  -" if status is None else str(status)
    assert f"\x1b[{colour}m{text}\x1b[0m" in entry_line(summary(statusCode=status), colours=True)
    assert "\x1b" not in entry_line(summary(statusCode=status))


def test_nothing_from_the_network_can_command_the_terminal() -> None:
    assert safe("plain é 漢") == "plain é 漢"
    assert safe("\x1b]0;title\x07\r\n\u202e") == r"\x1b]0;title\x07\r\n\u202e"


def test_message_is_a_line() -> None:
    assert message_line(message(type="text", text="two\nlines")) == r"14:55:06.901  ← text    two\nlines"
    assert message_line(message(type="binary", data="AAEC")) == "14:55:06.901  ← binary  AAEC"
    assert message_line(message(type="close", code=1000, reason="")) == "14:55:06.901  ← close   1000"


def test_numbers_are_short() -> None:
    assert [size(count) for count in (None, 0, 999, 1000, 1_234_567, 5 * 10**12)] == [
        *("-", "0 B", "999 B", "1 kB", "1.23 MB", "5e+03 GB"),
    ]
    assert [duration(count) for count in (None, 0, 999, 1000, 61_500)] == ["-", "0 ms", "999 ms", "1.0 s", "61.5 s"]
    assert clock(None) == "-"
