"""mitmproxy's filter expressions, applied to entries: mitmproxy's own parser and matching, on what the store knows.

An entry is shown to an expression as a flow of which each part is read only when it is looked at. This file imports
mitmproxy: it is loaded when the first expression is used.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import msgspec
from mitmproxy import flowfilter, http

from rpc.codings import CodingError, codings_of, undone
from rpc.records import Side
from rpc.store import Store
from rpc.summary_table import Row

MAX_SEARCHED = 4 * 1024 * 1024
"""Bytes of a body, and of a WebSocket's messages, that an expression looks at."""

NOT_RECORDED = (
    flowfilter.FMarked,
    flowfilter.FMarker,
    flowfilter.FMeta,
    flowfilter.FComment,
    flowfilter.FReplay,
    flowfilter.FReplayClient,
    flowfilter.FReplayServer,
)
"""What can be asked of mitmproxy's flows alone."""

DEFAULT_PORTS = {"http": 80, "https": 443}


class FilterError(Exception):
    """The expression cannot be used; the sentence says why, and does not repeat it."""


class _Summary(msgspec.Struct, gc=False):
    id: str
    method: str | None
    url: str
    statusCode: int | None  # noqa: N815 - its name in the stored JSON
    isWebSocket: bool  # noqa: N815
    error: str | None
    responseBodySize: int | None  # noqa: N815
    requestBodySize: int | None  # noqa: N815


class _Address(msgspec.Struct):
    ip: str
    port: int | None


class _Head(msgspec.Struct):
    headers: list[tuple[str, str]]


class _Entry(msgspec.Struct):
    clientAddr: _Address | None  # noqa: N815
    request: _Head
    response: _Head | None


class _Payload(msgspec.Struct):
    type: str
    text: str = ""
    data: str = ""


class _Message(msgspec.Struct):
    side: str
    payload: _Payload


_decode_summary = msgspec.json.Decoder(_Summary).decode
_decode_entry = msgspec.json.Decoder(_Entry).decode
_decode_messages = msgspec.json.Decoder(list[_Message]).decode


class Filter:
    """An expression, and a store's session whose entries it is applied to. Raises `FilterError`."""

    def __init__(self, expression: str, store: Store, session_id: str) -> None:
        self._fits = _parse(expression)
        self._looks = _Looks(store, session_id)
        self._flow = _Flow(self._looks)

    def fitting(self, rows: list[Row]) -> Iterator[tuple[Row, bool]]:
        """Yield each entry, and whether it fits."""
        self._looks.at_page(rows)
        for row in rows:
            self._looks.at(row)
            self._flow.look()
            yield row, bool(self._fits(self._flow))


def _parse(expression: str) -> flowfilter.TFilter:
    try:
        fits = flowfilter.parse(expression)
    except (ValueError, RecursionError) as error:
        raise FilterError("is no valid expression of mitmproxy's filter language") from error
    for token in _tokens(fits):
        if isinstance(token, NOT_RECORDED):
            message = f"has ~{token.code}, of which entries know nothing"
            raise FilterError(message)
    return fits


def _tokens(token: Any) -> Iterator[Any]:
    yield token
    for inner in getattr(token, "lst", ()):
        yield from _tokens(inner)
    if isinstance(token, flowfilter.FNot):
        yield from _tokens(token.itm)


class _Looks:
    """What there is to read of the entry that is looked at, read when it is asked for.

    Whole entries are read by the page: an expression that looks at one is likely to look at all.
    """

    summary: _Summary

    def __init__(self, store: Store, session_id: str) -> None:
        self._store = store
        self._session_id = session_id
        self._numbers: list[int] = []
        self._jsons: dict[int, bytes] = {}
        self._row: Row | None = None
        self._entry: _Entry | None = None

    def at_page(self, rows: list[Row]) -> None:
        """Begin to look at these entries."""
        self._numbers = [row.number for row in rows]
        self._jsons = {}

    def at(self, row: Row) -> None:
        """Look at this entry of the page."""
        self._row = row
        self._entry = None
        self.summary = _decode_summary(row.summary.json)

    @property
    def row(self) -> Row:
        assert self._row is not None
        return self._row

    @property
    def entry(self) -> _Entry:
        if self._entry is None:
            if not self._jsons:
                self._jsons = self._store.entry_jsons(self._numbers)
            self._entry = _decode_entry(self._jsons[self.row.number])
        return self._entry

    def headers(self, side: Side) -> list[tuple[str, str]]:
        head = self.entry.request if side == "request" else self.entry.response
        return head.headers if head else []

    def content_type(self, side: Side) -> str | None:
        return self.row.summary.request_type if side == "request" else self.row.summary.response_type

    def content(self, side: Side) -> bytes | None:
        """Return the beginning of a body with its content encoding undone, or as transferred if that fails."""
        stored = self._store.body(self._session_id, self.summary.id, side)
        if stored is None or stored.data is None:
            return None
        summary = self.summary
        size = summary.requestBodySize if side == "request" else summary.responseBodySize
        encodings = [value for name, value in self.headers(side) if name.lower() == "content-encoding"]
        codings = codings_of(", ".join(encodings) if encodings else None)
        try:
            return _beginning(undone(stored.data.pieces(), codings, complete=size is not None))
        except CodingError:
            return _beginning(stored.data.pieces())

    def messages(self) -> list[_Message]:
        data = _beginning(self._store.messages(self._session_id, self.summary.id) or ())
        return _decode_messages(b"[%b]" % data[: data.rfind(b"}}") + 2])


def _beginning(pieces: Iterable[bytes]) -> bytes:
    read = bytearray()
    for piece in pieces:
        read += piece
        if len(read) >= MAX_SEARCHED:
            break
    return bytes(read[:MAX_SEARCHED])


class _Headers:
    """Header fields, as they go over the wire, or only the one that is looked up by its name."""

    def __init__(self, looks: _Looks, side: Side) -> None:
        self._looks = looks
        self._side: Side = side

    @property
    def fields(self) -> tuple[tuple[bytes, bytes], ...]:
        content_type = self._looks.content_type(self._side)
        return () if content_type is None else ((b"content-type", content_type.encode()),)

    def __bytes__(self) -> bytes:
        fields = self._looks.headers(self._side)
        return "".join(f"{name}: {value}\r\n" for name, value in fields if not name.startswith(":")).encode()


class _Part:
    """A request or a response."""

    def __init__(self, looks: _Looks, side: Side) -> None:
        self.headers = _Headers(looks, side)
        self._looks = looks
        self._side: Side = side

    def get_content(self, *, strict: bool) -> bytes | None:
        assert not strict
        return self._looks.content(self._side)


class _RequestData:
    def __init__(self, looks: _Looks) -> None:
        self._looks = looks

    @property
    def method(self) -> bytes:
        return (self._looks.summary.method or "").encode()


class _Request(_Part):
    def __init__(self, looks: _Looks) -> None:
        super().__init__(looks, "request")
        self.data = _RequestData(looks)

    @property
    def pretty_url(self) -> str:
        return self._looks.summary.url

    @property
    def host(self) -> str:
        return _server(self._looks.summary.url)[0]

    @property
    def pretty_host(self) -> str:
        return self.host


class _Response(_Part):
    def __init__(self, looks: _Looks) -> None:
        super().__init__(looks, "response")

    @property
    def status_code(self) -> int | None:
        return self._looks.summary.statusCode


class _WebSocketMessage(NamedTuple):
    from_client: bool
    content: bytes


class _WebSocket:
    def __init__(self, looks: _Looks) -> None:
        self._looks = looks

    @property
    def messages(self) -> list[_WebSocketMessage]:
        """The messages that mitmproxy itself would keep: no control frames."""
        return [
            _WebSocketMessage(message.side == "client", _content(message.payload))
            for message in self._looks.messages()
            if message.payload.type in {"text", "binary"}
        ]


def _content(payload: _Payload) -> bytes:
    return payload.text.encode() if payload.type == "text" else base64.b64decode(payload.data)


class _Client:
    def __init__(self, looks: _Looks) -> None:
        self._looks = looks

    @property
    def peername(self) -> tuple[str, int | None] | None:
        address = self._looks.entry.clientAddr
        return None if address is None else (address.ip, address.port)


class _Server:
    def __init__(self, looks: _Looks) -> None:
        self._looks = looks

    @property
    def address(self) -> tuple[str, int | None]:
        return _server(self._looks.summary.url)


@lru_cache(maxsize=1024)
def _server(url: str) -> tuple[str, int | None]:
    """Return host and port as the client asked for them, which is what mitmproxy compares."""
    parsed = urlsplit(url)
    return parsed.hostname or "", parsed.port or DEFAULT_PORTS.get(parsed.scheme)


class _Flow(http.HTTPFlow):
    """An entry, as expressions see it: they ask whether it is an HTTP flow, and look at what follows.

    Nothing of a live flow is needed, so that 100,000 entries can be shown in a second.
    """

    def __init__(self, looks: _Looks) -> None:
        self._response = _Response(looks)
        self._websocket = _WebSocket(looks)
        self._looks = looks
        self._show(request=_Request(looks), client_conn=_Client(looks), server_conn=_Server(looks))

    def look(self) -> None:
        """Show the entry that is looked at now."""
        summary = self._looks.summary
        self._show(
            error=summary.error,
            response=None if summary.statusCode is None else self._response,
            websocket=self._websocket if summary.isWebSocket else None,
        )

    def _show(self, **looks: object) -> None:
        self.__dict__.update(looks)
