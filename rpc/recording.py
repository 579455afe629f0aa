"""The session that is being captured: records come in, entries go to the store.

What changed is written once per flush, however often it changed; only unfinished entries are held in memory.
Answers never depend on when that is: whoever reads asks for a flush first.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from rpc import entry as entries
from rpc import messages, records
from rpc.entry import Body, Connection, Entry, Owner
from rpc.records import Side
from rpc.store import Store, StoredEntry

logger = logging.getLogger(__name__)

_encode_state = msgspec.msgpack.Encoder().encode

type Piece = tuple[str, Side, int, bytes]
type Message = tuple[str, int, bytes, bool]


class Recording:
    """One session under capture."""

    def __init__(self, store: Store, session: records.SessionOpened) -> None:
        self.session_id = session.id
        self.listener_port: int | None = None
        self._store = store
        self._connections: dict[int, Connection] = {}
        self._awaited: dict[int, Owner] = {}
        self._open: dict[str, Entry] = {}
        self._dirty: dict[str, Entry] = {}
        self._pieces: list[Piece] = []
        self._messages: list[Message] = []
        self._faults: dict[str, int] = {}
        self._apply: dict[type, Callable[[Any], None]] = {
            records.ListenerChanged: self._listener_changed,
            records.ClientConnection: self._client_connection,
            records.ClientDisconnected: self._client_disconnected,
            records.EntryStarted: self._entry_started,
            records.RequestChanged: self._request_changed,
            records.BodyChunk: self._body_chunk,
            records.RequestFinished: self._request_finished,
            records.ResponseStarted: self._response_started,
            records.ResponseFinished: self._response_finished,
            records.EntryFailed: self._entry_failed,
            records.MessageReceived: self._message_received,
            records.MessageContinued: self._message_continued,
            records.EntryEnded: self._entry_ended,
        }
        store.open_session(session.id, session.name, session.started)

    def apply(self, captured: Iterable[records.Captured]) -> None:
        """Take in records. One that cannot be applied is counted and logged once per kind; the others go on."""
        for record in captured:
            try:
                self._apply[type(record)](record)
            except Exception as error:
                self._count_fault(f"applying {type(record).__name__}", error)

    def flush(self) -> None:
        """Write what has changed since the last flush. Raises the store's errors."""
        for entry in self._dirty.values():
            self._put(entry)
        for entry_id, side, start, data in self._pieces:
            self._store.put_body(self.session_id, entry_id, side, start, data)
        for entry_id, number, json, ends in self._messages:
            self._store.put_message(self.session_id, entry_id, number, json, ends=ends)
        self._forget_finished()
        self._dirty.clear()
        self._pieces.clear()
        self._messages.clear()

    def set_process(self, key: int, process: records.Process | None) -> None:
        """Take in who owns the client's socket; the entries that have waited for it are completed."""
        if (owner := self._awaited.pop(key, None)) is None:
            return
        owner.process = process
        owner.known = True
        for entry in self._open.values():
            if entry.connection.owner is owner:
                self._dirty[entry.id] = entry

    def close(self) -> None:
        """End the session: unfinished entries end as they are. Raises the store's errors."""
        for entry in self._open.values():
            entry.ended = entry.connection.owner.known = True
            self._dirty[entry.id] = entry
        self.flush()

    def _count_fault(self, kind: str, error: Exception) -> None:
        self._faults[kind] = self._faults.get(kind, 0) + 1
        if self._faults[kind] == 1:
            logger.error("Recording is incomplete: %s failed; more of this will only be counted", kind, exc_info=error)

    def _put(self, entry: Entry) -> None:
        try:
            json = entries.render(entry)
        except Exception as error:
            self._count_fault("rendering an entry", error)
            return
        state = None if _is_finished(entry) else _encode_state(entry)
        stored = StoredEntry(entry.id, json, entry.request_body.kept, entry.response_body.kept, state)
        self._store.put_entry(self.session_id, stored)

    def _forget_finished(self) -> None:
        for entry in self._dirty.values():
            if _is_finished(entry):
                self._open.pop(entry.id, None)

    def _touch(self, entry_id: str) -> Entry:
        entry = self._open[entry_id]
        self._dirty[entry_id] = entry
        return entry

    def _keep(self, entry: Entry, side: Side, start: int, data: bytes) -> None:
        _body(entry, side).kept = start + len(data)
        if data:
            self._pieces.append((entry.id, side, start, data))

    def _finish_body(self, entry: Entry, side: Side, data: bytes | None, size: int | None) -> None:
        if data is not None:
            self._keep(entry, side, 0, data)
        body = _body(entry, side)
        body.size = size
        if size is None:
            body.kept = None

    def _listener_changed(self, record: records.ListenerChanged) -> None:
        self.listener_port = record.port

    def _client_connection(self, record: records.ClientConnection) -> None:
        known = self._connections.get(record.key)
        owner = known.owner if known else Owner(record.process, known=not record.find_process)
        self._connections[record.key] = Connection(record.peer, record.tls, record.http2, owner)
        if known is None and record.find_process:
            self._awaited[record.key] = owner

    def _client_disconnected(self, record: records.ClientDisconnected) -> None:
        self._connections.pop(record.key, None)

    def _entry_started(self, record: records.EntryStarted) -> None:
        entry = entries.started(record, self._connections[record.connection])
        self._open[entry.id] = self._dirty[entry.id] = entry

    def _request_changed(self, record: records.RequestChanged) -> None:
        self._touch(record.entry).request = record.head

    def _body_chunk(self, record: records.BodyChunk) -> None:
        self._keep(self._touch(record.entry), record.side, record.offset, record.data)

    def _request_finished(self, record: records.RequestFinished) -> None:
        entry = self._touch(record.entry)
        entry.instants.released = record.released
        entry.instants.request_end = record.at
        entry.request_body.trailers = record.trailers
        self._finish_body(entry, "request", record.body, record.size)

    def _response_started(self, record: records.ResponseStarted) -> None:
        entry = self._touch(record.entry)
        entry.response = record.head
        entry.response_body = Body(kept=0)
        entry.instants.response_start = record.at
        self._connected(entry, record)

    def _connected(self, entry: Entry, record: records.ResponseStarted | records.EntryFailed) -> None:
        entry.remote = record.remote
        entry.instants.sent = record.sent
        entry.instants.connecting = record.connecting or entry.instants.connecting

    def _response_finished(self, record: records.ResponseFinished) -> None:
        entry = self._touch(record.entry)
        entry.response = record.head or entry.response
        entry.response_body.trailers = record.trailers
        entry.instants.response_end = record.at
        entry.websocket = record.websocket
        entry.ended = record.ended
        self._finish_body(entry, "response", record.body, record.size)

    def _entry_failed(self, record: records.EntryFailed) -> None:
        entry = self._touch(record.entry)
        entry.instants.failed = record.at
        entry.ended = True
        self._connected(entry, record)
        for body in (entry.request_body, entry.response_body):
            if body.size is None and not body.kept:
                body.kept = None

    def _message_received(self, record: records.MessageReceived) -> None:
        entry = self._touch(record.entry)
        if entry.long_message is not None:
            # The rest of the message before is missing: its rows are never read, and are written over.
            entry.message_count = entry.long_message
        entry.long_message = entry.message_count if record.more else None
        self._keep_message(entry, messages.render(record), ends=not record.more)

    def _message_continued(self, record: records.MessageContinued) -> None:
        entry = self._touch(record.entry)
        if entry.long_message is None:
            return
        if not record.more:
            entry.long_message = None
        self._keep_message(entry, messages.render_continued(record), ends=not record.more)

    def _keep_message(self, entry: Entry, json: bytes, *, ends: bool) -> None:
        self._messages.append((entry.id, entry.message_count, json, ends))
        entry.message_count += 1

    def _entry_ended(self, record: records.EntryEnded) -> None:
        self._touch(record.entry).ended = True


def _is_finished(entry: Entry) -> bool:
    return entry.ended and entry.connection.owner.known


def _body(entry: Entry, side: Side) -> Body:
    return entry.request_body if side == "request" else entry.response_body
