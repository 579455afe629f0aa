"""WebSocket messages in the contract's form: JSON text, of a long message piece by piece."""

from __future__ import annotations

import base64

import msgspec

from rpc.records import MessageContinued, MessageReceived
from rpc.schema import render_message
from rpc.wire import instant, text

NO_STATUS_RECEIVED = 1005
"""The code of a close frame that carried none (RFC 6455 section 7.4.1)."""
MAX_CODE = 0xFFFF


def _code(code: int | None) -> int:
    return NO_STATUS_RECEIVED if code is None or not 0 <= code <= MAX_CODE else code


def _payload(message: MessageReceived) -> dict[str, object]:
    if message.type == "text":
        return {"type": "text", "text": message.data.decode(errors="replace")}
    if message.type == "close":
        return {"type": "close", "code": _code(message.code), "reason": text(message.data)}
    return {"type": message.type, "data": base64.b64encode(message.data).decode()}


def _instants(started: float | None, ended: float | None) -> tuple[str | None, str | None]:
    """Return when a message began and ended: a wall clock that was set back does not make it end before it began."""
    start = None if started is None else instant(started)
    end = None if ended is None else instant(ended)
    return start, max(start, end) if start and end else end


END = b'"}}'
"""How the JSON of a text or binary message ends: its payload comes last."""


def render(message: MessageReceived) -> bytes:
    """Return the message's JSON; if more follows, the beginning of it."""
    started_at, ended_at = _instants(message.started, message.ended)
    json = render_message(
        {
            "side": "client" if message.from_client else "server",
            "started_at": started_at,
            "ended_at": ended_at,
            "payload": _payload(message),
        }
    )
    return json.removesuffix(END) if message.more else json


def render_continued(piece: MessageContinued) -> bytes:
    """Return the JSON of the next piece of a payload; if it is the last one, to the message's end."""
    if piece.type == "text":
        json = msgspec.json.encode(piece.data.decode(errors="replace"))[1:-1]
    else:
        json = base64.b64encode(piece.data)
    return json if piece.more else json + END
