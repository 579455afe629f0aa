"""Where sessions are kept: the interface, and its implementation on SQLite.

One writer; answering an entry is one look-up by key. The store knows sessions, entries as finished JSON, bodies as
chunks and messages as JSON; it knows neither records nor HTTP.
"""

from __future__ import annotations

import sqlite3
import weakref
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple, Protocol

from rpc.records import Side

APPLICATION_ID = 0x48454E54
"""Marks the file as ours (SQLite's `application_id`)."""
FORMAT_VERSION = 1

TABLES = """
CREATE TABLE session (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    started REAL NOT NULL
) STRICT;
CREATE TABLE entry (
    number INTEGER PRIMARY KEY,
    session INTEGER NOT NULL,
    id TEXT NOT NULL,
    json BLOB NOT NULL,
    request_kept INTEGER,
    response_kept INTEGER,
    state BLOB,
    UNIQUE (session, id)
) STRICT;
CREATE TABLE body (
    entry INTEGER NOT NULL,
    side TEXT NOT NULL,
    start INTEGER NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (entry, side, start)
) STRICT;
CREATE TABLE message (
    entry INTEGER NOT NULL,
    number INTEGER NOT NULL,
    json BLOB NOT NULL,
    ends INTEGER NOT NULL,
    PRIMARY KEY (entry, number)
) STRICT;
"""

KEPT_COLUMN: dict[Side, str] = {"request": "request_kept", "response": "response_kept"}


PIECE_SIZE = 256 * 1024
"""Bytes at which a piece of a body is large enough; with the last chunk that was put it may be somewhat more."""


class StoreError(Exception):
    """The store cannot be used; the sentence is for the user."""


class BodyChangedError(Exception):
    """The body that is being read was replaced, or is not there as it should be."""


class StoredEntry(NamedTuple):
    """An entry as it is written: its JSON, how many bytes of each body are kept (null: none is), and its state.

    `state` is null once nothing more will change.
    """

    id: str
    json: bytes
    request_kept: int | None
    response_kept: int | None
    state: bytes | None


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
    """An entry's JSON and one of its bodies as transferred; `data` is null if it was not kept."""

    entry_json: bytes
    data: BodyData | None


class Store(Protocol):
    """What keeps sessions. Sessions and entries are named by their ids; whatever is unknown is answered with null."""

    def open_session(self, session_id: str, name: str, started: float) -> None:
        """Begin a session, or go on with it."""

    def put_entry(self, session_id: str, entry: StoredEntry) -> None:
        """Write an entry, new or changed."""

    def put_body(self, session_id: str, entry_id: str, side: Side, start: int, data: bytes) -> None:
        """Write a piece of a body of an entry that was put; `start` 0 replaces the body."""

    def put_message(self, session_id: str, entry_id: str, number: int, json: bytes, *, ends: bool = True) -> None:
        """Write the row with this number of the WebSocket messages of an entry that was put.

        A row is a message's JSON, or a piece of it: the one that `ends` the message is the last one.
        """

    def commit(self) -> None:
        """Make everything that was put last."""

    def sessions(self) -> list[tuple[str, str]]:
        """Return id and name of every session, the oldest first."""
        ...

    def entry_ids(self, session_id: str) -> list[str] | None:
        """Return the ids of a session's entries in order of creation."""
        ...

    def entry_json(self, session_id: str, entry_id: str) -> bytes | None:
        """Return an entry's JSON."""
        ...

    def body(self, session_id: str, entry_id: str, side: Side) -> StoredBody | None:
        """Return one body of an entry."""
        ...

    def messages(self, session_id: str, entry_id: str) -> Iterator[bytes] | None:
        """Read the JSON of the messages that an entry has now, in order, commas between them, a piece at a time.

        Each piece is UTF-8 by itself; a message that has not ended is left out. The store may be used between two
        pieces. Raises `BodyChangedError` if the messages were given up meanwhile.
        """
        ...

    def close(self) -> None:
        """Commit and close; a temporary store is gone then."""


@contextmanager
def _explained(path: str) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        message = f"The store {path} cannot be used: {error}."
        raise StoreError(message) from error


class _SqliteBody:
    """A `BodyData`. The store tells it that it is `replaced`: new chunks may look like those that were there."""

    def __init__(self, connection: sqlite3.Connection, entry: int, side: Side, size: int) -> None:
        self.size = size
        self.key = (entry, side)
        self.replaced = False
        self._connection = connection

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
    """A `Store` in one SQLite file, for use by one thread. Raises `StoreError` for a file that cannot be used."""

    def __init__(self, path: Path, *, durable: bool = True) -> None:
        self._path = path
        self._session_numbers: dict[str, int] = {}
        self._bodies_in_use: weakref.WeakSet[_SqliteBody] = weakref.WeakSet()
        with _explained(str(path)):
            self._connection = sqlite3.connect(path, isolation_level=None)
            self._prepare(durable=durable)

    def _prepare(self, *, durable: bool) -> None:
        run = self._connection.execute
        (version,) = run("PRAGMA user_version").fetchone()
        (application,) = run("PRAGMA application_id").fetchone()
        (tables,) = run("SELECT count(*) FROM sqlite_master").fetchone()
        if tables and (application, version) != (APPLICATION_ID, FORMAT_VERSION):
            message = f"The store {self._path} was not written by this version; it is left as it is."
            raise StoreError(message)
        run("PRAGMA journal_mode = WAL")
        run(f"PRAGMA synchronous = {'NORMAL' if durable else 'OFF'}")
        run("BEGIN IMMEDIATE")
        if not tables:
            self._create()
        run("COMMIT")

    def _create(self) -> None:
        for statement in TABLES.split(";\n"):
            self._connection.execute(statement)
        self._connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        self._connection.execute(f"PRAGMA user_version = {FORMAT_VERSION}")

    def _write(self, sql: str, values: Iterable[object]) -> None:
        if not self._connection.in_transaction:
            self._connection.execute("BEGIN IMMEDIATE")
        self._connection.execute(sql, tuple(values))

    def _session_number(self, session_id: str) -> int | None:
        if (number := self._session_numbers.get(session_id)) is not None:
            return number
        row = self._connection.execute("SELECT number FROM session WHERE id = ?", (session_id,)).fetchone()
        if row is not None:
            self._session_numbers[session_id] = row[0]
        return row[0] if row else None

    def _entry_number(self, session_id: str, entry_id: str) -> int | None:
        sql = "SELECT number FROM entry WHERE session = ? AND id = ?"
        row = self._connection.execute(sql, (self._session_number(session_id), entry_id)).fetchone()
        return row[0] if row else None

    def open_session(self, session_id: str, name: str, started: float) -> None:
        """Begin a session, or go on with it."""
        with _explained(str(self._path)):
            sql = "INSERT INTO session (id, name, started) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
            self._write(sql, (session_id, name, started))
            self.commit()

    def put_entry(self, session_id: str, entry: StoredEntry) -> None:
        """Write an entry, new or changed."""
        self._write(
            "INSERT INTO entry (session, id, json, request_kept, response_kept, state) VALUES (?, ?, ?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET json = excluded.json, request_kept = excluded.request_kept,"
            " response_kept = excluded.response_kept, state = excluded.state",
            (self._session_number(session_id), *entry),
        )

    def put_body(self, session_id: str, entry_id: str, side: Side, start: int, data: bytes) -> None:
        """Write a piece of a body of an entry that was put; `start` 0 replaces the body."""
        number = self._entry_number(session_id, entry_id)
        if start == 0:
            self._write("DELETE FROM body WHERE entry = ? AND side = ?", (number, side))
            for body in self._bodies_in_use:
                body.replaced |= body.key == (number, side)
        self._write("INSERT OR REPLACE INTO body VALUES (?, ?, ?, ?)", (number, side, start, data))

    def put_message(self, session_id: str, entry_id: str, number: int, json: bytes, *, ends: bool = True) -> None:
        """Write a row of the WebSocket messages of an entry that was put."""
        entry = self._entry_number(session_id, entry_id)
        self._write("INSERT OR REPLACE INTO message VALUES (?, ?, ?, ?)", (entry, number, json, ends))

    def commit(self) -> None:
        """Make everything that was put last."""
        if self._connection.in_transaction:
            self._connection.execute("COMMIT")

    def sessions(self) -> list[tuple[str, str]]:
        """Return id and name of every session, the oldest first."""
        return self._connection.execute("SELECT id, name FROM session ORDER BY number").fetchall()

    def entry_ids(self, session_id: str) -> list[str] | None:
        """Return the ids of a session's entries in order of creation."""
        if (session := self._session_number(session_id)) is None:
            return None
        rows = self._connection.execute("SELECT id FROM entry WHERE session = ? ORDER BY number", (session,))
        return [entry_id for (entry_id,) in rows]

    def entry_json(self, session_id: str, entry_id: str) -> bytes | None:
        """Return an entry's JSON."""
        sql = "SELECT json FROM entry WHERE session = ? AND id = ?"
        row = self._connection.execute(sql, (self._session_number(session_id), entry_id)).fetchone()
        return row[0] if row else None

    def body(self, session_id: str, entry_id: str, side: Side) -> StoredBody | None:
        """Return one body of an entry."""
        sql = f"SELECT number, json, {KEPT_COLUMN[side]} FROM entry WHERE session = ? AND id = ?"  # noqa: S608
        row = self._connection.execute(sql, (self._session_number(session_id), entry_id)).fetchone()
        if row is None:
            return None
        number, json, kept = row
        return StoredBody(json, None if kept is None else self._body_data(number, side, kept))

    def _body_data(self, entry: int, side: Side, size: int) -> BodyData:
        body = _SqliteBody(self._connection, entry, side, size)
        if size > PIECE_SIZE:  # a body of one piece is read at once
            self._bodies_in_use.add(body)
        return body

    def messages(self, session_id: str, entry_id: str) -> Iterator[bytes] | None:
        """Read the JSON of an entry's messages, a piece at a time."""
        if (entry := self._entry_number(session_id, entry_id)) is None:
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
            if not piece:
                raise BodyChangedError
            yield bytes(piece)

    def close(self) -> None:
        """Commit and close."""
        self.commit()
        self._connection.close()
