"""One entry: what is known of it so far, how each record adds to that, and how it is rendered.

The state can be written down (it is a struct) so that an unfinished entry outlives its process. No storage here.
"""

from __future__ import annotations

from functools import lru_cache

import msgspec

from rpc import records
from rpc.fingerprints import cached_fingerprints
from rpc.schema import (
    Http2StreamRef,
    Ja3,
    Ja4,
    NamedU16,
    ProcessInfo,
    Request,
    Response,
    SessionEntry,
    Timings,
    TlsSettings,
    render_entry,
)
from rpc.timings import Instants, phases
from rpc.tls_names import cipher_suite, tls_version
from rpc.urls import absolute_url
from rpc.wire import (
    MULTIPLEXED,
    http_version,
    instant,
    net_address,
    request_headers,
    response_headers,
    text,
    without_surrogates,
)

MAX_STATUS_CODE = 0xFFFF
"""What the contract can carry; a server can send any number."""
MAX_STREAM_ID = 0x7FFFFFFF
MAX_PID = 0xFFFFFFFF

NO_TLS = TlsSettings(connection_id=None, tls_version=None, cipher_suite=None, ja3=None, ja4=None)


class Owner(msgspec.Struct, array_like=True):
    """Who owns a client's socket; not `known` while the answer is awaited."""

    process: records.Process | None
    known: bool


class Connection(msgspec.Struct, array_like=True):
    """A client's connection as the entries on it see it; `key` is the proxy's."""

    peer: records.Address | None
    tls: records.Tls | None
    http2: str | None
    owner: Owner
    key: int = 0


class Body(msgspec.Struct, array_like=True):
    """What is known of a body: bytes kept so far (null: not kept), its size when complete, the trailer fields.

    `is_lost`: bytes of it could not be stored, so that what follows them is not kept either.
    """

    kept: int | None
    size: int | None = None
    trailers: records.Fields = ()
    is_lost: bool = False


class Entry(msgspec.Struct, array_like=True):
    """The state of one entry. It is stored: new fields come last and have defaults."""

    id: str
    started: float
    connection: Connection
    request: records.RequestHead
    stream: int | None
    instants: Instants
    request_body: Body
    response: records.ResponseHead | None = None
    response_body: Body = msgspec.field(default_factory=lambda: Body(None))
    remote: records.Address | None = None
    websocket: bool = False
    ended: bool = False
    message_count: int = 0
    """How many rows of WebSocket messages are stored."""
    long_message: int | None = None
    """The first row of a message of which more is to come."""
    pushed: bool = False
    whole_messages: int = 0
    """How many WebSocket messages are complete."""
    error: str | None = None
    """Why there is no complete response."""

    @property
    def is_finished(self) -> bool:
        """Whether nothing will change any more."""
        return self.ended and self.connection.owner.known


def started(record: records.EntryStarted, connection: Connection) -> Entry:
    """Return the entry that begins with this record."""
    return Entry(
        id=record.entry,
        started=record.started,
        connection=connection,
        request=record.head,
        stream=record.stream,
        instants=Instants(request_start=record.request_start, connecting=record.connecting),
        request_body=Body(kept=0),
        pushed=record.pushed,
    )


def _named(value: tuple[int, str] | None) -> NamedU16 | None:
    return NamedU16(value=value[0], name=value[1]) if value else None


def _fingerprints(tls: records.Tls) -> tuple[Ja3 | None, Ja4 | None]:
    if tls.client_hello is None or (found := cached_fingerprints(tls.client_hello, tls.transport)) is None:
        return None, None
    ja3, ja4 = found
    return Ja3(string=ja3.string, hash=ja3.hash), Ja4(raw=ja4.raw, hashed=ja4.hashed)


@lru_cache(maxsize=1024)
def _tls_settings(tls: records.Tls | None) -> TlsSettings:
    if tls is None:
        return NO_TLS
    ja3, ja4 = _fingerprints(tls)
    return TlsSettings(
        connection_id=tls.id,
        tls_version=_named(tls_version(tls.version) if tls.version else None),
        cipher_suite=_named(cipher_suite(tls.cipher) if tls.cipher else None),
        ja3=ja3,
        ja4=ja4,
    )


def _request(entry: Entry) -> Request:
    head, body = entry.request, entry.request_body
    return Request(
        method=text(head.method),
        path=text(head.path) or None,
        http_version=http_version(head.http_version),
        headers=request_headers(head, body.trailers),
        body_size=body.size,
    )


def _response(entry: Entry) -> Response | None:
    head, body = entry.response, entry.response_body
    if head is None:
        return None
    version = http_version(head.http_version)
    return Response(
        http_version=version,
        status_code=head.status_code if 0 <= head.status_code <= MAX_STATUS_CODE else None,
        status_text=None if version in MULTIPLEXED else text(head.reason),
        headers=response_headers(head, body.trailers),
        body_size=body.size,
    )


def _http2(entry: Entry, version: str) -> Http2StreamRef | None:
    connection_id = entry.connection.http2
    if version != "HTTP/2" or connection_id is None or entry.stream is None:
        return None
    if not 0 < entry.stream <= MAX_STREAM_ID:
        return None
    return Http2StreamRef(connection_id=connection_id, stream_id=entry.stream)


@lru_cache(maxsize=1024)
def _process(process: records.Process | None) -> ProcessInfo | None:
    if process is None or not 0 <= process.pid <= MAX_PID:
        return None
    return ProcessInfo(pid=process.pid, name=None if process.name is None else without_surrogates(process.name))


def as_session_entry(entry: Entry) -> SessionEntry:
    """Return the entry in the contract's form."""
    version = http_version(entry.request.http_version)
    return SessionEntry(
        id=entry.id,
        url=absolute_url(entry.request),
        client_addr=net_address(entry.connection.peer),
        remote_addr=net_address(entry.remote),
        http_version=version,
        transaction_type="push_promise" if entry.pushed and version in MULTIPLEXED else "request",
        request=_request(entry),
        response=_response(entry),
        is_web_socket=entry.websocket,
        tls=_tls_settings(entry.connection.tls),
        http2=_http2(entry, version),
        timings=Timings(started_at=instant(entry.started), **phases(entry.instants)),
        process=_process(entry.connection.owner.process),
    )


def render(entry: Entry) -> bytes:
    """Return the entry's JSON."""
    return render_entry(as_session_entry(entry))
