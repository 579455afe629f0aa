"""The session that is being captured: records come in, entries go to the store.

What changed is written once per flush, however often it changed, together with the number of the last frame: so the
store is always as it was after some frame, and a new process can go on from there. Only unfinished entries are held in
memory. Answers never depend on when a flush is: whoever reads asks for one first.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from enum import IntFlag, auto
from typing import Any, NamedTuple

import msgspec
from msgspec import structs

from rpc import entry as entries
from rpc import messages, records
from rpc.entry import Body, Connection, Entry, Owner
from rpc.records import Side
from rpc.runs import Run, is_alive
from rpc.schema import render_entry
from rpc.store import Store, StoredEntry, StoreError
from rpc.summaries import Summary, summary
from rpc.trouble import Trouble

logger = logging.getLogger(__name__)

MAX_PENDING_BYTES = 16 * 1024 * 1024
"""Bytes of bodies and messages that are held while they cannot be written: less than what the proxy holds."""

RIPE_BYTES = 4 * 1024 * 1024
"""Bytes of bodies and messages that are written without waiting for more: about 20 ms."""

LISTENER = 0
"""The key of the fact on which port the proxy listens; connections have theirs from 1 on."""

_encode = msgspec.msgpack.Encoder().encode
_decode_state = msgspec.msgpack.Decoder(Entry).decode
_decode_record: Callable[[bytes], records.Captured] = msgspec.msgpack.Decoder(records.Captured).decode

type Piece = tuple[str, Side, int, bytes]


class Message(NamedTuple):
    """A row of an entry's WebSocket messages, and the row in which its message begins.

    `place` is that of its message among the entry's messages.
    """

    entry: str
    row: int
    begins: int
    json: bytes
    ends: bool
    place: int


class Changes(IntFlag):
    """What has changed of an entry."""

    NOTHING = 0
    ADDED = auto()
    REQUEST = auto()
    RESPONSE = auto()
    BODY = auto()
    PROCESS = auto()
    FINISHED = auto()


class Written(NamedTuple):
    """What one flush has written: entries with what has changed of them, pieces of bodies, and messages, in order."""

    entries: list[tuple[str, Summary, Changes]]
    pieces: list[Piece]
    messages: list[Message]


class UnknownEntryError(Exception):
    """The beginning of an entry was dropped, so it is none."""


class Recording:
    """One session under capture.

    If the store has the session already, this goes on where it was: with the entries that are unfinished, and with
    what is known of connections. `run` is the proxy's process. `on_written` is told of everything that has been
    written, at once: what has not been written may be taken back, and is never told.
    """

    def __init__(self, store: Store, session: records.SessionOpened, *, run: Run | None = None) -> None:
        self.session_id = session.id
        self.listener_port: int | None = None
        self.trouble = Trouble()
        self.on_written: Callable[[Written], None] = lambda _written: None
        self._store = store
        self._connections: dict[int, Connection] = {}
        self._awaited: dict[int, Owner] = {}
        self._facts: dict[int, records.Captured] = {}
        self._changed_facts: set[int] = set()
        self._stored_facts: set[int] = set()
        self._open: dict[str, Entry] = {}
        self._stored_open: set[str] = set()
        self._dirty: dict[str, Entry] = {}
        self._changes: dict[str, Changes] = {}
        self._rendered: list[tuple[str, Summary, Changes]] = []
        self._pieces: list[Piece] = []
        self._messages: list[Message] = []
        self._pending_bytes = 0
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
            records.Gap: self._gap,
        }
        self._frame = self.settled_frame = store.open_session(session.id, session.name, session.started, run)
        self._restore()

    def take_in(self, frame: records.Frame) -> None:
        """Take in a frame, unless it has been taken in before its writer lost sight of that."""
        if frame.number > self._frame:
            self._frame = frame.number
            self.apply(frame.records)

    def apply(self, captured: Iterable[records.Captured]) -> None:
        """Take in records. One that cannot be applied is counted and logged once per kind; the others go on."""
        for record in captured:
            try:
                self._apply[type(record)](record)
            except UnknownEntryError:
                self._count_unknown(record)
            except Exception as error:
                self._count_fault(f"applying {type(record).__name__}", error)
        if self._pending_bytes > MAX_PENDING_BYTES and not self.trouble.is_over:
            self._let_go()

    @property
    def is_ripe(self) -> bool:
        """Whether there is enough for a flush of its own."""
        return self._pending_bytes >= RIPE_BYTES and self.trouble.is_over

    @property
    def is_settled(self) -> bool:
        """Whether everything that came is written, or let go."""
        pending = self._dirty or self._pieces or self._messages or self._changed_facts or self.trouble.dropped
        return not pending and self.settled_frame == self._frame

    def flush(self, entry_id: str | None = None) -> None:
        """Write what has changed since the last flush; with an id, only if that entry has changed.

        After a failure it is tried again, but not at once. What cannot be written for long is let go and counted.
        """
        is_needed = not self.is_settled if entry_id is None else entry_id in self._dirty
        if not is_needed or self.trouble.is_left_alone:
            return
        try:
            with self._store.writing():
                self._put_all()
        except StoreError as error:
            self.trouble.fail(error)
            if self.trouble.is_lasting:
                self._let_go()
        else:
            self._settle()

    def awaited(self) -> list[records.ClientConnection]:
        """Return the connections whose owners are not known yet."""
        facts = [self._facts.get(key) for key in self._awaited]
        return [fact for fact in facts if isinstance(fact, records.ClientConnection)]

    def set_process(self, key: int, process: records.Process | None) -> None:
        """Take in who owns the client's socket; the entries that have waited for it are completed."""
        if (owner := self._awaited.pop(key, None)) is None:
            return
        owner.process = process
        owner.known = True
        record = self._facts.get(key)
        if isinstance(record, records.ClientConnection) and key in self._connections:
            self._set_fact(key, structs.replace(record, process=process, find_process=False))
        else:
            self._set_fact(key, None)
        for entry in self._open.values():
            if entry.connection.owner is owner:
                self._note(entry, Changes.PROCESS)

    def close(self) -> None:
        """End the session: unfinished entries end as they are. What cannot be written now is let go."""
        for entry in self._open.values():
            _end(entry)
            self._note(entry, Changes.NOTHING)
        try:
            with self._store.writing():
                self._put_all()
                self._store.end_session(self.session_id, time.time())
        except StoreError as error:
            logger.error("The end of the session could not be stored. %s", error)  # noqa: TRY400 - it is a sentence
        else:
            self._settle()
        self.settled_frame = self._frame

    def _restore(self) -> None:
        for key, fact in self._store.facts(self.session_id):
            self.apply([_decode_record(fact)])
            self._stored_facts.add(key)
        self._changed_facts.clear()
        for stored, state in self._store.unfinished(self.session_id):
            self._go_on_with(_decode_state(state))
            self._stored_open.add(stored.id)

    def _go_on_with(self, entry: Entry) -> None:
        self._open[entry.id] = entry
        if (connection := self._connections.get(entry.connection.key)) is not None:
            entry.connection.owner = connection.owner
        elif not entry.connection.owner.known:
            entry.connection.owner.known = True  # nobody is left to ask about
            self._note(entry, Changes.PROCESS)

    def _put_all(self) -> None:
        for key in self._changed_facts:
            if (record := self._facts.get(key)) is not None or key in self._stored_facts:
                self._store.put_fact(self.session_id, key, None if record is None else _encode(record))
        self._rendered = []
        for entry in self._dirty.values():
            self._put(entry)
        for entry_id, side, start, data in self._pieces:
            self._store.put_body(self.session_id, entry_id, side, start, data)
        for message in self._messages:
            self._store.put_message(self.session_id, message.entry, message.row, message.json, ends=message.ends)
        trouble = self.trouble
        if trouble.since is not None and trouble.until is not None:
            self._store.put_dropped(self.session_id, trouble.dropped, trouble.since, trouble.until)
        self._store.put_frame(self.session_id, self._frame)

    def _settle(self) -> None:
        """Forget what is written."""
        for key in self._changed_facts:
            (self._stored_facts.add if key in self._facts else self._stored_facts.discard)(key)
        for entry in self._dirty.values():
            if entry.is_finished:
                self._forget(entry)
        self._stored_open.update(entry_id for entry_id, *_ in self._rendered if entry_id in self._open)
        written = Written(self._rendered, self._pieces, self._messages)
        self._changed_facts.clear()
        self._dirty.clear()
        self._changes.clear()
        self._forget_pending()
        self.settled_frame = self._frame
        self.trouble.succeed()
        self.on_written(written)

    def _forget(self, entry: Entry) -> None:
        self._open.pop(entry.id, None)
        self._stored_open.discard(entry.id)

    def _forget_pending(self) -> None:
        self._pieces = []
        self._messages = []
        self._pending_bytes = 0

    def _let_go(self) -> None:
        """Let go of bodies, messages and finished entries that cannot be written, so that memory stays bounded.

        What is known of entries that are unfinished, or stored as such, is little, and held on to.
        """
        incomplete = {entry_id for entry_id, *_ in (*self._pieces, *self._messages)}
        for entry_id, side, *_ in self._pieces:
            body = _body(self._dirty[entry_id], side)
            body.kept, body.is_lost = None, True
        for message in self._messages:
            entry = self._dirty[message.entry]
            # Rows of a message that is not whole are never read, and are written over.
            entry.message_count = min(entry.message_count, message.begins)
            entry.whole_messages = min(entry.whole_messages, message.place)
            entry.long_message = None
        for entry in list(self._dirty.values()):
            if entry.is_finished and entry.id not in self._stored_open:
                incomplete.add(entry.id)
                self._forget(entry)
                del self._dirty[entry.id]
                self._changes.pop(entry.id, None)
        self._forget_pending()
        self.settled_frame = self._frame
        self.trouble.let_go(len(incomplete))

    def _count_unknown(self, record: records.Captured) -> None:
        """Count an entry of which the beginning is missing, once: at its end."""
        ends = isinstance(record, records.EntryEnded | records.EntryFailed)
        if ends or (isinstance(record, records.ResponseFinished) and record.ended):
            self.trouble.drop(1)

    def _count_fault(self, kind: str, error: Exception) -> None:
        self._faults[kind] = self._faults.get(kind, 0) + 1
        if self._faults[kind] == 1:
            logger.error("Recording is incomplete: %s failed; more of this will only be counted", kind, exc_info=error)

    def _put(self, entry: Entry) -> None:
        state = None if entry.is_finished else _encode(entry)
        try:
            stored = _rendered(entry, state)
        except Exception as error:
            self._count_fault("rendering an entry", error)
            return
        self._store.put_entry(self.session_id, stored)
        assert stored.summary is not None
        changes = self._changes.get(entry.id, Changes.NOTHING)
        if entry.is_finished:
            changes |= Changes.FINISHED
        if entry.id not in self._stored_open:
            changes |= Changes.ADDED
        self._rendered.append((entry.id, stored.summary, changes))

    def _touch(self, entry_id: str, changes: Changes = Changes.NOTHING) -> Entry:
        if (entry := self._open.get(entry_id)) is None:
            raise UnknownEntryError
        self._note(entry, changes)
        return entry

    def _note(self, entry: Entry, changes: Changes) -> None:
        """Note that an entry has changed, and is to be written."""
        self._dirty[entry.id] = entry
        self._changes[entry.id] = self._changes.get(entry.id, Changes.NOTHING) | changes

    def _keep(self, entry: Entry, side: Side, start: int, data: bytes) -> None:
        body = _body(entry, side)
        if body.is_lost and start > 0:
            return
        body.is_lost = False
        body.kept = start + len(data)
        if data:
            self._pieces.append((entry.id, side, start, data))
            self._pending_bytes += len(data)

    def _finish_body(self, entry: Entry, side: Side, data: bytes | None, size: int | None) -> None:
        if data is not None:
            self._keep(entry, side, 0, data)
        body = _body(entry, side)
        body.size = size
        if size is None or (size and not body.kept):
            body.kept = None

    def _set_fact(self, key: int, record: records.Captured | None) -> None:
        self._changed_facts.add(key)
        if record is None:
            self._facts.pop(key, None)
        else:
            self._facts[key] = record

    def _listener_changed(self, record: records.ListenerChanged) -> None:
        self.listener_port = record.port
        self._set_fact(LISTENER, record)

    def _client_connection(self, record: records.ClientConnection) -> None:
        known = self._connections.get(record.key)
        owner = known.owner if known else Owner(record.process, known=not record.find_process)
        self._connections[record.key] = Connection(record.peer, record.tls, record.http2, owner, record.key)
        if known is None and record.find_process:
            self._awaited[record.key] = owner
        elif owner.known:
            record = structs.replace(record, process=owner.process, find_process=False)
        self._set_fact(record.key, record)

    def _client_disconnected(self, record: records.ClientDisconnected) -> None:
        self._connections.pop(record.key, None)
        # Who asks for the owner after a restart must know of what connection.
        if record.key not in self._awaited:
            self._set_fact(record.key, None)

    def _entry_started(self, record: records.EntryStarted) -> None:
        entry = entries.started(record, self._connections[record.connection])
        self._open[entry.id] = entry
        self._note(entry, Changes.NOTHING)

    def _request_changed(self, record: records.RequestChanged) -> None:
        self._touch(record.entry, Changes.REQUEST).request = record.head

    def _body_chunk(self, record: records.BodyChunk) -> None:
        self._keep(self._touch(record.entry, Changes.BODY), record.side, record.offset, record.data)

    def _request_finished(self, record: records.RequestFinished) -> None:
        entry = self._touch(record.entry, Changes.BODY)
        entry.instants.released = record.released
        entry.instants.request_end = record.at
        entry.request_body.trailers = record.trailers
        self._finish_body(entry, "request", record.body, record.size)

    def _response_started(self, record: records.ResponseStarted) -> None:
        entry = self._touch(record.entry, Changes.RESPONSE)
        entry.response = record.head
        entry.response_body = Body(kept=0)
        entry.instants.response_start = record.at
        self._connected(entry, record)

    def _connected(self, entry: Entry, record: records.ResponseStarted | records.EntryFailed) -> None:
        entry.remote = record.remote
        entry.instants.sent = record.sent
        entry.instants.connecting = record.connecting or entry.instants.connecting

    def _response_finished(self, record: records.ResponseFinished) -> None:
        entry = self._touch(record.entry, Changes.BODY | (Changes.RESPONSE if record.head else Changes.NOTHING))
        entry.response = record.head or entry.response
        entry.response_body.trailers = record.trailers
        entry.instants.response_end = record.at
        entry.websocket = record.websocket
        entry.ended = record.ended
        self._finish_body(entry, "response", record.body, record.size)

    def _entry_failed(self, record: records.EntryFailed) -> None:
        entry = self._touch(record.entry)
        entry.instants.failed = record.at
        entry.error = record.message
        entry.ended = True
        self._connected(entry, record)
        _give_up_bodies(entry)

    def _message_received(self, record: records.MessageReceived) -> None:
        entry = self._touch(record.entry)
        if entry.long_message is not None:
            # The rest of the message before is missing: its rows are never read, and are written over.
            entry.message_count = entry.long_message
        entry.long_message = entry.message_count if record.more else None
        self._keep_message(entry, entry.message_count, messages.render(record), ends=not record.more)

    def _message_continued(self, record: records.MessageContinued) -> None:
        entry = self._touch(record.entry)
        if (begins := entry.long_message) is None:
            return
        if not record.more:
            entry.long_message = None
        self._keep_message(entry, begins, messages.render_continued(record), ends=not record.more)

    def _keep_message(self, entry: Entry, begins: int, json: bytes, *, ends: bool) -> None:
        self._messages.append(Message(entry.id, entry.message_count, begins, json, ends, entry.whole_messages))
        self._pending_bytes += len(json)
        entry.message_count += 1
        entry.whole_messages += ends

    def _entry_ended(self, record: records.EntryEnded) -> None:
        self._touch(record.entry).ended = True

    def _gap(self, record: records.Gap) -> None:
        """Take in that records are missing: the entries that lack some of theirs end as they are."""
        for entry_id in record.cut:
            if (entry := self._open.get(entry_id)) is not None:
                _end(entry)
                self._note(entry, Changes.NOTHING)
        for key in self._connections.keys() - set(record.connections):
            self._client_disconnected(records.ClientDisconnected(key))
        self.trouble.drop(record.missed + len(record.cut), record.since, record.until)


def end_abandoned(store: Store, session_id: str) -> None:
    """End every other session whose process is gone: its unfinished entries end as they are. Raises `StoreError`."""
    for other, run in store.unended_sessions():
        if other == session_id or is_alive(run):
            continue
        with store.writing():
            for stored, state in store.unfinished(other):
                store.put_entry(other, _ended(stored, state))
            store.end_session(other, time.time())


def _ended(stored: StoredEntry, state: bytes) -> StoredEntry:
    """Return an entry as it is at its end; one whose state cannot be read is left as it was."""
    try:
        entry = _decode_state(state)
        _end(entry)
        return _rendered(entry, None)
    except Exception:
        return stored._replace(state=None)


def _rendered(entry: Entry, state: bytes | None) -> StoredEntry:
    """Return an entry as it is to be written."""
    answer = entries.as_session_entry(entry)
    kept = entry.request_body.kept, entry.response_body.kept
    return StoredEntry(entry.id, render_entry(answer), *kept, state, summary(entry, answer))


def _end(entry: Entry) -> None:
    entry.ended = entry.connection.owner.known = True
    _give_up_bodies(entry)


def _give_up_bodies(entry: Entry) -> None:
    """Note that bodies of which nothing has come are not known to be empty."""
    for body in (entry.request_body, entry.response_body):
        if body.size is None and not body.kept:
            body.kept = None


def _body(entry: Entry, side: Side) -> Body:
    return entry.request_body if side == "request" else entry.response_body
