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


# WebSocket messages


def put_messages(store: SqliteStore, *rows: bytes, start: int = 0) -> None:
    """Put rows, of which each ends a message unless it ends with an ellipsis."""
    store.put_entry(SESSION, StoredEntry(ENTRY, b"{}", None, None, None))
    for number, row in enumerate(rows, start):
        store.put_message(SESSION, ENTRY, number, row.removesuffix(b"..."), ends=not row.endswith(b"..."))


def messages(store: SqliteStore) -> list[bytes]:
    pieces = store.messages(SESSION, ENTRY)
    assert pieces is not None
    return list(pieces)


def test_messages_are_read_in_order_with_commas_between_them(store: SqliteStore) -> None:
    put_messages(store, b"0", b"1", b"2")
    assert messages(store) == [b"0,1,2"]


def test_entry_without_messages_has_none_and_unknown_entry_is_null(store: SqliteStore) -> None:
    put_messages(store)
    assert messages(store) == []
    assert store.messages(SESSION, "01OTHER") is None


def test_rows_of_one_message_are_read_as_one(store: SqliteStore) -> None:
    put_messages(store, b"0", b"1a...", b"1b...", b"1c", b"2")
    assert messages(store) == [b"0,1a1b1c,2"]


def test_message_that_has_not_ended_is_not_read(store: SqliteStore) -> None:
    put_messages(store, b"0", b"1a...")
    assert messages(store) == [b"0"]


def test_rows_of_message_that_never_ended_are_not_read_when_others_take_their_place(store: SqliteStore) -> None:
    put_messages(store, b"0", b"lost...", b"lost...", b"lost...")
    put_messages(store, b"1", b"2a...", b"2b", start=1)
    assert messages(store) == [b"0,1,2a2b"]


def test_many_messages_are_read_in_pieces_of_about_one_size(store: SqliteStore) -> None:
    rows = [b"%09d" % number for number in range(100_000)]
    put_messages(store, *rows)
    pieces = messages(store)
    assert b"".join(pieces) == b",".join(rows)
    assert max(map(len, pieces)) < PIECE_SIZE + 10


def test_messages_are_those_that_were_there_when_they_were_asked_for(store: SqliteStore) -> None:
    put_messages(store, b"0" * PIECE_SIZE, b"1")
    pieces = store.messages(SESSION, ENTRY)
    assert pieces is not None
    next(pieces)
    put_messages(store, b"2", start=2)
    assert list(pieces) == [b"1"]


def test_messages_that_are_gone_when_they_are_read_raise(store: SqliteStore) -> None:
    put_messages(store, b"0" * PIECE_SIZE, b"1")
    pieces = store.messages(SESSION, ENTRY)
    assert pieces is not None
    next(pieces)
    store._connection.execute("DELETE FROM message")
    with pytest.raises(BodyChangedError):
        next(pieces)
