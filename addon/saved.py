"""What mitmproxy does not keep itself, and so goes into `flow.metadata`: a saved capture replays to the same entries.

Plain values only, since that is what a `.flow` file can hold.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NotRequired, TypedDict

import msgspec
from mitmproxy.flow import Flow
from ulid import ULID

from addon.ids import new_id
from rpc.records import MessageType, Side

KEY = "entries"
VERSION: Literal[1] = 1


class SavedTls(TypedDict):
    """A client's TLS connection: see `rpc.records.Tls`."""

    id: str
    client_hello: bytes | None
    version: str | None
    cipher: str | None
    transport: Literal["tcp", "quic", "dtls"]


class SavedClient(TypedDict):
    """What all entries on one client connection share; `process` is missing while it is not known."""

    tls: SavedTls | None
    http2: str | None
    process: NotRequired[tuple[int, str | None] | None]


class Saved(TypedDict):
    """What one flow keeps. Times are offsets in seconds from `started`, which is Unix time.

    `pushed` is there where a server's promise was the request.
    """

    version: Literal[1]
    id: str
    started: float
    client: SavedClient
    stream: int | None
    pseudo: tuple[bytes, ...] | None
    remote: tuple[str, int] | None
    request_start: float | None
    released: float | None
    request_end: float | None
    sent: float | None
    response_start: float | None
    response_end: float | None
    failed: float | None
    connecting: tuple[float | None, ...] | None
    pushed: NotRequired[bool]
    streamed: NotRequired[dict[Side, int]]
    """The sizes of bodies that passed as they came: mitmproxy does not save them."""
    frames: NotRequired[list[bytes]]
    """Each is a `SavedFrame` as msgpack: a long-lived WebSocket has very many."""


def begun(started: float, client: SavedClient) -> Saved:
    """Return what is kept of a flow of which nothing is known but when it began, and on which connection."""
    return Saved(
        version=VERSION,
        id=new_id(),
        started=started,
        client=client,
        stream=None,
        pseudo=None,
        remote=None,
        request_start=None,
        released=None,
        request_end=None,
        sent=None,
        response_start=None,
        response_end=None,
        failed=None,
        connecting=None,
    )


class SavedFrame(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A WebSocket message or control frame: see `rpc.records.MessageReceived`.

    `data` is null for a text or binary message whose payload is the one that mitmproxy itself saves.
    """

    type: MessageType
    from_client: bool
    started: float | None
    ended: float | None
    data: bytes | None = None
    code: int | None = None

    @property
    def is_message(self) -> bool:
        """Whether mitmproxy saves it too."""
        return self.type in {"text", "binary"}


encode_frame: Callable[[SavedFrame], bytes] = msgspec.msgpack.Encoder().encode
_decode_frame: Callable[[bytes], SavedFrame] = msgspec.msgpack.Decoder(SavedFrame).decode


def frames(saved: Saved) -> list[SavedFrame]:
    """Return what is saved of a WebSocket, in order; nothing if that cannot be trusted."""
    try:
        return [_decode_frame(frame) for frame in saved.get("frames", ())]
    except msgspec.DecodeError:
        return []


def _check_ids(saved: Saved) -> None:
    tls, http2 = saved["client"]["tls"], saved["client"]["http2"]
    for text in (saved["id"], tls and tls["id"], http2):
        if text and str(ULID.from_str(text)) != text:
            raise ValueError(text)


def read(flow: Flow) -> Saved | None:
    """Return what a loaded flow has kept; null if it has nothing, or nothing that this version can trust."""
    try:
        saved = msgspec.convert(flow.metadata.get(KEY), Saved, builtin_types=(bytes,))
        _check_ids(saved)
    except (msgspec.ValidationError, ValueError):
        return None
    return saved
