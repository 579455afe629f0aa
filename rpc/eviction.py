"""The bound on a store's size: beyond it the oldest bodies and WebSocket messages are given up.

A line is drawn through the entries, in order of their creation: what lies before it is gone for readers at once, and
is then deleted in steps that are short enough for the event loop. Entries and their ids stay.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator
from heapq import merge
from itertools import takewhile
from typing import NamedTuple

from rpc.bodyfiles import BodyFiles

LOW_WATER = 0.95
"""How full the store may be, as a share of its bound, when giving up ends."""

STEP_ROWS = 512
"""Pieces of bodies, and messages, that one step looks at or deletes at the most."""

STEP_BYTES = 4 * 1024 * 1024
"""Bytes after which a step is long enough: about 20 ms."""

VACUUM_PAGES = 1024
"""Pages that one step gives back to the file system at the most."""

WAL_SHARE = 8
"""The write-ahead log may stay as large as the bound divided by this."""

MAX_WAL_BYTES = 64 * 1024 * 1024
"""The write-ahead log is cut to this when it begins anew."""


TABLES = {"body": "length(data)", "message": "length(json)", "body_file": "size"}
"""What is given up: tables by entry, and the space that a row takes."""


class Size(NamedTuple):
    """What the main file and the files of bodies take, in bytes: in all, and without pages that are free again."""

    file: int
    used: int


def size_of(connection: sqlite3.Connection) -> Size:
    """Return what the store takes."""
    pages, free, page = (
        connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
    )
    (files,) = connection.execute("SELECT file_bytes FROM eviction").fetchone()
    return Size(pages * page + files, (pages - free) * page + files)


def wal_limit(max_bytes: int | None) -> int:
    """Return to how many bytes the write-ahead log of a store with this bound is cut."""
    return MAX_WAL_BYTES if max_bytes is None else min(MAX_WAL_BYTES, max_bytes // WAL_SHARE)


class Eviction:
    """Keeps one store within `max_bytes`; null: it has no bound. Every step wants a transaction around it."""

    def __init__(self, connection: sqlite3.Connection, files: BodyFiles, max_bytes: int | None) -> None:
        self._connection = connection
        self._files = files
        # The write-ahead log lies beside the file.
        self._limit = None if max_bytes is None else max_bytes - wal_limit(max_bytes)
        self._is_over = False

    @property
    def is_due(self) -> bool:
        """Whether there is a step to take."""
        if self._limit is None:
            return False
        size = size_of(self._connection)
        mark = self._limit * LOW_WATER if self._is_over else self._limit
        self._is_over = size.used > mark
        return self._is_over or (size.file > self._limit and size.file > size.used)

    def step(self) -> bool:
        """Give up or give back a little; return whether that was possible."""
        return self._delete_given_up() or (self._is_over and self._give_up()) or self._give_back()

    def through(self) -> int:
        """Return the number of the last entry whose bodies and messages are given up."""
        (number,) = self._connection.execute("SELECT through FROM eviction").fetchone()
        return int(number)

    def _delete_given_up(self) -> bool:
        deleted = [self._delete(table) for table in TABLES]
        return any(deleted)

    def _delete(self, table: str) -> bool:
        session_of = f"SELECT session FROM entry WHERE entry.number = {table}.entry"  # noqa: S608
        sql = f"SELECT rowid, ({session_of}), {TABLES[table]} FROM {table} WHERE entry <= ? ORDER BY entry LIMIT ?"  # noqa: S608
        freed: Counter[int] = Counter()
        rows = []
        for row, session, length in self._connection.execute(sql, (self.through(), STEP_ROWS)).fetchall():
            rows.append(row)
            freed[session] += length
            if freed.total() >= STEP_BYTES:
                break
        self._delete_rows(table, rows)
        update = "UPDATE session SET bytes = bytes - ?2, evicted = evicted + ?2 WHERE number = ?1"
        self._connection.executemany(update, freed.items())
        return bool(rows)

    def _delete_rows(self, table: str, rows: list[int]) -> None:
        if table == "body_file":
            for row in rows:
                self._files.remove_row(row)
        else:
            self._connection.executemany(f"DELETE FROM {table} WHERE rowid = ?", [(row,) for row in rows])  # noqa: S608

    def _give_up(self) -> bool:
        """Draw the line after the oldest entries that hold enough; after all that are looked at, if they do not."""
        assert self._limit is not None
        wanted = size_of(self._connection).used - self._limit * LOW_WATER
        last = None
        for entry, length in self._oldest():
            if wanted <= 0 and entry != last:
                break
            last = entry
            wanted -= length
        if last is not None:
            self._connection.execute("UPDATE eviction SET through = ?", (last,))
        return last is not None

    def _oldest(self) -> Iterator[tuple[int, int]]:
        """Yield the entries beyond the line and the length of each thing they hold, as far as all tables were read."""
        found = [self._lengths(table) for table in TABLES]
        horizon = min((rows[-1][0] for rows in found if len(rows) == STEP_ROWS), default=float("inf"))
        return takewhile(lambda row: row[0] <= horizon, merge(*found))

    def _lengths(self, table: str) -> list[tuple[int, int]]:
        sql = f"SELECT entry, {TABLES[table]} FROM {table} WHERE entry > ? ORDER BY entry LIMIT ?"  # noqa: S608
        return self._connection.execute(sql, (self.through(), STEP_ROWS)).fetchall()

    def _give_back(self) -> bool:
        size = size_of(self._connection)
        if self._limit is None or size.file <= self._limit or size.file == size.used:
            return False
        self._connection.execute(f"PRAGMA incremental_vacuum({VACUUM_PAGES})").fetchall()
        return size_of(self._connection).file < size.file
