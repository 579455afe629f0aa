from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from rpc.eviction import STEP_BYTES, size_of
from rpc.store import BodyChangedError, SqliteStore, StoredBody, StoredEntry

MIB = 1024 * 1024
SESSION = "session"
PIECE = 64 * 1024


def opened(path: Path, max_bytes: int | None) -> SqliteStore:
    store = SqliteStore(path, durable=False, max_bytes=max_bytes)
    store.open_session(SESSION, "name", 0.0)
    return store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    """A store that may take 8 MiB."""
    with closing(opened(tmp_path / "entries.db", 8 * MIB)) as store:
        yield store


def put(store: SqliteStore, number: int, size: int = PIECE, *, state: bytes | None = None, start: int = 0) -> None:
    """Put an entry whose response has bytes that tell it from others; nothing is evicted."""
    with store.writing():
        store.put_entry(SESSION, StoredEntry(str(number), b'{"n":%d}' % number, 0, start + size, state))
        for begin in range(start, start + size, PIECE):
            piece = bytes([number % 251]) * min(PIECE, start + size - begin)
            store.put_body(SESSION, str(number), "response", begin, piece)


def evict(store: SqliteStore) -> int:
    """Evict until no step is due; return how many were taken."""
    steps = 0
    while store.evict():
        steps += 1
        assert steps < 10_000
    return steps


def read(store: SqliteStore, number: int, side: str = "response") -> bytes | None:
    stored = store.body(SESSION, str(number), "response" if side == "response" else "request")
    assert isinstance(stored, StoredBody)
    return None if stored.data is None else b"".join(stored.data.pieces())


def ids(store: SqliteStore) -> list[str]:
    return [entry_id for page in store.entry_ids(SESSION) or () for entry_id in page]


def test_oldest_bodies_go_first_and_entries_stay(store: SqliteStore) -> None:
    for number in range(300):
        put(store, number)
        evict(store)
    bodies = [read(store, number) for number in range(300)]
    kept = [body is not None for body in bodies]
    assert kept == sorted(kept)
    assert 60 < sum(kept) < 120
    assert all(body is None or body == bytes([number % 251]) * PIECE for number, body in enumerate(bodies))
    assert ids(store) == [str(number) for number in range(300)]
    assert store.entry_json(SESSION, "0") == b'{"n":0}'


def test_store_stays_within_its_bound_on_the_disk(store: SqliteStore, tmp_path: Path) -> None:
    for number in range(1000):
        put(store, number)
        evict(store)
        if number % 4 == 0:
            store.sync()
        assert sum(file.stat().st_size for file in tmp_path.iterdir() if "shm" not in file.name) <= 9 * MIB
    assert store.size().bytes <= 9 * MIB
    assert store.size().limit == 8 * MIB


def test_status_says_how_much_was_evicted(store: SqliteStore) -> None:
    for number in range(300):
        put(store, number)
        evict(store)
    status = store.status(SESSION)
    assert status is not None
    assert status.evicted > 0
    assert status.bytes == sum(len(read(store, number) or b"") for number in range(300))
    assert status.bytes + status.evicted == 300 * PIECE


def test_empty_body_stays_known_to_be_empty(store: SqliteStore) -> None:
    for number in range(300):
        put(store, number)
    evict(store)
    assert read(store, 0) is None
    assert read(store, 0, "request") == b""


def test_messages_go_with_bodies_and_are_null_then(store: SqliteStore) -> None:
    for name in ("old", "new"):
        with store.writing():
            store.put_entry(SESSION, StoredEntry(name, b"{}", None, None, b"open"))
            for row in range(5000):
                store.put_message(SESSION, name, row, b"%01000d" % row)
        evict(store)
    assert store.messages(SESSION, "old") is None
    new = store.messages(SESSION, "new")
    assert new is not None
    assert b"".join(new) == b",".join(b"%01000d" % row for row in range(5000))
    with store.writing():
        store.put_message(SESSION, "old", 5000, b"late")
    assert store.messages(SESSION, "old") is None


def test_messages_that_are_given_up_while_they_are_read_raise(store: SqliteStore) -> None:
    with store.writing():
        store.put_entry(SESSION, StoredEntry("socket", b"{}", None, None, b"open"))
        for row in range(2000):
            store.put_message(SESSION, "socket", row, b"%01000d" % row)
    pieces = store.messages(SESSION, "socket")
    assert pieces is not None
    next(pieces)
    for number in range(200):
        put(store, number)
    store.evict()
    with pytest.raises(BodyChangedError):
        list(pieces)


def test_body_that_is_larger_than_the_store_is_given_up_while_it_comes(store: SqliteStore) -> None:
    put(store, 1)
    for start in range(0, 32 * MIB, MIB):
        put(store, 2, MIB, state=b"open", start=start)
        evict(store)
        store.sync()
        assert store.size().bytes <= 10 * MIB
    assert read(store, 1) is None
    assert read(store, 2) is None
    put(store, 3)
    assert read(store, 3) == b"\3" * PIECE


def test_body_that_is_evicted_while_it_is_read_raises(store: SqliteStore) -> None:
    put(store, 1, 2 * MIB)
    stored = store.body(SESSION, "1", "response")
    assert stored is not None
    assert stored.data is not None
    pieces = stored.data.pieces()
    next(pieces)
    for number in range(2, 200):
        put(store, number)
    evict(store)
    with pytest.raises(BodyChangedError):
        list(pieces)


def test_each_step_is_short(store: SqliteStore) -> None:
    for number in range(400):
        put(store, number)
    used = size_of(store._connection).used
    while store.evict():
        before, used = used, size_of(store._connection).used
        assert before - used < STEP_BYTES + 16 * PIECE


def test_file_that_is_too_large_when_it_is_opened_shrinks(tmp_path: Path) -> None:
    path = tmp_path / "entries.db"
    with closing(opened(path, None)) as store:
        for number in range(500):
            put(store, number)
        assert not store.evict()
        assert store.size().limit is None
    assert path.stat().st_size > 30 * MIB
    with closing(opened(path, 8 * MIB)) as store:
        evict(store)
        assert read(store, 499) == bytes([499 % 251]) * PIECE
        assert len(ids(store)) == 500
    assert path.stat().st_size <= 8 * MIB


def test_entries_alone_may_exceed_the_bound(store: SqliteStore) -> None:
    with store.writing():
        for number in range(3000):
            store.put_entry(SESSION, StoredEntry(str(number), os.urandom(4000), None, None, None))
    evict(store)
    assert len(ids(store)) == 3000


def test_another_process_heeds_what_one_has_given_up(store: SqliteStore, tmp_path: Path) -> None:
    with closing(SqliteStore(tmp_path / "entries.db")) as other:
        other.open_session("other", "", 0.0)
        with other.writing():
            other.put_entry("other", StoredEntry("long", b"{}", None, 3, b"open"))
            other.put_body("other", "long", "response", 0, b"abc")
        for number in range(300):
            put(store, number)
        evict(store)
        stored = other.body("other", "long", "response")
        assert stored is not None
        assert stored.data is None
        with other.writing():
            other.put_entry("other", StoredEntry("long", b"{}", None, 6, b"open"))
            other.put_body("other", "long", "response", 3, b"def")
        stored = other.body("other", "long", "response")
        assert stored is not None
        assert stored.data is None
        status = other.status("other")
        assert status is not None
        assert (status.bytes, status.evicted) == (0, 3)
