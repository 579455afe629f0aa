from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from rpc.store import PIECE_SIZE, BodyChangedError, BodyData, SqliteStore, StoredEntry

SESSION, ENTRY = "01SESSION", "01ENTRY"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(tmp_path / "entries.db")
    store.open_session(SESSION, "name", 0.0)
    yield store
    store.close()


def put_body(store: SqliteStore, *chunks: bytes, start: int = 0) -> None:
    for chunk in chunks:
        store.put_entry(SESSION, StoredEntry(ENTRY, b"{}", None, start + len(chunk), None))
        store.put_body(SESSION, ENTRY, "response", start, chunk)
        start += len(chunk)


def body(store: SqliteStore) -> BodyData:
    stored = store.body(SESSION, ENTRY, "response")
    assert stored is not None
    assert stored.data is not None
    return stored.data


# Bodies


@pytest.mark.parametrize("chunk", [1000, PIECE_SIZE, PIECE_SIZE - 1])
def test_body_is_read_in_pieces_of_about_one_size_however_it_came(store: SqliteStore, chunk: int) -> None:
    data = bytes(range(256)) * 4096
    put_body(store, *(data[start : start + chunk] for start in range(0, len(data), chunk)))
    pieces = list(body(store).pieces())
    assert b"".join(pieces) == data
    assert all(PIECE_SIZE <= len(piece) < 2 * PIECE_SIZE for piece in pieces[:-1])
    assert body(store).size == len(data)


def test_body_that_grows_is_read_as_it_was_when_it_was_asked_for(store: SqliteStore) -> None:
    first = [b"a" * PIECE_SIZE, b"b" * 10]
    put_body(store, *first)
    before = body(store)
    pieces = before.pieces()
    assert next(pieces) == first[0]
    put_body(store, b"c" * PIECE_SIZE, start=PIECE_SIZE + 10)
    assert list(pieces) == first[1:]
    assert b"".join(before.pieces()) == b"".join(first)
    assert body(store).size == 2 * PIECE_SIZE + 10


def test_body_that_is_replaced_while_it_is_read_is_told_from_what_it_was(store: SqliteStore) -> None:
    put_body(store, *[b"a" * PIECE_SIZE] * 3)
    pieces = body(store).pieces()
    next(pieces)
    put_body(store, *[b"b" * PIECE_SIZE] * 3)
    with pytest.raises(BodyChangedError):
        next(pieces)
    assert b"".join(body(store).pieces()) == b"b" * PIECE_SIZE * 3


def test_body_with_a_gap_is_not_read_past_it(store: SqliteStore) -> None:
    put_body(store, b"a" * PIECE_SIZE)
    put_body(store, b"b", start=PIECE_SIZE + 1)
    pieces = body(store).pieces()
    next(pieces)
    with pytest.raises(BodyChangedError):
        next(pieces)


def test_body_without_bytes_has_no_pieces(store: SqliteStore) -> None:
    store.put_entry(SESSION, StoredEntry(ENTRY, b"{}", None, 0, None))
    assert list(body(store).pieces()) == []
