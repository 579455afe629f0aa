"""WebSocket messages in the contract's form."""

from __future__ import annotations

import base64

from rpc.records import MessageReceived
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


def render(message: MessageReceived) -> bytes:
    """Return the message's JSON."""
    return render_message(
        WebSocketMessage(
            side="client" if message.from_client else "server",
            started_at=None if message.started is None else instant(message.started),
            ended_at=None if message.ended is None else instant(message.ended),
            payload=_payload(message),
        )
    )
