"""WebSocket messages in the contract's form: JSON text, of a long message piece by piece."""

from __future__ import annotations

import base64

import msgspec

from rpc.records import MessageContinued, MessageReceived
from rpc.schema import Binary, Close, Text, WebSocketMessage, render_message
from rpc.wire import instant

NO_STATUS_RECEIVED = 1005
"""The code of a close frame that carried none (RFC 6455 section 7.4.1)."""


def _payload(message: MessageReceived) -> Text | Binary | Close:
    if message.type == "text":
        return Text(type="text", text=message.data.decode(errors="replace"))
    if message.type == "close":
        code = NO_STATUS_RECEIVED if message.code is None else message.code
        return Close(type="close", code=code, reason=message.data.decode(errors="replace"))
    return Binary(type=message.type, data=base64.b64encode(message.data).decode())


END = b'"}}'
"""How the JSON of a text or binary message ends: its payload comes last."""


def render(message: MessageReceived) -> bytes:
    """Return the message's JSON; if more follows, the beginning of it."""
    json = render_message(
        WebSocketMessage(
            side="client" if message.from_client else "server",
            started_at=None if message.started is None else instant(message.started),
            ended_at=None if message.ended is None else instant(message.ended),
            payload=_payload(message),
        )
    )
    return json.removesuffix(END) if message.more else json


def render_continued(piece: MessageContinued) -> bytes:
    """Return the JSON of the next piece of a payload; if it is the last one, to the message's end."""
    if piece.type == "text":
        json = msgspec.json.encode(piece.data.decode(errors="replace"))[1:-1]
    else:
        json = base64.b64encode(piece.data)
    return json if piece.more else json + END
