"""What travels through the pipe between the proxy and its child process, both ways, and how it is framed.

This file is all that the two processes share: it imports neither mitmproxy nor anything else of this project.
A frame is four bytes of length (big-endian) and that many bytes of msgpack; a large piece of a body follows its frame
as it is, after a length of its own. Times are seconds: `started` is Unix time, every other one is an offset from it on
a monotonic clock. Header fields, methods, paths and reasons are the bytes that mitmproxy holds: reading them as text is
the child's work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import msgspec

type Address = tuple[str, int]
type Fields = tuple[tuple[bytes, bytes], ...]
type Side = Literal["request", "response"]
type MessageType = Literal["text", "binary", "close", "ping", "pong", "unknown"]

CHUNK_SIZE = 256 * 1024
"""Bytes of a body that one record carries at the most; a longer body travels as several `BodyChunk` records."""

LENGTH_BYTES = 4

LOCAL = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104
"""What reaches this machine itself where every address of it is listened on."""


class Record(msgspec.Struct, frozen=True, array_like=True, tag=True, tag_field="record", gc=False):
    """The base of everything that travels."""


class Tls(Record, frozen=True):
    """The TLS connection of a client: its id, the ClientHello from its type byte on, and what was negotiated.

    `version` and `cipher` are the names that mitmproxy gives; `transport` is what carries the handshake.
    """

    id: str
    client_hello: bytes | None
    version: str | None
    cipher: str | None
    transport: Literal["tcp", "quic", "dtls"]


class Process(Record, frozen=True):
    """The process that owns a client's socket: its id and the name of its executable, where that can be known."""

    pid: int
    name: str | None


class Connecting(Record, frozen=True):
    """How the connection to the server was made, each step as an offset, or null where it was not seen to happen.

    `queued`: the proxy decided to connect; `opened`: its turn came; `resolving`, `resolved`: the host name's look-up;
    `connected`: TCP is up; `securing`, `secured`: the TLS handshake, with an upstream proxy if there is one;
    `tunnelling`, `tunnelled`: that is asked for a tunnel; `securing_inside`, `secured_inside`: TLS through the tunnel.
    A TLS handshake that fails ends too.
    """

    queued: float | None = None
    opened: float | None = None
    resolving: float | None = None
    resolved: float | None = None
    connected: float | None = None
    securing: float | None = None
    secured: float | None = None
    tunnelling: float | None = None
    tunnelled: float | None = None
    securing_inside: float | None = None
    secured_inside: float | None = None


class RequestHead(Record, frozen=True):
    """A request without its body. `pseudo` names HTTP/2's pseudo-header fields in the client's order, else null."""

    method: bytes
    scheme: bytes
    host: str
    port: int
    authority: bytes
    path: bytes
    http_version: bytes
    fields: Fields
    pseudo: tuple[bytes, ...] | None


class ResponseHead(Record, frozen=True):
    """A response without its body."""

    status_code: int
    reason: bytes
    http_version: bytes
    fields: Fields


class SessionOpened(Record, frozen=True):
    """A session begins: its id (a ULID), name and Unix time."""

    id: str
    name: str
    started: float


class Limits(Record, frozen=True):
    """What the endpoint's clients may take, each by itself; only `connections` is of all of them.

    `connections`: clients at a time. `requests`: messages of one that wait for their turn; it is not read from beyond.
    `batch`: requests in one message. `depth`: arrays and objects in a message, one in the other. `message`: bytes of a
    message. `unread`: characters of notifications that wait for a client. `open_seconds`: for the handshakes.
    `idle_seconds`: without a byte to or from a client, which answers pings meanwhile.
    """

    connections: int = 64
    requests: int = 16
    batch: int = 1000
    depth: int = 64
    message: int = 1024 * 1024
    unread: int = 16 * 1024 * 1024
    open_seconds: int = 10
    idle_seconds: int = 120


class Access(Record, frozen=True):
    """Who may come in beside those with the token, and how.

    `origins`: whose pages may connect. `certificate` and `key`: paths of PEM files, for TLS; null: none.
    `run_file`: where others of the same user find the endpoint; null: nowhere.
    """

    origins: tuple[str, ...] = ()
    certificate: str | None = None
    key: str | None = None
    run_file: str | None = None


class Configuration(Record, frozen=True):
    """The first frame of a pipe: how the child is to serve.

    `store` is the path of the store, which may take `max_disk` bytes (null: all there are). If `is_temporary`, it lies
    in a private folder of its own, which the child makes, and removes when the pipe ends.
    """

    host: str
    port: int
    token: str
    store: str
    session: SessionOpened
    is_temporary: bool = False
    max_disk: int | None = None
    access: Access = Access()
    limits: Limits = Limits()

    def url(self, port: int) -> str:
        """Return where clients of this machine find the endpoint that listens on a port."""
        scheme = "ws" if self.access.certificate is None else "wss"
        host = LOCAL.get(self.host, self.host)
        return f"{scheme}://[{host}]:{port}/" if ":" in host else f"{scheme}://{host}:{port}/"


class ListenerChanged(Record, frozen=True):
    """The proxy listens on this port from now on; null: on none."""

    port: int | None


class ClientConnection(Record, frozen=True):
    """A client's connection, or what has changed about it since the last record with this `key`.

    `find_process` asks the child to find the owner of the client's socket; else `process` is all there is to know.
    `is_urgent`: flows wait for the answer before they are written, so that it should be told at once.
    """

    key: int
    peer: Address | None
    local: Address | None
    transport: Literal["tcp", "udp"]
    tls: Tls | None
    http2: str | None
    process: Process | None
    find_process: bool
    is_urgent: bool


class ClientDisconnected(Record, frozen=True):
    """The client's connection has ended."""

    key: int


class EntryStarted(Record, frozen=True):
    """Request headers have arrived on the connection `connection`.

    `request_start` is 0, unless `connecting` tells of a server connection that was made before the request came:
    then the entry starts with that. `stream` is the HTTP/2 stream id. `pushed`: a server's promise was the request.
    """

    entry: str
    connection: int
    started: float
    request_start: float | None
    connecting: Connecting | None
    head: RequestHead
    stream: int | None
    pushed: bool = False


class RequestChanged(Record, frozen=True):
    """The request's head has been changed since it was last told."""

    entry: str
    head: RequestHead


class BodyChunk(Record, frozen=True):
    """Bytes of a body as transferred; `offset` 0 starts the body anew.

    `behind` is 0, or how many bytes follow the frame that this record is the last of: then they are the data. So a
    large piece is neither copied nor encoded on its way.
    """

    entry: str
    side: Side
    offset: int
    data: bytes
    behind: int = 0


class RequestFinished(Record, frozen=True):
    """The request is complete. `body` is the body if it fits one record; `size` is null if the body was not kept.

    `released`: until then its head was held, and what followed was not read.
    """

    entry: str
    at: float | None
    body: bytes | None
    size: int | None
    trailers: Fields
    released: float | None = None


class ResponseStarted(Record, frozen=True):
    """Response headers have arrived from `remote`, over a connection that was made as `connecting` tells.

    `connecting` is null for a connection that an earlier entry accounts for. `sent`: the request had its connection,
    and was sent on; null if it never was, and an addon has answered.
    """

    entry: str
    at: float | None
    head: ResponseHead
    remote: Address | None
    connecting: Connecting | None
    sent: float | None = None


class ResponseFinished(Record, frozen=True):
    """The response is complete. A `head` that differs from the one first told comes along; `body` as in a request.

    `ended`: nothing more will come for this entry.
    """

    entry: str
    at: float | None
    head: ResponseHead | None
    body: bytes | None
    size: int | None
    trailers: Fields
    websocket: bool
    ended: bool


class EntryFailed(Record, frozen=True):
    """The transaction ended without a complete response; nothing more will come for this entry.

    `sent` and `connecting` are as in `ResponseStarted`.
    """

    entry: str
    at: float | None
    message: str
    remote: Address | None
    connecting: Connecting | None
    sent: float | None = None


class MessageReceived(Record, frozen=True):
    """A WebSocket message. Times are Unix times, null where not seen.

    `data` is the payload; of a close it is the reason, and `code` its code. If there is `more` of the payload than one
    record carries, it comes in the `MessageContinued` records that follow, before any other message of this entry.
    """

    entry: str
    from_client: bool
    type: MessageType
    data: bytes
    started: float | None
    ended: float | None
    code: int | None = None
    more: bool = False


class MessageContinued(Record, frozen=True):
    """The next bytes of a long WebSocket message's payload; `more` of it follows, or not.

    Each piece can be read by itself: text is never cut within a character, nor binary within three bytes, which are
    four characters of base64.
    """

    entry: str
    type: Literal["text", "binary"]
    data: bytes
    more: bool


class EntryEnded(Record, frozen=True):
    """Nothing more will come for this entry."""

    entry: str


class Gap(Record, frozen=True):
    """Records were dropped, between these Unix times, because the child did not keep up.

    `missed` entries are missing from their start; of those in `cut` nothing more will come. `connections` are the keys
    of the client connections that are open now; one that matters is told anew.
    """

    since: float
    until: float
    missed: int
    cut: tuple[str, ...]
    connections: tuple[int, ...]


type Captured = (
    Configuration
    | SessionOpened
    | ListenerChanged
    | ClientConnection
    | ClientDisconnected
    | EntryStarted
    | RequestChanged
    | BodyChunk
    | RequestFinished
    | ResponseStarted
    | ResponseFinished
    | EntryFailed
    | MessageReceived
    | MessageContinued
    | EntryEnded
    | Gap
)


class Frame(Record, frozen=True):
    """What the proxy writes at once: its number, one higher each time from 1 on, and the records in order."""

    number: int
    records: list[Captured]


class Ready(Record, frozen=True):
    """The endpoint listens on this port."""

    port: int


class Failed(Record, frozen=True):
    """The child cannot serve; one sentence says why, and it ends."""

    message: str


class Stored(Record, frozen=True):
    """Every frame up to this number is safely stored."""

    number: int


class ProcessFound(Record, frozen=True):
    """The answer for a client connection that asked for its process; null: none, or it cannot be known."""

    key: int
    process: Process | None


class Logged(Record, frozen=True):
    """A line for the proxy's log, with the level of `logging`."""

    level: int
    message: str


type Reply = Ready | Failed | Stored | ProcessFound | Logged

_encode = msgspec.msgpack.Encoder().encode
decode_frame: Callable[[bytes], Frame] = msgspec.msgpack.Decoder(Frame).decode
"""Decode the payload of a frame from the proxy. Raises `msgspec.DecodeError` or `UnicodeDecodeError` otherwise."""
decode_reply: Callable[[bytes], Reply] = msgspec.msgpack.Decoder(Reply).decode
"""Decode the payload of a frame from the child. Raises `msgspec.DecodeError` or `UnicodeDecodeError` otherwise."""


def encode(message: Frame | Reply) -> bytes:
    """Return the message as a frame: its length, then its msgpack."""
    payload = _encode(message)
    return len(payload).to_bytes(LENGTH_BYTES) + payload


def encode_with_data(frame: Frame, data: Sequence[bytes | memoryview]) -> tuple[bytes | memoryview, ...]:
    """Return what to write, in this order, for a frame and the data that its last record says is behind it."""
    return encode(frame), sum(map(len, data)).to_bytes(LENGTH_BYTES), *data


def joined(frame: Frame, payloads: Iterator[bytes]) -> Frame | None:
    """Return the frame with the data that is behind it, which is the next payload; null if the pipe ends before it."""
    last = frame.records[-1] if frame.records else None
    if not isinstance(last, BodyChunk) or not last.behind:
        return frame
    if (data := next(payloads, None)) is None:
        return None
    return Frame(frame.number, [*frame.records[:-1], BodyChunk(last.entry, last.side, last.offset, data)])


def read_payloads(read: Callable[[int], bytes]) -> Iterator[bytes]:
    """Yield the payload of each frame from a blocking `read(n)` that returns fewer bytes only at the pipe's end.

    A frame that the end cuts off is dropped: its writer is gone.
    """
    while len(length := read(LENGTH_BYTES)) == LENGTH_BYTES:
        size = int.from_bytes(length)
        payload = read(size)
        if len(payload) < size:
            return
        yield payload
