"""The contract as models: what the methods take and what they answer, under their names on the wire.

Everything that leaves the endpoint is validated and serialised by these, and JSON Schema is generated from them.
Nothing here knows where a value comes from.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from pydantic.alias_generators import to_camel

Port = Annotated[int, Field(ge=0, le=0xFFFF)]
Milliseconds = Annotated[int, Field(ge=0)]
Bytes = Annotated[int, Field(ge=0)]


class Model(BaseModel):
    """The base of every model: strict, closed, immutable, camelCase on the wire."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        strict=True,
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        json_schema_serialization_defaults_required=True,
    )


class NetAddress(Model):
    """One end of a connection."""

    ip: str
    """The IP address: never a host name, without a zone; IPv4-mapped IPv6 is given as IPv4."""
    port: Port | None


class Request(Model):
    """The request as it went out, without its body."""

    method: str | None
    path: str | None
    """The origin-form of the request target with its query, as sent; null for CONNECT, which has none."""
    http_version: str | None
    """The version that the client spoke."""
    headers: list[tuple[str, str]]
    """In wire order and case; pseudo-header fields first, trailers last."""
    body_size: Bytes | None
    """Bytes of the body as transferred; null while unknown."""


class Response(Model):
    """The response as the server sent it, without its body."""

    http_version: str | None
    """The version that the server spoke."""
    status_code: Annotated[int, Field(ge=0, le=0xFFFF)] | None
    status_text: str | None
    """The reason phrase; null where the protocol has none."""
    headers: list[tuple[str, str]]
    """In wire order and case; `:status` first over HTTP/2 and HTTP/3, trailers last."""
    body_size: Bytes | None
    """Bytes of the body as transferred; null while unknown."""


class NamedU16(Model):
    """A code point of a TLS registry and its name."""

    value: Annotated[int, Field(ge=0, le=0xFFFF)]
    name: str


class Ja3(Model):
    """The JA3 fingerprint of a ClientHello."""

    string: str
    hash: str
    """MD5 of the string, in hexadecimal."""


class Ja4(Model):
    """The JA4 fingerprint of a ClientHello."""

    raw: str
    """JA4_r: sorted, not hashed."""
    hashed: str


class TlsSettings(Model):
    """The client's TLS connection; every field is null on a plain one."""

    connection_id: str | None
    tls_version: NamedU16 | None
    cipher_suite: NamedU16 | None
    ja3: Ja3 | None
    ja4: Ja4 | None


class Http2StreamRef(Model):
    """Where the entry stands on the client's HTTP/2 connection."""

    connection_id: str
    stream_id: Annotated[int, Field(ge=1, le=0x7FFFFFFF)]


class Timings(Model):
    """The phases of HAR 1.2 in whole milliseconds; null where one did not happen or was not observed."""

    started_at: str
    """When the entry began: RFC 3339, UTC, milliseconds."""
    blocked: Milliseconds | None = None
    """The request was ready, work on its connection had not begun."""
    dns: Milliseconds | None = None
    """Resolving the server's name."""
    connect: Milliseconds | None = None
    """TCP and TLS to the server; for the first request on the connection only."""
    send: Milliseconds | None = None
    """First to last byte of the request."""
    wait: Milliseconds | None = None
    """From the request's being with the server to the response's first byte."""
    receive: Milliseconds | None = None
    """First to last byte of the response."""
    ssl: Milliseconds | None = None
    """TLS to the server alone; part of `connect`."""


class ProcessInfo(Model):
    """The process of this machine that the client is."""

    pid: Annotated[int, Field(ge=0, le=0xFFFFFFFF)]
    name: str | None
    """The name of its executable."""


class SessionEntry(Model):
    """One HTTP transaction, from the moment its request headers arrived."""

    id: str
    """A ULID."""
    url: str
    """Absolute, with the host that the client asked for; a default port is left out."""
    client_addr: NetAddress | None
    remote_addr: NetAddress | None
    http_version: str
    """The version that the client spoke."""
    transaction_type: Literal["request", "push_promise"]
    request: Request
    response: Response | None
    """Null until response headers have arrived."""
    is_web_socket: bool
    tls: TlsSettings
    http2: Http2StreamRef | None
    """Null unless the client spoke HTTP/2."""
    timings: Timings
    process: ProcessInfo | None
    """Null where the client is not a process of this machine or it cannot be known."""


class Text(Model):
    """A text message."""

    type: Literal["text"]
    text: str


class Binary(Model):
    """A message of bytes, in base64."""

    type: Literal["binary", "ping", "pong", "unknown"]
    data: str


class Close(Model):
    """The end of one direction; code 1005 when none was sent, 1006 when the connection just ended."""

    type: Literal["close"]
    code: Annotated[int, Field(ge=0, le=0xFFFF)]
    reason: str


class WebSocketMessage(Model):
    """One WebSocket message, whole."""

    side: Literal["client", "server"]
    """Who sent it."""
    started_at: str | None
    ended_at: str | None
    payload: Annotated[Text | Binary | Close, Field(discriminator="type")]


class Session(Model):
    """One run of the proxy."""

    id: str
    """A ULID."""
    name: str


class SessionStatus(Model):
    """What is stored of a session, what is not, and what its store takes on the disk."""

    is_captured: bool
    """Whether the proxy runs and more may come."""
    is_stored: bool
    """False while the store cannot be written."""
    entries: int
    bytes: int
    """Of bodies as transferred and of WebSocket messages as JSON."""
    dropped: int
    """Entries that are missing or incomplete, because they could not be stored."""
    dropped_since: str | None
    """When the first of them was dropped."""
    dropped_until: str | None
    """When the last of them was dropped."""
    evicted_bytes: int
    """What was given up because the store would have become too large."""
    store_bytes: int
    """What the store takes on the disk, with all its sessions."""
    store_limit: int | None
    """What it may take; null: no limit."""


class EntrySummary(Model):
    """What a list shows of an entry."""

    id: str
    """A ULID."""
    method: str | None
    url: str
    status_code: Annotated[int, Field(ge=0, le=0xFFFF)] | None
    """Null until response headers have arrived."""
    started_at: str
    """When the entry began: RFC 3339, UTC, milliseconds."""
    duration: Milliseconds | None
    """From the entry's start to the end of the exchange; null until then."""
    request_body_size: Bytes | None
    """Bytes of the request's body as transferred; null while unknown."""
    response_body_size: Bytes | None
    """Bytes of the response's body as transferred; null while unknown."""
    mime_type: str | None
    """The media type of the response, lower case, without its parameters."""
    is_web_socket: bool
    is_finished: bool
    """True once nothing of the entry will change any more."""
    error: str | None
    """Why there is no complete response; null if there is one, or may be one yet."""


class EntryPage(Model):
    """Summaries in the order that was asked for, and where the next page begins."""

    entries: list[EntrySummary]
    next: str | None
    """The entry to pass as `after` for the next page; null if there is none."""


class NoParams(Model):
    """For methods without parameters."""


class SessionParams(Model):
    """Which session."""

    session_id: str
    """The session's id."""


class EntryParams(Model):
    """Which entry of which session."""

    session_id: str
    """The session's id."""
    entry_id: str
    """The entry's id."""


class BodyParams(Model):
    """Which entry's body, and how it is wanted."""

    session_id: str
    """The session's id."""
    entry_id: str
    """The entry's id."""
    encoding: Literal["text", "base64"]
    """`text`: in the charset of content-type, else UTF-8; `base64`: the bytes."""


class QueryParams(Model):
    """Which entries of a session, and how many at once."""

    session_id: str
    """The session's id."""
    filter: Annotated[str, Field(max_length=2000)] | None = None
    """An expression in mitmproxy's filter language, such as `~d example.com & ~c 404`; null: all entries."""
    after: str | None = None
    """The entry after which the page begins, in the order asked for; null: at the beginning."""
    limit: Annotated[int, Field(ge=1, le=1000)] = 100
    """How many entries a page has at the most."""
    order: Literal["oldest", "newest"] = "oldest"
    """Which entries come first, by their creation."""
    entry_ids: Annotated[list[str], Field(max_length=1000)] | None = None
    """Only these entries; null: all."""


type EventName = Literal["entry_added", "entry_updated", "websocket_message_added", "body_chunk", "opened", "closed"]


class SubscribeParams(Model):
    """What to be told of."""

    session_id: str | None = None
    """Only of this session; null: of every session of the endpoint."""
    events: list[EventName] | None = None
    """Which notifications to send, by their names without `sessions/`; null: all but `body_chunk`."""
    after: str | None = None
    """The last entry that is known, or the session's id for none: what has come and changed since is told first.

    Null: only what happens from now on.
    """


class UnsubscribeParams(Model):
    """Which subscription to end."""

    subscription_id: str
    """What `sessions/subscribe` has returned."""


type Change = Literal["request", "response", "body", "process", "finished"]


class Notice(Model):
    """The base of notifications: which subscription they are for."""

    subscription_id: str
    """What `sessions/subscribe` has returned."""


class EntryAdded(Notice):
    """An entry has begun. Every entry is announced exactly once to each subscription, in order of creation."""

    session_id: str
    """The session's id."""
    entry: EntrySummary
    """As it is now. Its end is told by a notification of its own."""


class EntryUpdated(Notice):
    """An entry that was added has changed. The last one of an entry, and only that, has `finished` in its changes."""

    session_id: str
    """The session's id."""
    entry: EntrySummary
    """The entry as it is now."""
    changes: list[Change]
    """What has changed: the request's head, the response's head, a body, the process that was found; `finished`:
    nothing will change any more. Of what was missed, all that there is."""


class WebSocketMessageAdded(Notice):
    """A WebSocket message is complete."""

    session_id: str
    """The session's id."""
    entry_id: str
    """The entry's id."""
    index: Annotated[int, Field(ge=0)]
    """Its place in the result of `sessions/get_websocket_messages`."""
    message: WebSocketMessage | None
    """Null if the message is longer than 256 KiB: then it is to be fetched."""


class BodyChunk(Notice):
    """Bytes of a body have arrived. Only for subscriptions that ask for it."""

    session_id: str
    """The session's id."""
    entry_id: str
    """The entry's id."""
    side: Literal["request", "response"]
    """Whose body it is."""
    offset: Annotated[int, Field(ge=0)]
    """Where the bytes stand in the body as transferred; 0 begins it anew."""
    data: str
    """The bytes in base64, as transferred."""


class SessionOpened(Notice):
    """A session has begun."""

    session: Session
    """Which session."""


class SessionClosed(Notice):
    """A session has ended."""

    session: Session
    """Which session."""


class Lagged(Notice):
    """The client has not kept up, and the subscription has ended: this is its last notification."""

    session_id: str
    """The session's id."""
    after: str
    """What to pass to `sessions/subscribe` as `after` to be told of what was missed."""
    missed: Annotated[int, Field(ge=1)]
    """How many notifications were not sent."""


def _renderer(shape: Any) -> Callable[[Any], bytes]:
    adapter: TypeAdapter[Any] = TypeAdapter(shape)

    def render(value: Any) -> bytes:
        return adapter.dump_json(adapter.validate_python(value), by_alias=True)

    return render


render_entry = _renderer(SessionEntry)
"""Return the JSON of a `SessionEntry`, or of a dict of its fields. Raises `pydantic.ValidationError`."""
render_message = _renderer(WebSocketMessage)
"""Return the JSON of a `WebSocketMessage`, or of a dict of its fields. Raises `pydantic.ValidationError`."""
render_sessions = _renderer(list[Session])
"""Return the JSON of a list of sessions. Raises `pydantic.ValidationError`."""
render_status = _renderer(SessionStatus)
"""Return the JSON of a `SessionStatus`. Raises `pydantic.ValidationError`."""
render_summary = _renderer(EntrySummary)
"""Return the JSON of an `EntrySummary`. Raises `pydantic.ValidationError`."""
