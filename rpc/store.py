"""Where sessions are kept: the interface, and its implementation on SQLite, with files for large bodies.

One writer in each process; answering an entry is one look-up by key. The store knows sessions, entries as finished
JSON, bodies as chunks and messages as JSON; it knows neither records nor HTTP.
"""

from __future__ import annotations

import os
import sqlite3
import weakref
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple, Protocol

from rpc import store_format
from rpc.bodyfiles import LARGE_BYTES, BodyFile, BodyFiles
from rpc.eviction import Eviction, size_of, wal_limit
from rpc.records import Side
from rpc.runs import Run
from rpc.store_format import BUSY_SECONDS, StoreError
from rpc.summaries import Summary
from rpc.summary_table import Changed, Position, Row, SummaryTable

__all__ = ["BodyChangedError", "BodyData", "SqliteStore", "Store", "StoreError", "StoredBody", "StoredEntry"]

KEPT_COLUMN: dict[Side, str] = {"request": "request_kept", "response": "response_kept"}

PIECE_SIZE = 256 * 1024
"""Bytes at which a piece of a body is large enough; with the last chunk that was put it may be somewhat more."""

IDS_PER_PAGE = 5000
"""Ids that are read at once: about 3 ms."""

PAGE_BYTES = 4096
"""What SQLite takes at once."""


class BodyChangedError(Exception):
    """The body that is being read was replaced or given up, or is not there as it should be."""


class StoredEntry(NamedTuple):
    """An entry as it is written: its JSON, how many bytes of each body are kept (null: none is), and its state.

    `state` is null once nothing more will change. Without a summary, the entry keeps the one that it has, if any.
    """

    id: str
    json: bytes
    request_kept: int | None
    response_kept: int | None
    state: bytes | None
    summary: Summary | None = None


class BodyData(Protocol):
    """The bytes of a body that were there when it was asked for. What is added later is not in it."""

    size: int
    """In bytes."""

    def pieces(self) -> Iterator[bytes]:
        """Read the bytes from their beginning, a piece at a time, so that a large body is never held as a whole.

        The store may be used between two pieces. Raises `BodyChangedError` if the body was replaced meanwhile.
        """
        ...


class StoredBody(NamedTuple):
    """An entry's JSON and one of its bodies as transferred; `data` is null if it is not kept."""

    entry_json: bytes
    data: BodyData | None


class StoredStatus(NamedTuple):
    """What a session holds, and what it lacks.

    `entries` and `bytes` (of bodies and messages) are stored; `dropped` entries are missing or incomplete because they
    could not be written, the first and the last at these Unix times; `evicted` bytes were given up for others.
    """

    entries: int
    bytes: int
    dropped: int
    dropped_since: float | None
    dropped_until: float | None
    evicted: int


class StoreSize(NamedTuple):
    """How many bytes the store takes on the disk, and how many it may take; null: as many as there are."""

    bytes: int
    limit: int | None


class Store(Protocol):
    """What keeps sessions. Sessions and entries are named by their ids; whatever is unknown is answered with null.

    What is put belongs into a `writing` block.
    """

    def open_session(self, session_id: str, name: str, started: float, run: Run | None = None) -> int:
        """Begin a session, or go on with it; return the number of its last frame that is stored, 0 if none is."""
        ...

    def end_session(self, session_id: str, ended: float) -> None:
        """Note that nothing more will come for a session."""

    def writing(self) -> AbstractContextManager[None]:
        """Write what is put in the block, all of it or, if this raises `StoreError`, nothing."""
        ...

    def put_entry(self, session_id: str, entry: StoredEntry) -> None:
        """Write an entry, new or changed."""

    def put_body(self, session_id: str, entry_id: str, side: Side, start: int, data: bytes) -> None:
        """Write a piece of a body of an entry that was put; `start` 0 replaces the body."""

    def put_message(self, session_id: str, entry_id: str, number: int, json: bytes, *, ends: bool = True) -> None:
        """Write the row with this number of the WebSocket messages of an entry that was put.

        A row is a message's JSON, or a piece of it: the one that `ends` the message is the last one.
        """

    def put_fact(self, session_id: str, key: int, record: bytes | None) -> None:
        """Write what holds in a session until it is replaced, or, with null, holds no longer."""

    def put_frame(self, session_id: str, number: int) -> None:
        """Write that everything up to this frame is stored."""

    def put_dropped(self, session_id: str, entries: int, since: float, until: float) -> None:
        """Count entries that are missing or incomplete."""

    def sessions(self) -> list[tuple[str, str]]:
        """Return id and name of every session, the oldest first."""
        ...

    def unended_sessions(self) -> list[tuple[str, Run | None]]:
        """Return the sessions that have not been ended, and which process runs or ran them."""
        ...

    def unfinished(self, session_id: str) -> list[tuple[StoredEntry, bytes]]:
        """Return the entries that have a state, the oldest first, each with that state."""
        ...

    def facts(self, session_id: str) -> list[tuple[int, bytes]]:
        """Return key and record of everything that holds in a session."""
        ...

    def entry_ids(self, session_id: str) -> Iterator[list[str]] | None:
        """Return the ids of a session's entries in order of creation, a page at a time.

        The store may be used between two pages; what is put meanwhile comes at the end.
        """
        ...

    def position(self, session_id: str, entry_id: str | None = None) -> Position | None:
        """Return the point that a session has reached; with an id, the one at which that entry had just been added.

        The session's own id stands for its beginning.
        """
        ...

    def last_entry_id(self, session_id: str) -> str | None:
        """Return the id of the entry that a session has had last."""
        ...

    def summaries(self, session_id: str, number: int, limit: int, *, newest_first: bool = False) -> list[Row]:
        """Return the summaries of the entries beyond a number, in order of creation or against it."""
        ...

    def summary(self, session_id: str, entry_id: str) -> Row | None:
        """Return the summary of one entry."""
        ...

    def changes(self, session_id: str, through: int, after: Position, limit: int) -> list[Changed]:
        """Return the entries up to the number `through` that have changed since a point, in order of change."""
        ...

    def entry_json(self, session_id: str, entry_id: str) -> bytes | None:
        """Return an entry's JSON."""
        ...

    def entry_jsons(self, numbers: Iterable[int]) -> dict[int, bytes]:
        """Return the JSON of the entries with these numbers."""
        ...

    def body(self, session_id: str, entry_id: str, side: Side) -> StoredBody | None:
        """Return one body of an entry."""
        ...

    def messages(self, session_id: str, entry_id: str) -> Iterator[bytes] | None:
        """Read the JSON of the messages that an entry has now, in order, commas between them, a piece at a time.

        Each piece is UTF-8 by itself; a message that has not ended is left out. The store may be used between two
        pieces. Null also if they were given up; raises `BodyChangedError` if that happens meanwhile.
        """
        ...

    def status(self, session_id: str) -> StoredStatus | None:
        """Return what a session holds and lacks."""
        ...

    def size(self) -> StoreSize:
        """Return how large the store is."""
        ...

    def evict(self) -> bool:
        """Take a short step towards the store's bound; return whether another one is due. Raises `StoreError`."""
        ...

    def close(self) -> None:
        """Close the store, which cannot be used any more."""


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        message = f"The store {path} cannot be used: {getattr(error, 'strerror', None) or error}."
        raise StoreError(message) from error


class _SqliteBody:
    """A `BodyData`. The store tells it that it is `replaced`: new chunks may look like those that were there."""

    def __init__(
        self, connection: sqlite3.Connection, entry: int, side: Side, size: int, file: BodyFile | None
    ) -> None:
        self.size = size
        self.key = (entry, side)
        self.replaced = False
        self._connection = connection
        self._file = file

    def pieces(self) -> Iterator[bytes]:
        """Read the bytes, a piece at a time. Raises `BodyChangedError`."""
        position = 0
        while position < self.size:
            piece = self._piece(position)
            if self.replaced or not piece:
                raise BodyChangedError
            yield piece[: self.size - position]
            position += len(piece)

    def _piece(self, position: int) -> bytes:
        if self._file is not None and position >= self._file.start:
            return self._file.read(position, PIECE_SIZE)
        sql = "SELECT start, data FROM body WHERE entry = ? AND side = ? AND start >= ? ORDER BY start"
        chunks: list[bytes] = []
        end = position
        with closing(self._connection.execute(sql, (*self.key, position))) as rows:
            for start, data in rows:
                if start != end:
                    break
                chunks.append(data)
                end += len(data)
                if end - position >= PIECE_SIZE:
                    break
        return b"".join(chunks)


class SqliteStore:
    """A `Store` in one SQLite file, for use by one thread; several processes may share the file.

    `durable`: what was written outlives a power failure once `sync` has returned; without, it outlives the process
    alone. `max_bytes` is what the store may take on the disk. Raises `StoreError` for a file that cannot be used.
    """

    def __init__(self, path: Path, *, durable: bool = True, max_bytes: int | None = None) -> None:
        self._path = path
        self._log = path.with_name(f"{path.name}-wal")
        self._durable = durable
        self._max_bytes = max_bytes
        self._session_numbers: dict[str, int] = {}
        self._entry_numbers: dict[tuple[str, str], int] = {}
        self._finished: list[tuple[str, str]] = []
        self._added: dict[int, list[int]] = {}
        self._evicted_through = 0
        self._bodies_in_use: weakref.WeakSet[_SqliteBody] = weakref.WeakSet()
        with _explained(path):
            store_format.prepare(path)
            self._connection = self._connect()
            self._syncing = self._connect(any_thread=True)
        self._summaries = SummaryTable(self._connection)
        self._files = BodyFiles(self._connection, path, durable=durable)
        self._eviction = Eviction(self._connection, self._files, max_bytes)
        if self._files.have_been_used:
            with suppress(StoreError), self.writing():  # another process may be writing; then another time
                self._files.sweep()

    def _connect(self, *, any_thread: bool = False) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path,
            timeout=BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=not any_thread,
        )
        log_bytes = wal_limit(self._max_bytes)
        for pragma in (
            "journal_mode = WAL",
            f"synchronous = {'NORMAL' if self._durable else 'OFF'}",
            # Usually `sync` comes before a commit has to move what is in the log.
            f"wal_autocheckpoint = {log_bytes // PAGE_BYTES}",
            f"journal_size_limit = {log_bytes}",
        ):
            connection.execute(f"PRAGMA {pragma}")
        return connection

    # Writing

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Write what is put in the block, all of it or, if this raises `StoreError`, nothing."""
        try:
            with _explained(self._path):
                self._begin()
                yield
                self.commit()
        except BaseException:
            self._roll_back()
            raise

    def _begin(self) -> None:
        if not self._connection.in_transaction:
            self._connection.execute("BEGIN IMMEDIATE")
            self._evicted_through = self._eviction.through()

    def _write(self, sql: str, values: Iterable[object]) -> sqlite3.Cursor:
        self._begin()
        return self._connection.execute(sql, tuple(values))

    def commit(self) -> None:
        """Make everything that was put last."""
        if not self._connection.in_transaction:
            return
        self._files.prepare_commit()
        sql = "UPDATE session SET entries = entries + ?, bytes = bytes + ? WHERE number = ?"
        for session, (entries, size) in self._added.items():
            self._connection.execute(sql, (entries, size, session))
        self._connection.execute("COMMIT")
        self._summaries.committed()
        self._files.finish_commit()
        self._added.clear()
        for key in self._finished:
            self._entry_numbers.pop(key, None)
        self._finished.clear()

    def _roll_back(self) -> None:
        # What failed may have ended the transaction already.
        with suppress(sqlite3.Error):
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        self._summaries.rolled_back()
        self._files.roll_back()
        self._added.clear()
        self._finished.clear()
        self._entry_numbers.clear()
        self._session_numbers.clear()

    def _count(self, session_id: str, entries: int, size: int) -> None:
        counts = self._added.setdefault(self._session_number(session_id) or 0, [0, 0])
        counts[0] += entries
        counts[1] += size

    def _session_number(self, session_id: str) -> int | None:
        if (number := self._session_numbers.get(session_id)) is not None:
            return number
        row = self._connection.execute("SELECT number FROM session WHERE id = ?", (session_id,)).fetchone()
        if row is not None:
            self._session_numbers[session_id] = row[0]
        return row[0] if row else None

    def _entry_number(self, session_id: str, entry_id: str) -> int | None:
        """Return an entry's number; of one that may still change it is remembered."""
        if (number := self._entry_numbers.get((session_id, entry_id))) is not None:
            return number
        sql = "SELECT number FROM entry WHERE session = ? AND id = ?"
        row = self._connection.execute(sql, (self._session_number(session_id), entry_id)).fetchone()
        return row[0] if row else None

    def open_session(self, session_id: str, name: str, started: float, run: Run | None = None) -> int:
        """Begin a session, or go on with it; return the number of its last frame that is stored, 0 if none is."""
        with self.writing():
            sql = (
                "INSERT INTO session (id, name, started, pid, process_started) VALUES (?, ?, ?, ?, ?) ON CONFLICT"
                " DO UPDATE SET ended = NULL, pid = excluded.pid, process_started = excluded.process_started"
            )
            self._write(sql, (session_id, name, started, *(run or (None, None))))
            row = self._connection.execute("SELECT frame FROM session WHERE id = ?", (session_id,)).fetchone()
        return int(row[0])

    def end_session(self, session_id: str, ended: float) -> None:
        """Note that nothing more will come for a session."""
        number = self._session_number(session_id)
        self._write("UPDATE session SET ended = ? WHERE number = ?", (ended, number))
        self._write("DELETE FROM fact WHERE session = ?", (number,))

    def put_entry(self, session_id: str, entry: StoredEntry) -> None:
        """Write an entry, new or changed."""
        key = session_id, entry.id
        if key in self._entry_numbers or not self._inserts_entry(session_id, entry):
            number = self._entry_numbers[key] = self._entry_number(session_id, entry.id) or 0
            sql = "UPDATE entry SET json = ?, request_kept = ?, response_kept = ?, state = ? WHERE number = ?"
            self._write(sql, (entry.json, entry.request_kept, entry.response_kept, entry.state, number))
        if entry.summary is not None:
            self._summaries.put(self._session_number(session_id) or 0, self._entry_numbers[key], entry.summary)
        if entry.state is None:
            self._finished.append(key)

    def _inserts_entry(self, session_id: str, entry: StoredEntry) -> bool:
        """Write a new entry; return whether it was one."""
        sql = (
            "INSERT INTO entry (session, id, json, request_kept, response_kept, state) VALUES (?, ?, ?, ?, ?, ?)"
            " ON CONFLICT DO NOTHING"
        )
        cursor = self._write(sql, (self._session_number(session_id), *entry[:-1]))
        if cursor.rowcount == 0:
            return False
        assert cursor.lastrowid is not None
        self._entry_numbers[session_id, entry.id] = cursor.lastrowid
        self._count(session_id, 1, 0)
        return True

    def put_body(self, session_id: str, entry_id: str, side: Side, start: int, data: bytes) -> None:
        """Write a piece of a body of an entry that was put; `start` 0 replaces the body."""
        self._begin()
        number = self._entry_number(session_id, entry_id)
        if number is None or number <= self._evicted_through:
            return
        if start == 0:
            self._delete_body(session_id, number, side)
        if (grown := self._files.put(number, side, start, data)) is None:
            self._write("INSERT OR REPLACE INTO body VALUES (?, ?, ?, ?)", (number, side, start, data))
            grown = len(data)
        self._count(session_id, 0, grown)

    def _delete_body(self, session_id: str, number: int, side: Side) -> None:
        where = "FROM body WHERE entry = ? AND side = ?"
        (size,) = self._connection.execute(f"SELECT sum(length(data)) {where}", (number, side)).fetchone()
        if size is not None:
            self._write(f"DELETE {where}", (number, side))
        self._count(session_id, 0, -(size or 0) - self._files.remove(number, side))
        for body in self._bodies_in_use:
            body.replaced |= body.key == (number, side)

    def put_message(self, session_id: str, entry_id: str, number: int, json: bytes, *, ends: bool = True) -> None:
        """Write a row of the WebSocket messages of an entry that was put."""
        self._begin()
        entry = self._entry_number(session_id, entry_id)
        if entry is None or entry <= self._evicted_through:
            return
        self._write("INSERT OR REPLACE INTO message VALUES (?, ?, ?, ?)", (entry, number, json, ends))
        self._count(session_id, 0, len(json))

    def put_fact(self, session_id: str, key: int, record: bytes | None) -> None:
        """Write what holds in a session until it is replaced, or, with null, holds no longer."""
        session = self._session_number(session_id)
        if record is None:
            self._write("DELETE FROM fact WHERE session = ? AND key = ?", (session, key))
        else:
            self._write("INSERT OR REPLACE INTO fact VALUES (?, ?, ?)", (session, key, record))

    def put_frame(self, session_id: str, number: int) -> None:
        """Write that everything up to this frame is stored."""
        self._write("UPDATE session SET frame = ? WHERE id = ?", (number, session_id))

    def put_dropped(self, session_id: str, entries: int, since: float, until: float) -> None:
        """Count entries that are missing or incomplete."""
        sql = (
            "UPDATE session SET dropped = dropped + ?, dropped_since = coalesce(dropped_since, ?), dropped_until = ?"
            " WHERE id = ?"
        )
        self._write(sql, (entries, since, until, session_id))

    # Reading

    def sessions(self) -> list[tuple[str, str]]:
        """Return id and name of every session, the oldest first."""
        return self._connection.execute("SELECT id, name FROM session ORDER BY number").fetchall()

    def unended_sessions(self) -> list[tuple[str, Run | None]]:
        """Return the sessions that have not been ended, and which process runs or ran them."""
        sql = "SELECT id, pid, process_started FROM session WHERE ended IS NULL ORDER BY number"
        with _explained(self._path):
            rows = self._connection.execute(sql).fetchall()
        return [(session_id, None if pid is None else Run(pid, started)) for session_id, pid, started in rows]

    def unfinished(self, session_id: str) -> list[tuple[StoredEntry, bytes]]:
        """Return the entries that have a state, the oldest first, each with that state."""
        sql = (
            "SELECT id, json, request_kept, response_kept, state FROM entry"
            " WHERE session = ? AND state IS NOT NULL ORDER BY number"
        )
        with _explained(self._path):
            rows = self._connection.execute(sql, (self._session_number(session_id),)).fetchall()
        return [(StoredEntry(*row), row[-1]) for row in rows]

    def facts(self, session_id: str) -> list[tuple[int, bytes]]:
        """Return key and record of everything that holds in a session."""
        sql = "SELECT key, record FROM fact WHERE session = ? ORDER BY key"
        with _explained(self._path):
            return self._connection.execute(sql, (self._session_number(session_id),)).fetchall()

    def entry_ids(self, session_id: str) -> Iterator[list[str]] | None:
        """Return the ids of a session's entries in order of creation, a page at a time."""
        session = self._session_number(session_id)
        return None if session is None else self._id_pages(session)

    def _id_pages(self, session: int) -> Iterator[list[str]]:
        sql = "SELECT number, id FROM entry WHERE session = ? AND number > ? ORDER BY number LIMIT ?"
        last = 0
        while rows := self._connection.execute(sql, (session, last, IDS_PER_PAGE)).fetchall():
            yield [entry_id for _, entry_id in rows]
            last = rows[-1][0]

    def position(self, session_id: str, entry_id: str | None = None) -> Position | None:
        """Return the point that a session has reached, or at which an entry had just been added."""
        if (session := self._session_number(session_id)) is None:
            return None
        if entry_id is None:
            return self._summaries.end(session)
        if entry_id == session_id:
            return Position(0, 0)
        number = self._entry_number(session_id, entry_id)
        return None if number is None else self._summaries.before_changes(session, number)

    def last_entry_id(self, session_id: str) -> str | None:
        """Return the id of the entry that a session has had last."""
        sql = "SELECT id FROM entry WHERE session = ? ORDER BY number DESC LIMIT 1"
        row = self._connection.execute(sql, (self._session_number(session_id),)).fetchone()
        return row[0] if row else None

    def summaries(self, session_id: str, number: int, limit: int, *, newest_first: bool = False) -> list[Row]:
        """Return the summaries of the entries beyond a number, in order of creation or against it."""
        if (session := self._session_number(session_id)) is None:
            return []
        page = self._summaries.before if newest_first else self._summaries.added
        return page(session, number, limit)

    def summary(self, session_id: str, entry_id: str) -> Row | None:
        """Return the summary of one entry."""
        session, number = self._session_number(session_id), self._entry_number(session_id, entry_id)
        rows = self._summaries.row(session, number) if session is not None and number is not None else []
        return rows[0] if rows else None

    def changes(self, session_id: str, through: int, after: Position, limit: int) -> list[Changed]:
        """Return the entries up to the number `through` that have changed since a point, in order of change."""
        session = self._session_number(session_id)
        return [] if session is None else self._summaries.changed(session, through, after, limit)

    def entry_json(self, session_id: str, entry_id: str) -> bytes | None:
        """Return an entry's JSON."""
        sql = "SELECT json FROM entry WHERE session = ? AND id = ?"
        row = self._connection.execute(sql, (self._session_number(session_id), entry_id)).fetchone()
        return row[0] if row else None

    def entry_jsons(self, numbers: Iterable[int]) -> dict[int, bytes]:
        """Return the JSON of the entries with these numbers."""
        wanted = tuple(numbers)
        sql = f"SELECT number, json FROM entry WHERE number IN ({','.join('?' * len(wanted))})"  # noqa: S608
        return dict(self._connection.execute(sql, wanted).fetchall())

    def body(self, session_id: str, entry_id: str, side: Side) -> StoredBody | None:
        """Return one body of an entry."""
        sql = (
            f"SELECT number, json, {KEPT_COLUMN[side]}, (SELECT through FROM eviction) FROM entry"  # noqa: S608
            " WHERE session = ? AND id = ?"
        )
        row = self._connection.execute(sql, (self._session_number(session_id), entry_id)).fetchone()
        if row is None:
            return None
        number, json, kept, evicted_through = row
        is_kept = kept is not None and (kept == 0 or number > evicted_through)
        return StoredBody(json, self._body_data(number, side, kept) if is_kept else None)

    def _body_data(self, entry: int, side: Side, size: int) -> BodyData | None:
        file = self._files.find(entry, side) if size > LARGE_BYTES else None
        if file is not None:
            size = min(size, file.end() or 0)  # less is there if the power has failed
            if size == 0:
                return None
        body = _SqliteBody(self._connection, entry, side, size, file)
        if size > PIECE_SIZE:  # a body of one piece is read at once
            self._bodies_in_use.add(body)
        return body

    def messages(self, session_id: str, entry_id: str) -> Iterator[bytes] | None:
        """Read the JSON of an entry's messages, a piece at a time; null also if they were given up."""
        entry = self._entry_number(session_id, entry_id)
        if entry is None or entry <= self._eviction.through():
            return None
        sql = "SELECT number FROM message WHERE entry = ? AND ends ORDER BY number DESC LIMIT 1"
        row = self._connection.execute(sql, (entry,)).fetchone()
        return self._message_pieces(entry, -1 if row is None else row[0])

    def _message_pieces(self, entry: int, last: int) -> Iterator[bytes]:
        sql = "SELECT number, json, ends FROM message WHERE entry = ? AND number BETWEEN ? AND ? ORDER BY number"
        number = -1
        while number < last:
            piece = bytearray()
            with closing(self._connection.execute(sql, (entry, number + 1, last))) as rows:
                for number, json, ends in rows:
                    piece += json
                    if ends and number < last:
                        piece += b","
                    if len(piece) >= PIECE_SIZE:
                        break
            if not piece or entry <= self._eviction.through():
                raise BodyChangedError
            yield bytes(piece)

    def status(self, session_id: str) -> StoredStatus | None:
        """Return what a session holds and lacks."""
        sql = f"SELECT {', '.join(StoredStatus._fields)} FROM session WHERE id = ?"  # noqa: S608
        row = self._connection.execute(sql, (session_id,)).fetchone()
        return StoredStatus(*row) if row else None

    # The file

    def size(self) -> StoreSize:
        """Return how large the store is, its write-ahead log and the files of bodies included."""
        log_size = self._log.stat().st_size if self._log.exists() else 0
        return StoreSize(size_of(self._connection).file + log_size, self._max_bytes)

    def evict(self) -> bool:
        """Take a short step towards the store's bound; return whether another one is due. Raises `StoreError`."""
        with _explained(self._path):
            if not self._eviction.is_due:
                return False
        with self.writing():
            return self._eviction.step()

    def sync(self) -> None:
        """Move what is committed from the write-ahead log to the file, and both to the disk. For another thread.

        It does not hold up reading and writing. What cannot be moved now stays in the log. Raises `StoreError`.
        """
        with _explained(self._path):
            self._files.sync()  # first: the database is not to tell of what is not there
            _, frames, moved = self._syncing.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        if self._durable and frames != moved:
            # Somebody reads what was before: then SQLite may not even have written the log to the disk.
            with self._log.open("rb+") as log:
                os.fsync(log.fileno())

    def close(self) -> None:
        """Commit and close."""
        try:
            self.commit()
        finally:
            self._syncing.close()
            self._connection.close()
