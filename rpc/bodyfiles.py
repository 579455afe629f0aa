"""Large bodies in files beside the store: what grows beyond `LARGE_BYTES` is written once, and not through a log.

The database has the first pieces of such a body, and a row that says where the file takes over and how long it is. A
file is made and written before its row is committed, and removed after its row is: whatever happens in between, there
are files or bytes too many at worst, which no row tells of. A name is never used again, so that a reader finds the
body that it asked for or none. Nothing here knows what is kept of an entry.
"""

from __future__ import annotations

import os
import re
import secrets
import sqlite3
from collections.abc import Iterable
from contextlib import suppress
from io import FileIO
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import NamedTuple

from rpc.records import Side

LARGE_BYTES = 1024 * 1024
"""What is beyond this of a body is in a file."""

NAME = re.compile(r"\d+-(request|response)-[0-9a-f]{16}")
"""What the files are called: the number of the entry, the side, and something that no other one has."""


def folder_of(store: Path) -> Path:
    """Return where the files of a store are."""
    return store.with_name(f"{store.name}-bodies")


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


class BodyFile(NamedTuple):
    """The rest of a body, from the byte at `start` on."""

    path: Path
    start: int

    def end(self) -> int | None:
        """Return at which byte of the body the file ends; null if it is not there."""
        try:
            return self.start + self.path.stat().st_size
        except FileNotFoundError:
            return None

    def read(self, position: int, size: int) -> bytes:
        """Return up to so many bytes from a position of the body on; none if the file is not there any more."""
        try:
            with self.path.open("rb", buffering=0) as file:
                file.seek(position - self.start)
                return file.read(size) or b""
        except FileNotFoundError:
            return b""


class _Written:
    """A file that is written in the transaction under way. Its `size` is what holds, once that is committed."""

    def __init__(self, name: str, file: FileIO | None, start: int, size: int, *, is_new: bool) -> None:
        self.name = name
        self.is_new = is_new
        self.size = self.committed = size
        self._file = file
        self._start = start

    def write(self, start: int, data: bytes) -> int:
        """Write a piece of the body; return by how much the file has grown. A piece behind a gap is left out."""
        offset = start - self._start
        if self._file is None or not 0 <= offset <= self.size:
            return 0
        self._file.seek(offset)
        rest = memoryview(data)
        while rest:
            rest = rest[self._file.write(rest) :]
        grown = max(0, offset + len(data) - self.size)
        self.size += grown
        return grown

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()

    def roll_back(self) -> None:
        """Give back what was taken, as far as that is possible, and let go of the file."""
        if self._file is not None:
            with suppress(OSError):
                self._file.truncate(self.committed)
            with suppress(OSError):
                self._file.close()


class BodyFiles:
    """The files of one store. What writes is called within a transaction of `connection`, by its thread.

    `durable`: what was committed before `sync` outlives a power failure. Raises OSError where files cannot be used.
    """

    def __init__(self, connection: sqlite3.Connection, store: Path, *, durable: bool) -> None:
        self._connection = connection
        self._folder = folder_of(store)
        self._durable = durable
        self._written: dict[tuple[int, Side], _Written] = {}
        self._removed: list[str] = []
        self._unsynced: SimpleQueue[str] = SimpleQueue()

    # Writing

    def put(self, entry: int, side: Side, start: int, data: bytes) -> int | None:
        """Write a piece; return by how much the body has grown, or null if the piece belongs into the database."""
        if start + len(data) <= LARGE_BYTES:
            return None
        written = self._written.get((entry, side))
        if written is None:
            written = self._written[entry, side] = self._opened(entry, side) or self._made(entry, side, start)
        return written.write(start, data)

    def _opened(self, entry: int, side: Side) -> _Written | None:
        sql = "SELECT name, start, size FROM body_file WHERE entry = ? AND side = ?"
        if (row := self._connection.execute(sql, (entry, side)).fetchone()) is None:
            return None
        name, start, size = row
        try:
            file = (self._folder / name).open("r+b", buffering=0)
        except FileNotFoundError:
            return _Written(name, None, start, size, is_new=False)
        # Bytes that were lost are not to become zeros.
        return _Written(name, file, start, min(size, os.fstat(file.fileno()).st_size), is_new=False)

    def _made(self, entry: int, side: Side, start: int) -> _Written:
        name = f"{entry}-{side}-{secrets.token_hex(8)}"
        self._connection.execute("INSERT INTO body_file VALUES (?, ?, ?, 0, ?)", (entry, side, start, name))
        self._folder.mkdir(mode=0o700, exist_ok=True)
        file = open(self._folder / name, "xb", buffering=0, opener=_private)  # noqa: SIM115 - the transaction closes it
        return _Written(name, file, start, 0, is_new=True)

    def remove(self, entry: int, side: Side) -> int:
        """Remove the file of a body, if there is one; return how many bytes of the body it had."""
        sql = "SELECT rowid FROM body_file WHERE entry = ? AND side = ?"
        row = self._connection.execute(sql, (entry, side)).fetchone()
        return self.remove_row(row[0]) if row else 0

    def remove_row(self, row: int) -> int:
        """Remove the file that a row tells of; return how many bytes of the body it had."""
        sql = "SELECT entry, side, size, name FROM body_file WHERE rowid = ?"
        entry, side, size, name = self._connection.execute(sql, (row,)).fetchone()
        self._connection.execute("DELETE FROM body_file WHERE rowid = ?", (row,))
        self._count(-size)
        self._removed.append(name)
        if (written := self._written.pop((entry, side), None)) is None:
            return int(size)
        written.close()
        return written.size

    def _count(self, size: int) -> None:
        self._connection.execute("UPDATE eviction SET file_bytes = file_bytes + ?", (size,))

    def prepare_commit(self) -> None:
        """Have the database say what was written. To be called at a transaction's end."""
        for key, written in self._written.items():
            if written.size != written.committed:
                sql = "UPDATE body_file SET size = ? WHERE entry = ? AND side = ?"
                self._connection.execute(sql, (written.size, *key))
                self._count(written.size - written.committed)
            if self._durable:
                self._unsynced.put(written.name)

    def finish_commit(self) -> None:
        """Remove what is no longer told of. To be called when the transaction is committed."""
        for written in self._written.values():
            with suppress(OSError):
                written.close()
        self._written.clear()
        self._unlink(self._removed)
        self._removed.clear()

    def roll_back(self) -> None:
        """Remove what will never be told of. To be called when the transaction is rolled back."""
        for written in self._written.values():
            written.roll_back()
        self._unlink([written.name for written in self._written.values() if written.is_new])
        self._written.clear()
        # One that was new is removed by `sweep`.
        self._removed.clear()

    def _unlink(self, names: Iterable[str]) -> None:
        for name in names:
            with suppress(OSError):
                (self._folder / name).unlink()

    @property
    def have_been_used(self) -> bool:
        """Whether there ever was a file."""
        return self._folder.exists()

    def sweep(self) -> None:
        """Remove the files that no row tells of: what processes leave that are killed. No other one may be writing."""
        found = {file.name for file in self._folder.iterdir() if NAME.fullmatch(file.name)}
        told = {name for (name,) in self._connection.execute("SELECT name FROM body_file")}
        self._unlink(found - told)

    # Reading

    def find(self, entry: int, side: Side) -> BodyFile | None:
        """Return the file of a body; null if it has none."""
        sql = "SELECT name, start FROM body_file WHERE entry = ? AND side = ?"
        row = self._connection.execute(sql, (entry, side)).fetchone()
        return BodyFile(self._folder / row[0], row[1]) if row else None

    # The disk

    def sync(self) -> None:
        """Bring what is committed to the disk. For another thread."""
        names = self._take_unsynced()
        try:
            for name in names:
                _sync(self._folder / name)
            if names and os.name == "posix":
                _sync(self._folder)
                _sync(self._folder.parent)
        except OSError:
            for name in names:
                self._unsynced.put(name)
            raise

    def _take_unsynced(self) -> set[str]:
        names: set[str] = set()
        with suppress(Empty):
            while True:
                names.add(self._unsynced.get_nowait())
        return names


def _sync(path: Path) -> None:
    """Bring a file or a folder to the disk, if it is there."""
    try:
        descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    except FileNotFoundError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
