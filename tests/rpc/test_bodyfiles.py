from __future__ import annotations

import errno
import os
import random
import shutil
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from rpc import bodyfiles
from rpc.bodyfiles import LARGE_BYTES, folder_of
from rpc.store import PIECE_SIZE, BodyChangedError, BodyData, SqliteStore, StoredEntry, StoreError

SESSION, ENTRY = "session", "entry"
CHUNK = 256 * 1024
DATA = random.Random(0).randbytes(3 * LARGE_BYTES + 12345)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    with closing(opened(tmp_path)) as store:
        yield store


def opened(tmp_path: Path, *, max_bytes: int | None = None, durable: bool = True) -> SqliteStore:
    store = SqliteStore(tmp_path / "entries.db", durable=durable, max_bytes=max_bytes)
    store.open_session(SESSION, "name", 0.0)
    return store


def put(store: SqliteStore, data: bytes = DATA, *, start: int = 0, entry: str = ENTRY, chunk: int = CHUNK) -> None:
    """Put a body in chunks, each in a transaction of its own."""
    for begin in range(0, len(data), chunk):
        piece = data[begin : begin + chunk]
        with store.writing():
            store.put_entry(SESSION, StoredEntry(entry, b"{}", None, start + begin + len(piece), b"open"))
            store.put_body(SESSION, entry, "response", start + begin, piece)


def find(store: SqliteStore, entry: str = ENTRY) -> BodyData | None:
    stored = store.body(SESSION, entry, "response")
    assert stored is not None
    return stored.data


def read(store: SqliteStore, entry: str = ENTRY) -> bytes | None:
    body = find(store, entry)
    return None if body is None else b"".join(body.pieces())


def files(tmp_path: Path) -> list[Path]:
    folder = folder_of(tmp_path / "entries.db")
    return sorted(folder.iterdir()) if folder.exists() else []


def stored_bytes(store: SqliteStore) -> int:
    status = store.status(SESSION)
    assert status is not None
    return status.bytes


# Writing and reading


@pytest.mark.parametrize("chunk", [1000, CHUNK, LARGE_BYTES, LARGE_BYTES + 1, len(DATA)])
def test_large_body_is_read_as_it_was_put_however_it_came(store: SqliteStore, chunk: int, tmp_path: Path) -> None:
    with store.writing():
        put_at_once(store, chunk)
    body = find(store)
    assert body is not None
    pieces = list(body.pieces())
    assert b"".join(pieces) == DATA
    assert body.size == len(DATA)
    assert all(len(piece) < 2 * PIECE_SIZE for piece in pieces if chunk <= PIECE_SIZE)
    assert len(files(tmp_path)) == 1
    assert stored_bytes(store) == len(DATA)


def put_at_once(store: SqliteStore, chunk: int) -> None:
    store.put_entry(SESSION, StoredEntry(ENTRY, b"{}", None, len(DATA), None))
    for begin in range(0, len(DATA), chunk):
        store.put_body(SESSION, ENTRY, "response", begin, DATA[begin : begin + chunk])


def test_body_is_in_the_database_until_it_is_large(store: SqliteStore, tmp_path: Path) -> None:
    put(store, DATA[:LARGE_BYTES])
    assert files(tmp_path) == []
    put(store, DATA[LARGE_BYTES:], start=LARGE_BYTES)
    assert [file.stat().st_size for file in files(tmp_path)] == [len(DATA) - LARGE_BYTES]
    assert read(store) == DATA


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such permissions")
def test_files_and_their_folder_are_private(store: SqliteStore, tmp_path: Path) -> None:
    put(store)
    (file,) = files(tmp_path)
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700


def test_sides_of_an_entry_have_files_of_their_own(store: SqliteStore, tmp_path: Path) -> None:
    put(store)
    with store.writing():
        store.put_entry(SESSION, StoredEntry(ENTRY, b"{}", len(DATA), len(DATA), None))
        store.put_body(SESSION, ENTRY, "request", 0, DATA[::-1])
    request = store.body(SESSION, ENTRY, "request")
    assert request is not None
    assert request.data is not None
    assert b"".join(request.data.pieces()) == DATA[::-1]
    assert read(store) == DATA
    assert len(files(tmp_path)) == 2


def test_body_that_grows_is_read_as_it_was_when_it_was_asked_for(store: SqliteStore) -> None:
    put(store, DATA[: 2 * LARGE_BYTES])
    body = find(store)
    assert body is not None
    pieces = body.pieces()
    first = next(pieces)
    put(store, DATA[2 * LARGE_BYTES :], start=2 * LARGE_BYTES)
    assert first + b"".join(pieces) == DATA[: 2 * LARGE_BYTES]
    assert read(store) == DATA


def test_body_that_is_replaced_gives_its_space_back_and_is_told_from_what_it_was(
    store: SqliteStore, tmp_path: Path
) -> None:
    put(store)
    body = find(store)
    assert body is not None
    pieces = body.pieces()
    next(pieces)
    (before,) = files(tmp_path)
    put(store, DATA[::-1])
    assert read(store) == DATA[::-1]
    assert before not in files(tmp_path)
    assert stored_bytes(store) == len(DATA)
    with pytest.raises(BodyChangedError):
        list(pieces)
    put(store, b"small")
    assert read(store) == b"small"
    assert files(tmp_path) == []
    assert stored_bytes(store) == len(b"small")
    assert store._connection.execute("SELECT file_bytes FROM eviction").fetchone() == (0,)


def test_body_that_another_process_replaces_is_told_from_what_it_was(store: SqliteStore, tmp_path: Path) -> None:
    put(store, DATA, chunk=len(DATA))
    with closing(SqliteStore(tmp_path / "entries.db")) as other:
        assert read(other) == DATA
        body = find(other)
        assert body is not None
        pieces = body.pieces()
        next(pieces)
        put(store, DATA[::-1], chunk=len(DATA))
        with pytest.raises(BodyChangedError):
            next(pieces)


def test_piece_that_is_put_again_is_there_once(store: SqliteStore) -> None:
    put(store)
    put(store, DATA[2 * LARGE_BYTES :], start=2 * LARGE_BYTES)
    assert read(store) == DATA
    assert stored_bytes(store) == len(DATA)


def test_piece_behind_a_gap_is_not_read(store: SqliteStore) -> None:
    put(store, DATA[: 2 * LARGE_BYTES])
    put(store, b"x" * CHUNK, start=2 * LARGE_BYTES + 1)
    assert read(store) == DATA[: 2 * LARGE_BYTES]


# Transactions


def test_body_goes_on_in_another_process(tmp_path: Path) -> None:
    store = opened(tmp_path)
    put(store, DATA[: 2 * LARGE_BYTES])
    with closing(opened(tmp_path)) as other:
        put(other, DATA[2 * LARGE_BYTES :], start=2 * LARGE_BYTES)
        assert read(other) == DATA
    store.close()
    assert len(files(tmp_path)) == 1


class FailedError(Exception):
    pass


def put_and_fail(store: SqliteStore, data: bytes, start: int = 0) -> None:
    with store.writing():
        store.put_entry(SESSION, StoredEntry(ENTRY, b"{}", None, start + len(data), None))
        store.put_body(SESSION, ENTRY, "response", start, data)
        raise FailedError


def test_what_is_not_committed_takes_no_space(store: SqliteStore, tmp_path: Path) -> None:
    with pytest.raises(FailedError):
        put_and_fail(store, DATA)
    assert files(tmp_path) == []
    put(store, DATA[: 2 * LARGE_BYTES])
    with pytest.raises(FailedError):
        put_and_fail(store, b"x" * LARGE_BYTES, start=2 * LARGE_BYTES)
    assert [file.stat().st_size for file in files(tmp_path)] == [LARGE_BYTES]
    assert read(store) == DATA[: 2 * LARGE_BYTES]
    with pytest.raises(FailedError):
        put_and_fail(store, b"x" * 2 * LARGE_BYTES)
    assert read(store) == DATA[: 2 * LARGE_BYTES]
    put(store, DATA[2 * LARGE_BYTES :], start=2 * LARGE_BYTES)
    assert read(store) == DATA


def test_disk_that_is_full_is_trouble_with_the_store(
    store: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, DATA[: 2 * LARGE_BYTES])

    def fill(written: bodyfiles._Written, start: int, data: bytes) -> int:
        write(written, start, data[:1000])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    write = bodyfiles._Written.write
    monkeypatch.setattr(bodyfiles._Written, "write", fill)
    with pytest.raises(StoreError, match=r"No space left on device\.$"):
        put(store, DATA[2 * LARGE_BYTES :], start=2 * LARGE_BYTES)
    assert [file.stat().st_size for file in files(tmp_path)] == [LARGE_BYTES]
    monkeypatch.undo()
    put(store, DATA[2 * LARGE_BYTES :], start=2 * LARGE_BYTES)
    assert read(store) == DATA


def test_files_that_nothing_tells_of_are_removed_when_the_store_is_opened(store: SqliteStore, tmp_path: Path) -> None:
    put(store)
    folder = folder_of(tmp_path / "entries.db")
    (folder / f"7-response-{'0' * 16}").write_bytes(b"left by a process that was killed")
    (folder / "something else").write_bytes(b"not ours")
    with closing(SqliteStore(tmp_path / "entries.db")) as other:
        assert read(other) == DATA
    assert len(files(tmp_path)) == 2
    assert (folder / "something else").exists()


def test_files_of_a_transaction_under_way_are_not_removed(store: SqliteStore, tmp_path: Path) -> None:
    with store.writing():
        put_at_once(store, CHUNK)
        SqliteStore(tmp_path / "entries.db").close()
    assert read(store) == DATA


# The bound


def test_files_are_counted_and_the_oldest_given_up(tmp_path: Path) -> None:
    with closing(opened(tmp_path, max_bytes=16 * LARGE_BYTES, durable=False)) as store:
        for number in range(12):
            put(store, entry=str(number))
            while store.evict():
                pass
            store.sync()
            on_disk = sum(file.stat().st_size for file in (*files(tmp_path), *tmp_path.glob("entries.db*[bl]")))
            assert on_disk <= store.size().bytes <= 17 * LARGE_BYTES
        bodies = [read(store, str(number)) for number in range(12)]
        kept = [body is not None for body in bodies]
        assert kept == sorted(kept)
        assert 2 <= sum(kept) <= 5
        assert all(body in (None, DATA) for body in bodies)
        status = store.status(SESSION)
        assert status is not None
        assert status.bytes == sum(kept) * len(DATA)
        assert status.bytes + status.evicted == 12 * len(DATA)
        assert len(files(tmp_path)) == sum(kept)


def test_body_that_is_larger_than_the_store_is_given_up_while_it_comes(tmp_path: Path) -> None:
    with closing(opened(tmp_path, max_bytes=8 * LARGE_BYTES, durable=False)) as store:
        for number in range(20):
            put(store, bytes(LARGE_BYTES), start=number * LARGE_BYTES)
            while store.evict():
                pass
            assert sum(file.stat().st_size for file in files(tmp_path)) <= 8 * LARGE_BYTES
        assert read(store) is None
        assert files(tmp_path) == []


# The power


def test_what_is_synced_is_on_the_disk_before_the_database_tells_of_it(
    store: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []

    def note(descriptor: int) -> None:
        order.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)

    if not Path("/proc/self/fd").exists():
        pytest.skip("the system does not say what a descriptor is")
    put(store)
    monkeypatch.setattr("rpc.bodyfiles.os.fsync", note)
    log = (tmp_path / "entries.db").read_bytes()
    store.sync()
    (file,) = files(tmp_path)
    assert order[:3] == [file.name, file.parent.name, tmp_path.name]
    assert (tmp_path / "entries.db").read_bytes() != log
    order.clear()
    store.sync()
    assert order == []


def test_sync_that_fails_is_made_up_for(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    put(store)
    monkeypatch.setattr("rpc.bodyfiles.os.fsync", fail)
    with pytest.raises(StoreError, match="Input/output error"):
        store.sync()
    synced: list[int] = []
    monkeypatch.setattr("rpc.bodyfiles.os.fsync", synced.append)
    store.sync()
    assert synced


def test_file_that_is_shorter_than_it_should_be_gives_what_is_there(store: SqliteStore, tmp_path: Path) -> None:
    put(store)
    (file,) = files(tmp_path)
    os.truncate(file, 5000)
    assert read(store) == DATA[: LARGE_BYTES + 5000]
    put(store, b"x" * CHUNK, start=len(DATA))
    assert read(store) == DATA[: LARGE_BYTES + 5000]


def test_body_whose_file_is_missing_is_not_kept(store: SqliteStore, tmp_path: Path) -> None:
    put(store)
    shutil.rmtree(folder_of(tmp_path / "entries.db"))
    assert find(store) is None
    put(store, b"x" * CHUNK, start=len(DATA))
    assert find(store) is None
    put(store)
    assert read(store) == DATA
