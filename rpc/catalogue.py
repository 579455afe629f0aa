"""What the API offers: every method, notification and error with its types, in words, and by example.

The models validate and serialise; this says which of them belong to what. The document for discovery is made from it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from rpc import schema
from rpc.schema import Model, Notice

SESSION = "01JD8Z7T5M0E9R3Q6W2XKY4ABC"
ENTRY = "01JD8Z7V2NDQ31SRQS54PZAQA0"

SUMMARY: dict[str, Any] = {
    "id": ENTRY,
    "method": "GET",
    "url": "https://example.com/search?q=1",
    "statusCode": 200,
    "startedAt": "2026-11-24T14:55:06.836Z",
    "duration": 95,
    "requestBodySize": 0,
    "responseBodySize": 648,
    "mimeType": "text/html",
    "isWebSocket": False,
    "isFinished": True,
    "error": None,
}
MESSAGE: dict[str, Any] = {
    "side": "client",
    "startedAt": "2026-11-24T14:55:06.901Z",
    "endedAt": "2026-11-24T14:55:06.901Z",
    "payload": {"type": "text", "text": "hello"},
}
FULL_ENTRY: dict[str, Any] = {
    "id": ENTRY,
    "url": "https://example.com/search?q=1",
    "clientAddr": {"ip": "127.0.0.1", "port": 57230},
    "remoteAddr": {"ip": "93.184.215.14", "port": 443},
    "httpVersion": "HTTP/1.1",
    "transactionType": "request",
    "request": {
        "method": "GET",
        "path": "/search?q=1",
        "httpVersion": "HTTP/1.1",
        "headers": [["Host", "example.com"], ["Accept", "*/*"]],
        "bodySize": 0,
    },
    "response": {
        "httpVersion": "HTTP/1.1",
        "statusCode": 200,
        "statusText": "OK",
        "headers": [["Content-Type", "text/html"], ["Content-Length", "648"]],
        "bodySize": 648,
    },
    "isWebSocket": False,
    "tls": {
        "connectionId": "01JD8Z7TXQ4S8F5B3T9GZ1MNPR",
        "tlsVersion": {"value": 772, "name": "TLS 1.3"},
        "cipherSuite": {"value": 4865, "name": "TLS_AES_128_GCM_SHA256"},
        "ja3": {"string": "771,4865-4866-4867,0-16-43-51,29,", "hash": "56b103b5f7630c092f4a5059d8ee7064"},
        "ja4": {
            "raw": "t13d0304h1_1301,1302,1303_002b,0033",
            "hashed": "t13d0304h1_55b375c5d22e_a56c5b993250",
        },
    },
    "http2": None,
    "timings": {
        "startedAt": "2026-11-24T14:55:06.836Z",
        "blocked": 1,
        "dns": 12,
        "connect": 48,
        "send": 1,
        "wait": 31,
        "receive": 2,
        "ssl": 25,
    },
    "process": {"pid": 4711, "name": "curl"},
}
STATUS: dict[str, Any] = {
    "isCaptured": True,
    "isStored": True,
    "entries": 1520,
    "bytes": 48213355,
    "dropped": 0,
    "droppedSince": None,
    "droppedUntil": None,
    "evictedBytes": 0,
    "storeBytes": 52711424,
    "storeLimit": 4294967296,
}
THE_SESSION = {"sessionId": SESSION}
THE_ENTRY = {"sessionId": SESSION, "entryId": ENTRY}
THE_BODY = THE_ENTRY | {"encoding": "text"}


class Error(NamedTuple):
    """An error of JSON-RPC, and when it is answered."""

    name: str
    code: int
    message: str
    when: str


class Offer(NamedTuple):
    """A method: its name, the model of its parameters, the type of its result, in words and by example."""

    name: str
    params: type[Model]
    result: Any
    summary: str
    description: str
    example: dict[str, Any]
    answer: Any


class Notification(NamedTuple):
    """A notification that subscribers are sent: its name, the model of its parameters, and an example of them."""

    name: str
    params: type[Notice]
    example: dict[str, Any]


ERRORS = (
    Error("ParseError", -32700, "Parse error", "The message is not JSON."),
    Error("InvalidRequest", -32600, "Invalid Request", "It is no request object, or its id is of another type."),
    Error("MethodNotFound", -32601, "Method not found", "There is no such method."),
    Error(
        "InvalidParams",
        -32602,
        "Invalid params",
        "A parameter is missing, unknown or not acceptable: `data` is an array of `{parameter, reason}`.",
    ),
    Error("InternalError", -32603, "Internal error", "Our own fault; the log has the details."),
    Error("TooManySubscriptions", -32000, "Too many subscriptions", "The connection has 64 already."),
)

OFFERS = (
    Offer(
        "sessions/list",
        schema.NoParams,
        list[schema.Session],
        "Every session, the oldest first.",
        "A session is one run of the proxy, or one capture.",
        {},
        [{"id": SESSION, "name": "2026-11-24 14:55:05"}],
    ),
    Offer(
        "sessions/get_entry_ids",
        schema.SessionParams,
        list[str] | None,
        "The ids of a session's entries in order of creation.",
        "New ones are appended. Null: no such session.",
        THE_SESSION,
        [ENTRY],
    ),
    Offer(
        "sessions/get_listener_port",
        schema.SessionParams,
        int | None,
        "The port that the proxy listens on.",
        "Null: the session is not being captured now, or there is none.",
        THE_SESSION,
        8080,
    ),
    Offer(
        "sessions/get_status",
        schema.SessionParams,
        schema.SessionStatus | None,
        "What is stored of a session, and what is not.",
        "Null: no such session.",
        THE_SESSION,
        STATUS,
    ),
    Offer(
        "sessions/query",
        schema.QueryParams,
        schema.EntryPage | None,
        "Summaries of a session's entries, in pages, those that fit a filter.",
        "Null: no such session, or `after` is no entry of it.",
        THE_SESSION | {"filter": "~d example.com & ~c 200", "limit": 1},
        {"entries": [SUMMARY], "next": ENTRY},
    ),
    Offer(
        "sessions/get_entry",
        schema.EntryParams,
        schema.SessionEntry | None,
        "One entry, from the moment that its request headers have arrived.",
        "It changes until it ends. Null: no such session or entry.",
        THE_ENTRY,
        FULL_ENTRY,
    ),
    Offer(
        "sessions/get_request_body",
        schema.BodyParams,
        str | None,
        "The body of an entry's request, with its content encoding undone.",
        "Empty: it is known to be empty. Null: no such entry, or the body is not kept.",
        THE_BODY,
        "q=1",
    ),
    Offer(
        "sessions/get_response_body",
        schema.BodyParams,
        str | None,
        "The body of an entry's response, with its content encoding undone.",
        "While it is arriving, what has arrived. Empty: it is known to be empty. Null: no such entry, no response yet,"
        " or the body is not kept.",
        THE_BODY,
        "<!doctype html>",
    ),
    Offer(
        "sessions/get_websocket_messages",
        schema.EntryParams,
        list[schema.WebSocketMessage] | None,
        "The messages of a WebSocket so far.",
        "Null: the entry is no WebSocket, or there is none, or the messages were given up.",
        THE_ENTRY,
        [MESSAGE],
    ),
    Offer(
        "sessions/subscribe",
        schema.SubscribeParams,
        str | None,
        "Be sent notifications; the result is the subscription's id.",
        "What was missed since `after` comes first. Null: no such session, or `after` is no entry of it.",
        THE_SESSION | {"events": ["entry_added", "entry_updated"], "after": ENTRY},
        "1",
    ),
    Offer(
        "sessions/unsubscribe",
        schema.UnsubscribeParams,
        bool | None,
        "End a subscription.",
        "True; null: there is no such subscription on this connection.",
        {"subscriptionId": "1"},
        True,  # noqa: FBT003
    ),
    Offer(
        "rpc.discover",
        schema.NoParams,
        dict[str, Any],
        "This document.",
        "Also `GET /openrpc.json` on the same port, with the token.",
        {},
        {"openrpc": "1.3.2"},
    ),
)

_TOLD = {"subscriptionId": "1", "sessionId": SESSION}

NOTIFICATIONS = (
    Notification("sessions/entry_added", schema.EntryAdded, _TOLD | {"entry": SUMMARY | {"isFinished": False}}),
    Notification(
        "sessions/entry_updated", schema.EntryUpdated, _TOLD | {"entry": SUMMARY, "changes": ["body", "finished"]}
    ),
    Notification(
        "sessions/websocket_message_added",
        schema.WebSocketMessageAdded,
        _TOLD | {"entryId": ENTRY, "index": 0, "message": MESSAGE},
    ),
    Notification(
        "sessions/body_chunk",
        schema.BodyChunk,
        _TOLD | {"entryId": ENTRY, "side": "response", "offset": 0, "data": "PCFkb2N0eXBlIGh0bWw+"},
    ),
    Notification(
        "sessions/opened",
        schema.SessionOpened,
        {"subscriptionId": "1", "session": {"id": SESSION, "name": "2026-11-24 14:55:05"}},
    ),
    Notification(
        "sessions/closed",
        schema.SessionClosed,
        {"subscriptionId": "1", "session": {"id": SESSION, "name": "2026-11-24 14:55:05"}},
    ),
    Notification("sessions/lagged", schema.Lagged, _TOLD | {"after": ENTRY, "missed": 12}),
)
