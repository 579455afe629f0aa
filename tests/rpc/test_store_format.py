from __future__ import annotations

import json
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from rpc import store_format
from rpc.recording import end_abandoned
from rpc.store import SqliteStore, StoreError
from rpc.store_format import APPLICATION_ID, STEPS, VERSION
from tests import strict_client

STORES = Path(__file__).parent / "stores"
OLD_SESSION = "01JD8Z7T5M0E9R3Q6W2XKY4ABC"
ANSWERED, SOCKET, HALF = "01JD8Z7V2NDQ31SRQS54PZAQA0", "01JD8Z7V3A267S7YCE3WYRXDDX", "01JD8Z7V4B267S7YCE3WYRXDDX"


def schema(path: Path) -> set[tuple[str, str]]:
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    return {(name, " ".join(sql.split())) for name, sql in rows}


def opens(path: Path) -> None:
    SqliteStore(path).close()


def sql_file(path: Path, script: str) -> Path:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(script)
    return path


def refusal(path: Path) -> str:
    """Return the sentence with which a file is refused, having seen that nothing was changed, or laid beside it."""
    before = path.read_bytes(), path.stat().st_mtime_ns, sorted(path.parent.iterdir())
    with pytest.raises(StoreError) as refused:
        SqliteStore(path)
    assert (path.read_bytes(), path.stat().st_mtime_ns, sorted(path.parent.iterdir())) == before
    return str(refused.value)


# New files


def test_new_store_is_marked_and_checked_by_sqlite(tmp_path: Path) -> None:
    opens(tmp_path / "new.db")
    with closing(sqlite3.connect(tmp_path / "new.db")) as connection:
        assert connection.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
        assert connection.execute("PRAGMA user_version").fetchone() == (VERSION,)
        assert connection.execute("PRAGMA auto_vacuum").fetchone() == (2,)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_nothing_is_left_beside_a_closed_store(tmp_path: Path) -> None:
    opens(tmp_path / "new.db")
    assert list(tmp_path.iterdir()) == [tmp_path / "new.db"]


def test_empty_file_becomes_a_store(tmp_path: Path) -> None:
    path = tmp_path / "empty.db"
    path.touch()
    opens(path)
    opens(tmp_path / "new.db")
    assert schema(path) == schema(tmp_path / "new.db")


def test_store_is_made_on_file_systems_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr("rpc.store_format.os.link", refuse)
    opens(tmp_path / "new.db")
    opens(tmp_path / "new.db")
    assert list(tmp_path.iterdir()) == [tmp_path / "new.db"]


def test_many_that_make_one_store_at_once_share_it(tmp_path: Path) -> None:
    path = tmp_path / "shared.db"
    failures: list[BaseException] = []

    def use(number: int) -> None:
        try:
            with closing(SqliteStore(path)) as store:
                store.open_session(f"session {number}", "", 0.0)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=use, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    with closing(SqliteStore(path)) as store:
        assert len(store.sessions()) == 8


# Foreign and newer files


def test_foreign_database_is_refused_and_not_altered(tmp_path: Path) -> None:
    path = sql_file(tmp_path / "other.db", "CREATE TABLE t (a); INSERT INTO t VALUES (1);")
    assert refusal(path) == f"The file {path} is not a store of entries; it is left as it is."


def test_foreign_database_in_wal_mode_is_refused_and_not_altered(tmp_path: Path) -> None:
    path = sql_file(tmp_path / "other.db", "PRAGMA journal_mode = WAL; CREATE TABLE t (a);")
    assert "is not a store of entries" in refusal(path)


@pytest.mark.parametrize("content", [b"x", b"text " * 100, b"\x1f\x8b" + bytes(200), b"SQLite format 3\x00"])
def test_file_that_is_no_database_is_refused_and_not_altered(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    assert "is not a store of entries" in refusal(path)


def test_newer_store_is_refused_and_not_altered(tmp_path: Path) -> None:
    path = tmp_path / "newer.db"
    opens(path)
    sql_file(path, f"PRAGMA user_version = {VERSION + 1};")
    assert refusal(path) == f"The store {path} was written by a newer version of this program; it is left as it is."


def test_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is not a store of entries"):
        SqliteStore(tmp_path)


def test_store_in_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be used"):
        SqliteStore(tmp_path / "missing" / "new.db")


# Earlier versions


def old_store(tmp_path: Path, version: int) -> Path:
    path = sql_file(tmp_path / "old.db", (STORES / f"version_{version}.sql").read_text())
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (version,)
    return path


def test_every_earlier_version_has_a_file() -> None:
    assert [file.name for file in sorted(STORES.iterdir())] == [f"version_{n}.sql" for n in range(1, VERSION)]


@pytest.mark.parametrize("version", range(1, VERSION))
def test_earlier_version_becomes_this_one(tmp_path: Path, version: int) -> None:
    path = old_store(tmp_path, version)
    opens(path)
    opens(tmp_path / "new.db")
    assert schema(path) == schema(tmp_path / "new.db")
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("PRAGMA user_version").fetchone() == (VERSION,)


@pytest.mark.parametrize("version", range(1, VERSION))
def test_header_of_a_migrated_file_has_the_version_at_once(tmp_path: Path, version: int) -> None:
    path = old_store(tmp_path, version)
    with closing(sqlite3.connect(path)) as other:
        # Who has it open keeps others from moving their log into the file when they close it.
        other.execute("SELECT * FROM session").fetchall()
        with closing(SqliteStore(path)):
            assert path.read_bytes()[60:64] == VERSION.to_bytes(4)


@pytest.mark.parametrize("version", range(1, VERSION))
def test_entries_of_an_earlier_version_are_answered(tmp_path: Path, version: int) -> None:
    with closing(SqliteStore(old_store(tmp_path, version))) as store:
        assert store.sessions() == [(OLD_SESSION, "an old run")]
        assert list(store.entry_ids(OLD_SESSION) or ()) == [[ANSWERED, SOCKET, HALF]]
        body = store.body(OLD_SESSION, ANSWERED, "response")
        assert body is not None
        assert body.data is not None
        assert b"".join(body.data.pieces()) == b"answered"
        assert b'"statusCode":200' in body.entry_json
        status = store.status(OLD_SESSION)
        assert status is not None
        messages = b"".join(store.messages(OLD_SESSION, SOCKET) or ())
        assert b'"hello"' in messages
        assert b'"AAE="' in messages
        comma = 1
        assert (status.entries, status.bytes) == (3, len(b"askedansweredhalf of it") + len(messages) - comma)


def test_unfinished_entries_of_an_earlier_version_are_ended(tmp_path: Path) -> None:
    with closing(SqliteStore(old_store(tmp_path, 1))) as store:
        assert [stored.id for stored, _ in store.unfinished(OLD_SESSION)] == [SOCKET, HALF]
        end_abandoned(store, "another")
        assert store.unfinished(OLD_SESSION) == []
        assert store.unended_sessions() == []
        body = store.body(OLD_SESSION, HALF, "request")
        assert body is not None
        assert body.data is not None
        assert b"".join(body.data.pieces()) == b"half of it"


def test_migration_that_fails_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = old_store(tmp_path, 1)
    before = schema(path)
    monkeypatch.setattr(store_format, "STEPS", (*STEPS[:-1], STEPS[-1] + "CREATE TABLE entry (a);"))
    with pytest.raises(StoreError, match="already exists"):
        SqliteStore(path)
    assert schema(path) == before
    monkeypatch.undo()
    opens(path)


@pytest.mark.parametrize("version", [1, 2])
def test_entries_of_versions_without_summaries_get_them(tmp_path: Path, version: int) -> None:
    with closing(SqliteStore(old_store(tmp_path, version))) as store:
        rows = store.summaries(OLD_SESSION, 0, 10)
        summaries = [json.loads(row.summary.json) for row in rows]
        for summary in summaries:
            strict_client.summary(summary, "summary")
        assert [summary["id"] for summary in summaries] == [ANSWERED, SOCKET, HALF]
        assert [summary["isWebSocket"] for summary in summaries] == [False, True, False]
        assert [summary["statusCode"] for summary in summaries] == [200, 101, None]
        assert (summaries[0]["mimeType"], summaries[0]["duration"], summaries[2]["duration"]) == ("text/plain", 3, None)
        position = store.position(OLD_SESSION, ANSWERED)
        assert position is not None
        assert [row.number for row in store.changes(OLD_SESSION, position.number, position, 10)] == [1]
