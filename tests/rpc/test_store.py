from __future__ import annotations

import random
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from rpc.runs import Run
from rpc.store import PIECE_SIZE, BodyChangedError, BodyData, SqliteStore, StoredEntry, StoredStatus, StoreError

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


# Writing


class FailedError(Exception):
    pass


def put_and_fail(store: SqliteStore) -> None:
    with store.writing():
        put_entry(store, "lost")
        store.put_body(SESSION, "lost", "request", 0, b"data")
        store.put_message(SESSION, "kept", 0, b"data")
        store.put_frame(SESSION, 7)
        raise FailedError


def put_entry(store: SqliteStore, entry_id: str, state: bytes | None = None, json: bytes = b"{}") -> None:
    store.put_entry(SESSION, StoredEntry(entry_id, json, 0, 0, state))


def ids(store: SqliteStore, session: str = SESSION) -> list[str]:
    return [entry_id for page in store.entry_ids(session) or () for entry_id in page]


def test_what_is_put_is_written_together_or_not_at_all(store: SqliteStore) -> None:
    with store.writing():
        put_entry(store, "kept", b"state")
    with pytest.raises(FailedError):
        put_and_fail(store)
    assert ids(store) == ["kept"]
    status = store.status(SESSION)
    assert status is not None
    assert (status.entries, status.bytes) == (1, 0)
    assert store.open_session(SESSION, "name", 0.0) == 0
    with store.writing():
        put_entry(store, "another")
        store.put_body(SESSION, "another", "request", 0, b"data")
        put_entry(store, "kept")
    assert ids(store) == ["kept", "another"]


def test_other_processes_see_what_is_written_when_the_block_ends(store: SqliteStore, tmp_path: Path) -> None:
    with closing(SqliteStore(tmp_path / "entries.db")) as other:
        with store.writing():
            put_entry(store, "entry")
            assert ids(other) == []
        assert ids(other) == ["entry"]


def test_two_processes_write_one_file_in_turns(store: SqliteStore, tmp_path: Path) -> None:
    with closing(SqliteStore(tmp_path / "entries.db")) as other:
        other.open_session("other", "another run", 1.0)
        for number in range(20):
            for writer, session in ((store, SESSION), (other, "other")):
                with writer.writing():
                    entry = StoredEntry(f"{session} {number}", b"{}", 1, None, b"state" if number % 2 else None)
                    writer.put_entry(session, entry)
                    writer.put_body(session, entry.id, "request", 0, b"x")
        assert ids(store) == ids(other) == [f"{SESSION} {number}" for number in range(20)]
        assert ids(store, "other") == [f"other {number}" for number in range(20)]
        assert store.sessions() == [(SESSION, "name"), ("other", "another run")]
        assert [stored.id for stored, _ in store.unfinished("other")] == [f"other {n}" for n in range(1, 20, 2)]


def test_writing_while_another_process_does_so_fails_and_works_afterwards(store: SqliteStore, tmp_path: Path) -> None:
    with closing(SqliteStore(tmp_path / "entries.db")) as other:
        with other.writing():
            other.put_frame(SESSION, 1)
            with pytest.raises(StoreError, match="locked"), store.writing():
                put_entry(store, "entry")
        with store.writing():
            put_entry(store, "entry")
    assert ids(store) == ["entry"]


def test_changed_entry_keeps_its_place(store: SqliteStore) -> None:
    for name, state in (("a", b"1"), ("b", None), ("a", b"2"), ("a", None), ("b", None)):
        with store.writing():
            put_entry(store, name, state, json=b"%r" % name.encode())
    assert ids(store) == ["a", "b"]
    assert store.entry_json(SESSION, "a") == b"b'a'"
    assert store.unfinished(SESSION) == []


def test_finished_entries_are_not_remembered(store: SqliteStore) -> None:
    with store.writing():
        put_entry(store, "open", b"state")
        put_entry(store, "done")
    assert list(store._entry_numbers) == [(SESSION, "open")]
    with store.writing():
        put_entry(store, "open")
    assert not store._entry_numbers


def test_ids_are_read_in_pages_and_what_is_put_meanwhile_comes_at_the_end(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rpc.store.IDS_PER_PAGE", 2)
    for name in "zay":
        put_entry(store, name)
    pages = store.entry_ids(SESSION)
    assert pages is not None
    assert next(pages) == ["z", "a"]
    put_entry(store, "new")
    assert list(pages) == [["y", "new"]]
    assert store.entry_ids("unknown") is None


def test_ids_are_read_from_an_index_alone(store: SqliteStore) -> None:
    sql = "SELECT number, id FROM entry WHERE session = 1 AND number > 5 ORDER BY number LIMIT 10"
    plan = store._connection.execute(f"EXPLAIN QUERY PLAN {sql}").fetchall()
    assert [row[3] for row in plan] == ["SEARCH entry USING COVERING INDEX entry_order (session=? AND number>?)"]


def test_status_counts_what_is_kept(store: SqliteStore) -> None:
    with store.writing():
        put_entry(store, "a")
        put_entry(store, "b")
        put_entry(store, "a")
        store.put_body(SESSION, "a", "request", 0, b"123")
        store.put_body(SESSION, "a", "request", 3, b"45")
        store.put_body(SESSION, "b", "response", 0, b"long")
        store.put_message(SESSION, "b", 0, b"abcdef")
    assert store.status(SESSION) == StoredStatus(2, 15, 0, None, None, 0)
    with store.writing():
        store.put_body(SESSION, "a", "request", 0, b"1")
        store.put_dropped(SESSION, 3, 10.0, 20.0)
    with store.writing():
        store.put_dropped(SESSION, 4, 30.0, 40.0)
    assert store.status(SESSION) == StoredStatus(2, 11, 7, 10.0, 40.0, 0)
    assert store.status("unknown") is None


def test_session_goes_on_after_its_last_stored_frame(store: SqliteStore) -> None:
    run = Run(1, 2.0)
    assert store.open_session("run", "name", 0.0, run) == 0
    with store.writing():
        store.put_frame("run", 41)
        store.put_fact("run", 1, b"old")
        store.put_fact("run", 2, b"gone")
        store.put_fact("run", 1, b"new")
        store.put_fact("run", 2, None)
    assert store.open_session("run", "another name", 0.0, run) == 41
    assert store.facts("run") == [(1, b"new")]
    assert store.unended_sessions() == [(SESSION, None), ("run", run)]
    with store.writing():
        store.end_session("run", 1.0)
    assert store.facts("run") == []
    assert store.unended_sessions() == [(SESSION, None)]
    assert ("run", "name") in store.sessions()


# On the disk


def test_what_is_synced_is_in_the_file_itself(store: SqliteStore, tmp_path: Path) -> None:
    with store.writing():
        put_entry(store, "entry")
    store.sync()
    shutil.copy(tmp_path / "entries.db", tmp_path / "alone.db")
    with closing(SqliteStore(tmp_path / "alone.db")) as alone:
        assert ids(alone) == ["entry"]


def test_sync_writes_the_log_when_a_reader_keeps_it_from_being_moved(
    store: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr("rpc.store.os.fsync", synced.append)
    with closing(sqlite3.connect(tmp_path / "entries.db", isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM session").fetchall()
        with store.writing():
            put_entry(store, "entry")
        store.sync()
        assert synced
        reader.execute("COMMIT")
    synced.clear()
    store.sync()
    assert not synced


def test_log_cut_off_anywhere_leaves_a_sound_store_with_what_came_first(tmp_path: Path) -> None:
    """What a power failure leaves: the file as it was synced, and a part of the log."""
    path, log = tmp_path / "entries.db", tmp_path / "entries.db-wal"
    store = SqliteStore(path)
    store.open_session(SESSION, "name", 0.0)
    for number in range(20):
        with store.writing():
            store.put_entry(SESSION, StoredEntry(str(number), b"{}", 5000, None, None))
            store.put_body(SESSION, str(number), "request", 0, bytes([number]) * 5000)
        if number == 4:
            store.sync()
    whole, tail = path.read_bytes(), log.read_bytes()
    store.close()
    chance = random.Random(0)
    for _ in range(30):
        cut = tmp_path / "cut.db"
        cut.write_bytes(whole)
        (tmp_path / "cut.db-wal").write_bytes(tail[: chance.randrange(len(tail))])
        with closing(SqliteStore(cut)) as after:
            assert after._connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            found = ids(after)
            assert found == [str(number) for number in range(len(found))]
            for entry_id in found:
                kept = after.body(SESSION, entry_id, "request")
                assert kept is not None
                assert kept.data is not None
                assert b"".join(kept.data.pieces()) == bytes([int(entry_id)]) * 5000
        cut.unlink()
    store = SqliteStore(path)
    assert len(ids(store)) == 20
    store.close()


def test_power_failure_cannot_harm_a_durable_store_and_need_not_spare_another(tmp_path: Path) -> None:
    normal, off = (1,), (0,)
    for durable, synchronous in ((True, normal), (False, off)):
        with closing(SqliteStore(tmp_path / "entries.db", durable=durable)) as opened:
            for connection in (opened._connection, opened._syncing):
                assert connection.execute("PRAGMA synchronous").fetchone() == synchronous
                assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
