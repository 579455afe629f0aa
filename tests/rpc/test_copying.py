from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from rpc import copying
from rpc.bodyfiles import LARGE_BYTES, folder_of
from rpc.copying import copy_store
from rpc.store import SqliteStore, StoredEntry, StoreError

SESSION = "session"
LARGE = bytes(range(256)) * (LARGE_BYTES // 128)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    with closing(SqliteStore(tmp_path / "used.db")) as store:
        store.open_session(SESSION, "name", 0.0)
        yield store


def put(store: SqliteStore, entry_id: str, data: bytes, *, start: int = 0, state: bytes | None = None) -> None:
    with store.writing():
        store.put_entry(SESSION, StoredEntry(entry_id, b"{}", None, start + len(data), state))
        store.put_body(SESSION, entry_id, "response", start, data)


def read(path: Path, entry_id: str) -> bytes | None:
    with closing(SqliteStore(path)) as store:
        stored = store.body(SESSION, entry_id, "response")
        assert stored is not None
        return None if stored.data is None else b"".join(stored.data.pieces())


def test_copy_of_a_store_in_use_has_all_that_it_had_then(store: SqliteStore, tmp_path: Path) -> None:
    put(store, "small", b"small")
    put(store, "large", LARGE)
    put(store, "growing", LARGE, state=b"open")
    copy_store(tmp_path / "used.db", tmp_path / "copy.db")
    put(store, "growing", b"more", start=len(LARGE))
    put(store, "later", b"later")
    copy = tmp_path / "copy.db"
    assert [read(copy, entry) for entry in ("small", "large", "growing")] == [b"small", LARGE, LARGE]
    with closing(SqliteStore(copy)) as opened:
        assert list(opened.entry_ids(SESSION) or ()) == [["small", "large", "growing"]]


def test_copy_does_not_grow_with_a_body_that_is_still_coming(store: SqliteStore, tmp_path: Path) -> None:
    put(store, "growing", LARGE, state=b"open")
    copy_store(tmp_path / "used.db", tmp_path / "copy.db")
    put(store, "growing", b"more", start=len(LARGE))
    (file,) = folder_of(tmp_path / "copy.db").iterdir()
    assert file.read_bytes() == LARGE


def test_copy_outlives_its_original(store: SqliteStore, tmp_path: Path) -> None:
    put(store, "large", LARGE)
    copy_store(tmp_path / "used.db", tmp_path / "copy.db")
    put(store, "large", b"replaced")
    assert not list(folder_of(tmp_path / "used.db").iterdir())
    assert read(tmp_path / "copy.db", "large") == LARGE


def test_copy_to_another_file_system_has_files_of_its_own(
    store: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    put(store, "large", LARGE)
    monkeypatch.setattr("rpc.copying.os.link", refuse)
    copy_store(tmp_path / "used.db", tmp_path / "copy.db")
    assert read(tmp_path / "copy.db", "large") == LARGE


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such permissions")
def test_copy_is_private(store: SqliteStore, tmp_path: Path) -> None:
    put(store, "large", LARGE)
    put(store, "growing", LARGE, state=b"open")
    copy_store(tmp_path / "used.db", tmp_path / "copy.db")
    folder = folder_of(tmp_path / "copy.db")
    assert all(path.stat().st_mode & 0o077 == 0 for path in (tmp_path / "copy.db", folder, *folder.iterdir()))


def test_copy_without_large_bodies_is_one_file(store: SqliteStore, tmp_path: Path) -> None:
    put(store, "small", b"small")
    (tmp_path / "to").mkdir()
    copy_store(tmp_path / "used.db", tmp_path / "to" / "copy.db")
    assert list((tmp_path / "to").iterdir()) == [tmp_path / "to" / "copy.db"]


def test_body_that_is_given_up_while_it_is_copied_leaves_a_copy_as_it_is_afterwards(
    store: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, "large", LARGE)
    copy_database = copying._copy_database

    def replaced_meanwhile(source: Path, new: Path) -> None:
        copy_database(source, new)
        put(store, "large", b"replaced")

    monkeypatch.setattr(copying, "_copy_database", replaced_meanwhile)
    copy_store(tmp_path / "used.db", tmp_path / "copy.db")
    assert read(tmp_path / "copy.db", "large") == b"replaced"


def test_body_whose_file_is_missing_is_not_kept_in_the_copy(store: SqliteStore, tmp_path: Path) -> None:
    put(store, "large", LARGE)
    put(store, "small", b"small")
    shutil.rmtree(folder_of(tmp_path / "used.db"))
    copy_store(tmp_path / "used.db", tmp_path / "copy.db")
    assert read(tmp_path / "copy.db", "large") is None
    assert read(tmp_path / "copy.db", "small") == b"small"


def test_store_of_an_earlier_version_is_copied_as_one_of_this(tmp_path: Path) -> None:
    source = tmp_path / "old.db"
    with closing(sqlite3.connect(source)) as connection:
        connection.executescript((Path(__file__).parent / "stores" / "version_1.sql").read_text())
    copy_store(source, tmp_path / "copy.db")
    assert source.read_bytes()[60:64] == (1).to_bytes(4)
    with closing(SqliteStore(tmp_path / "copy.db")) as copy:
        assert [name for _, name in copy.sessions()] == ["an old run"]


@pytest.mark.parametrize("taken", ["copy.db", "copy.db-bodies"])
def test_nothing_is_written_over(store: SqliteStore, tmp_path: Path, taken: str) -> None:
    put(store, "large", LARGE)
    (tmp_path / taken).mkdir()
    with pytest.raises(StoreError, match="File exists"):
        copy_store(tmp_path / "used.db", tmp_path / "copy.db")
    assert not [file for file in tmp_path.iterdir() if ".new" in file.name]
    assert not list((tmp_path / taken).iterdir())


def test_what_is_no_store_is_not_copied(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("text")
    with pytest.raises(StoreError, match="is not a store of entries"):
        copy_store(tmp_path / "text", tmp_path / "copy.db")
    with pytest.raises(StoreError, match="No such file"):
        copy_store(tmp_path / "missing", tmp_path / "copy.db")
    assert list(tmp_path.iterdir()) == [tmp_path / "text"]


def test_command_copies_a_store_and_says_why_it_cannot(store: SqliteStore, tmp_path: Path) -> None:
    put(store, "large", LARGE)
    command = [sys.executable, "-m", "rpc", "copy", str(tmp_path / "used.db"), str(tmp_path / "copy.db")]
    assert subprocess.run(command, capture_output=True, check=True).stderr == b""
    assert read(tmp_path / "copy.db", "large") == LARGE
    again = subprocess.run(command, capture_output=True, check=False, text=True)
    assert again.returncode == 1
    assert again.stderr.endswith("File exists.\n")
    assert again.stderr.count("\n") == 1
