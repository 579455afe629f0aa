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


class NoParams(Model):
    """For methods without parameters."""


class SessionParams(Model):
    """Which session."""

    session_id: str


class EntryParams(Model):
    """Which entry of which session."""

    session_id: str
    entry_id: str


class BodyParams(Model):
    """Which entry's body, and how it is wanted."""

    session_id: str
    entry_id: str
    encoding: Literal["text", "base64"]
    """`text`: in the charset of content-type, else UTF-8; `base64`: the bytes."""


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
