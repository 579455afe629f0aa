"""The methods of the API: each takes its validated parameters and returns its result as JSON text, or in pieces."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator
from itertools import chain
from typing import NamedTuple

import msgspec

from rpc.bodies import Body, at_once, in_pieces
from rpc.charsets import charset_of
from rpc.codings import codings_of
from rpc.jsonrpc import Method, Text
from rpc.query import query
from rpc.recording import Recording
from rpc.records import Side
from rpc.schema import (
    BodyParams,
    EntryParams,
    NoParams,
    QueryParams,
    SessionParams,
    SessionStatus,
    render_sessions,
    render_status,
)
from rpc.store import Store, StoredBody
from rpc.wire import instant

NULL = "null"


class _Message(msgspec.Struct):
    headers: list[tuple[str, str]]
    bodySize: int | None  # noqa: N815 - its name in the stored JSON


class _Messages(msgspec.Struct):
    request: _Message
    response: _Message | None
    isWebSocket: bool = False  # noqa: N815 - its name in the stored JSON


_decode_messages = msgspec.json.Decoder(_Messages).decode
_encode = msgspec.json.encode


def _json(value: object) -> str:
    return _encode(value).decode()


def _field(headers: Iterable[tuple[str, str]], name: str) -> str | None:
    """Return a field's value; several fields of one name are one list (RFC 9110 section 5.3)."""
    values = [value for field, value in headers if field.lower() == name]
    return ", ".join(values) if values else None


class Methods(NamedTuple):
    """The API over a store, and over the session that is being captured, if there is one."""

    store: Store
    recording: Recording | None

    def all(self) -> list[Method]:
        """Return every method of the API."""
        return [
            Method("sessions/list", NoParams, self.list_sessions),
            Method("sessions/get_entry_ids", SessionParams, self.get_entry_ids),
            Method("sessions/get_listener_port", SessionParams, self.get_listener_port),
            Method("sessions/get_status", SessionParams, self.get_status),
            Method("sessions/query", QueryParams, self.query),
            Method("sessions/get_entry", EntryParams, self.get_entry),
            Method("sessions/get_request_body", BodyParams, self._body_of("request")),
            Method("sessions/get_response_body", BodyParams, self._body_of("response")),
            Method("sessions/get_websocket_messages", EntryParams, self.get_websocket_messages),
        ]

    def list_sessions(self, _: NoParams) -> str:
        """Return `[{id, name}]`, the oldest first."""
        return render_sessions([{"id": id_, "name": name} for id_, name in self.store.sessions()]).decode()

    async def get_entry_ids(self, params: SessionParams) -> Text:
        """Return the ids of a session's entries in order of creation, or null."""
        self._flush()
        if (pages := self.store.entry_ids(params.session_id)) is None:
            return NULL
        first, second = next(pages, []), next(pages, None)
        return _json(first) if second is None else _id_array(chain((first, second), pages))

    def get_status(self, params: SessionParams) -> str:
        """Return what is stored of a session and what is not, or null."""
        self._flush()
        if (status := self.store.status(params.session_id)) is None:
            return NULL
        lost = self.recording.trouble if self._is_captured(params.session_id) and self.recording else None
        size = self.store.size()
        since = status.dropped_since or (lost and lost.since)
        until = (lost and lost.until) or status.dropped_until
        return render_status(
            SessionStatus(
                is_captured=lost is not None,
                is_stored=lost is None or lost.is_over,
                entries=status.entries,
                bytes=status.bytes,
                dropped=status.dropped + (lost.dropped if lost else 0),
                dropped_since=instant(since) if since else None,
                dropped_until=instant(until) if until else None,
                evicted_bytes=status.evicted,
                store_bytes=size.bytes,
                store_limit=size.limit,
            )
        ).decode()

    def get_listener_port(self, params: SessionParams) -> str:
        """Return the proxy's port; null for a session that is not being captured now."""
        if self.recording is None or not self._is_captured(params.session_id):
            return NULL
        return _json(self.recording.listener_port)

    def _is_captured(self, session_id: str) -> bool:
        return self.recording is not None and session_id == self.recording.session_id

    async def query(self, params: QueryParams) -> str:
        """Return a page of summaries, or null."""
        self._flush()
        page = await query(self.store, params)
        return NULL if page is None else page.render()

    def get_entry(self, params: EntryParams) -> str:
        """Return the entry, or null."""
        self._flush(params.entry_id)
        json = self.store.entry_json(params.session_id, params.entry_id)
        return NULL if json is None else json.decode()

    async def get_websocket_messages(self, params: EntryParams) -> Text:
        """Return the messages so far, or null for an entry that is no WebSocket, or whose messages were given up."""
        self._flush(params.entry_id)
        json = self.store.entry_json(params.session_id, params.entry_id)
        if json is None or not _decode_messages(json).isWebSocket:
            return NULL
        if (pieces := self.store.messages(params.session_id, params.entry_id)) is None:
            return NULL
        first, second = next(pieces, b""), next(pieces, None)
        return f"[{first.decode()}]" if second is None else _array(chain((first, second), pieces))

    def _body_of(self, side: Side) -> Callable[[BodyParams], str | Awaitable[Text]]:
        def get_body(params: BodyParams) -> str | Awaitable[Text]:
            self._flush(params.entry_id)
            stored = self.store.body(params.session_id, params.entry_id, side)
            if stored is None or (body := body_of(stored, side)) is None:
                return NULL
            return at_once(body, params.encoding) or in_pieces(body, params.encoding)

        return get_body

    def _flush(self, entry_id: str | None = None) -> None:
        """Have written what has come; with an id, only if something has come for that entry."""
        if self.recording is not None:
            self.recording.flush(entry_id)


async def _id_array(pages: Iterator[list[str]]) -> AsyncGenerator[str]:
    separator = "["
    for page in pages:
        yield separator + _json(page)[1:-1]
        separator = ","
        await asyncio.sleep(0)  # one page after another, others wait no longer than for one
    yield "]"


async def _array(pieces: Iterator[bytes]) -> AsyncGenerator[str]:
    yield "["
    for piece in pieces:
        yield piece.decode()
    yield "]"


def body_of(stored: StoredBody, side: Side) -> Body | None:
    """Return a stored body as its entry's header fields say it is to be read; null if it is not there."""
    messages = _decode_messages(stored.entry_json)
    message = messages.request if side == "request" else messages.response
    if message is None or stored.data is None:
        return None
    codings = codings_of(_field(message.headers, "content-encoding"))
    charset = charset_of(_field(message.headers, "content-type"))
    return Body(stored.data, codings, charset, complete=message.bodySize is not None)
