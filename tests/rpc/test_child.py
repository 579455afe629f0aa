"""The recorder's process alone, told over its pipe."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import shutil
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect as connect_async
from websockets.sync.client import connect

from rpc import records
from rpc.records import EntryEnded, MessageReceived, ResponseFinished
from rpc.store import SqliteStore
from tests.peers.api import Api, eventually
from tests.peers.recorder import SESSION, FailedError, Recorder, answered, configuration, recorder, started

IDS = [f"01JD8Z7V2NDQ31SRQS54PZ{number:04d}" for number in range(1000)]
OTHER_SESSION = "01JD8Z7T5M0E9R3Q6W2XKY4ABD"


def whole(entry: str, body: bytes) -> Iterator[records.Captured]:
    yield from started(entry)
    yield from answered(entry, [body])


def ids(store: SqliteStore, session: str = SESSION) -> list[str]:
    return [entry_id for page in store.entry_ids(session) or () for entry_id in page]


def body(store: SqliteStore, entry: str) -> bytes | None:
    stored = store.body(SESSION, entry, "response")
    assert stored is not None
    return None if stored.data is None else b"".join(stored.data.pieces())


def status(url: str, session: str = SESSION) -> Any:
    with Api(url) as api:
        return api.call("sessions/get_status", sessionId=session)


def is_sound(path: Path) -> bool:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


# The end of the pipe


def test_everything_that_reached_the_pipe_is_stored_when_it_ends(tmp_path: Path) -> None:
    with recorder(tmp_path / "entries.db") as recording:
        for entry in IDS[:200]:
            recording.send(*whole(entry, b"x" * 10_000))
        recording.send(*started(IDS[200]), next(answered(IDS[200], [])))
        assert recording.end() == 0
        assert recording.stored == 201
    with closing(SqliteStore(tmp_path / "entries.db")) as store:
        assert ids(store) == IDS[:201]
        assert store.unfinished(SESSION) == []
        assert store.unended_sessions() == []
        assert {body(store, entry) for entry in IDS[:200]} == {b"x" * 10_000}
        assert body(store, IDS[200]) is None


def test_frame_that_the_end_of_the_pipe_cuts_off_costs_no_other(tmp_path: Path) -> None:
    with recorder(tmp_path / "entries.db") as recording:
        recording.send(*whole(IDS[0], b"whole"))
        frame = records.encode(records.Frame(2, list(whole(IDS[1], b"cut off"))))
        recording._pipe.write(frame[:-1])
        assert recording.end() == 0
    with closing(SqliteStore(tmp_path / "entries.db")) as store:
        assert ids(store) == IDS[:1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_that_end_a_group_do_not_end_it_before_its_pipe(tmp_path: Path, number: signal.Signals) -> None:
    with recorder(tmp_path / "entries.db") as recording:
        recording.process.send_signal(number)
        recording.tell(whole(IDS[0], b"after the signal"))
        assert recording.end() == 0


def test_pipe_that_ends_before_it_says_anything_ends_it() -> None:
    done = subprocess.run([sys.executable, "-m", "rpc"], input=b"", capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_frame_that_cannot_be_read_costs_no_other(tmp_path: Path) -> None:
    with recorder(tmp_path / "entries.db") as recording:
        recording._pipe.write((3).to_bytes(4) + b"\xc1\xc1\xc1")
        recording.tell(whole(IDS[0], b""))
        assert any("a frame cannot be read" in line for line in recording.logged)


# Crashes


def test_successor_goes_on_with_the_session_on_the_same_port(tmp_path: Path) -> None:
    path = tmp_path / "entries.db"
    with recorder(path) as first:
        first.tell([*started(IDS[0]), *whole(IDS[1], b"done")])
        port, url = first.port, first.url
        first.kill()
    with recorder(path, how=configuration(path, port=port), first_frame=first.stored + 1) as second:
        assert second.url == url
        assert second.stored == first.stored
        second.tell(answered(IDS[0], [b"answered by", b" then"]))
        with Api(url) as api:
            assert api.entry_ids(SESSION) == IDS[:2]
            assert api.call("sessions/get_response_body", sessionId=SESSION, entryId=IDS[0], encoding="text") == (
                "answered by then"
            )
        second.end()
    assert is_sound(path)


def test_frames_are_applied_once_however_often_they_are_sent(tmp_path: Path) -> None:
    path = tmp_path / "entries.db"
    socket_opens = ResponseFinished(IDS[0], 0.0, None, b"", 0, (), websocket=True, ended=False)
    opening: list[records.Captured] = [*started(IDS[0]), next(answered(IDS[0], [])), socket_opens]
    messages: list[records.Captured] = [
        MessageReceived(IDS[0], True, "text", b"%d" % number, None, 0.0) for number in range(50)
    ]
    frames = [opening, *([message] for message in messages)]
    confirmed = 0
    for attempt in range(6):
        with recorder(path, first_frame=1) as recording:
            assert recording.stored >= confirmed, "what was acknowledged is stored"
            for number, frame in enumerate(frames, 1):
                if number > confirmed:
                    recording.send(*frame, number=number)
            if attempt < 5:
                recording.wait_for(min(confirmed + 8, len(frames)))
                recording.kill()
                confirmed = recording.stored
            else:
                recording.end()
    with closing(SqliteStore(path)) as store:
        found = json.loads(b"[" + b"".join(store.messages(SESSION, IDS[0]) or ()) + b"]")
    assert [message["payload"]["text"] for message in found] == [str(number) for number in range(50)]


def test_sessions_that_were_left_unended_are_ended_by_the_next_to_open_the_store(tmp_path: Path) -> None:
    path = tmp_path / "entries.db"
    # Its parent is a process of its own, which is gone afterwards, as a proxy that was killed is.
    code = (
        "import sys; from pathlib import Path; from tests.peers.recorder import *\n"
        "with recorder(Path(sys.argv[1])) as recording:\n"
        f"    recording.tell(started({IDS[0]!r})); recording.kill()\n"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=True)
    with closing(SqliteStore(path)) as store:
        assert len(store.unfinished(SESSION)) == 1
    with recorder(path, how=configuration(path, session=OTHER_SESSION)) as recording:
        recording.end()
    with closing(SqliteStore(path)) as store:
        assert store.unfinished(SESSION) == []
        assert [session for session, _ in store.sessions()] == [SESSION, OTHER_SESSION]


def test_two_processes_share_a_store(tmp_path: Path) -> None:
    path = tmp_path / "entries.db"
    other = configuration(path, session=OTHER_SESSION)
    with recorder(path) as one, recorder(how=other) as two:
        for entry in IDS[:100]:
            one.send(*whole(entry, b"one"))
            two.send(*whole(entry, b"two"))
        one.wait_for(100)
        two.wait_for(100)
        for asked in (one, two):
            with Api(asked.url) as api:
                assert api.entry_ids(SESSION) == api.entry_ids(OTHER_SESSION) == IDS[:100]
                assert len(api.call("sessions/list")) == 2
        assert not one.logged
        assert not two.logged
        one.end()
        two.end()
    assert is_sound(path)


# The temporary store


def test_temporary_store_is_private_and_gone_at_the_end() -> None:
    previous = os.umask(0)
    try:
        with recorder() as recording:
            recording.tell(whole(IDS[0], b"secret"))
            folder = recording.store.parent
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
            assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o600}
            recording.end()
            assert not folder.exists()
    finally:
        os.umask(previous)


def test_temporary_store_outlives_its_process_and_goes_with_the_last_one() -> None:
    how = configuration()
    with recorder(how=how) as first:
        first.tell(whole(IDS[0], b"kept"))
        first.kill()
    folder = first.store.parent
    assert folder.exists()
    with recorder(how=how) as second:
        with Api(second.url) as api:
            assert api.entry_ids(SESSION) == IDS[:1]
        second.end()
    assert not folder.exists()


@pytest.mark.parametrize("trap", ["link", "open", "file"])
def test_folder_that_somebody_else_made_is_not_used(tmp_path: Path, trap: str) -> None:
    how = configuration()
    folder = Path(how.store).parent
    target = tmp_path / "target"
    target.mkdir(mode=0o700)
    if trap == "link":
        folder.symlink_to(target)
    elif trap == "open":
        folder.mkdir(mode=0o755)
        folder.chmod(0o755)
    else:
        folder.touch()
    try:
        with pytest.raises(FailedError, match="not private"), recorder(how=how):
            pass
        assert list(target.iterdir()) == []
        assert folder.is_symlink() or folder.exists()
    finally:
        folder.unlink() if trap != "open" else folder.rmdir()


def test_store_file_of_the_user_is_private_too(tmp_path: Path) -> None:
    with recorder(tmp_path / "entries.db") as recording:
        recording.tell(whole(IDS[0], b""))
        assert {stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()} == {0o600}
        recording.end()


# Failures at the start


def failure(how: records.Configuration) -> str:
    with pytest.raises(FailedError) as failed, recorder(how=how):
        pass
    return str(failed.value)


def test_port_in_use_is_said_in_one_sentence(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = failure(configuration(tmp_path / "entries.db", port=port))
    assert said.startswith(f"The endpoint cannot listen on 127.0.0.1:{port} (rpc_listen_port)")


def test_store_that_cannot_be_used_is_said_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a database")
    assert failure(configuration(tmp_path / "file")) == (
        f"The file {tmp_path / 'file'} is not a store of entries; it is left as it is."
    )
    assert (tmp_path / "file").read_text() == "not a database"


# The disk


def test_what_was_stored_is_on_the_disk_soon(tmp_path: Path) -> None:
    """The file alone, without its log, is what a power failure is sure to leave."""
    path = tmp_path / "entries.db"

    def on_the_disk() -> list[str]:
        copy = tmp_path / "copy" / "entries.db"
        shutil.rmtree(copy.parent, ignore_errors=True)
        copy.parent.mkdir()
        shutil.copy(path, copy)
        with closing(SqliteStore(copy)) as store:
            return ids(store)

    with recorder(path) as recording:
        recording.tell(whole(IDS[0], b"x"))
        eventually(on_the_disk, lambda found: found == IDS[:1])
        recording.end()


@contextlib.contextmanager
def small_disk(path: Path, size: str) -> Iterator[Path]:
    """Mount a small disk of memory."""
    path.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        message = f"no disk can be mounted: {mounted.stderr}"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def tell_until(recording: Recorder, entries: Iterator[str], fits: Callable[[Any], bool]) -> list[str]:
    """Tell of entries, one every few milliseconds, until the status fits; return their ids."""
    told = []
    deadline = time.monotonic() + 60
    while not fits(status(recording.url)):
        assert time.monotonic() < deadline, status(recording.url)
        entry = next(entries)
        told.append(entry)
        recording.wait_for(recording.send(*whole(entry, entry.encode() * 2000)))
    return told


def test_full_disk_is_survived_and_what_it_cost_is_counted(tmp_path: Path) -> None:
    entries = iter(IDS)
    with small_disk(tmp_path / "disk", "4m") as disk, recorder(disk / "entries.db") as recording:
        filler = disk / "filler"
        before = [next(entries) for _ in range(5)]
        for entry in before:
            recording.tell(whole(entry, entry.encode() * 2000))
        with filler.open("wb") as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))
                file.flush()
        full = tell_until(recording, entries, lambda now: not now["isStored"] and now["dropped"] > 3)
        filler.unlink()
        again = tell_until(recording, entries, lambda now: now["isStored"] and now["droppedUntil"])
        after = [next(entries) for _ in range(5)]
        for entry in after:
            recording.tell(whole(entry, entry.encode() * 2000))
        now = status(recording.url)
        assert now["droppedSince"] <= now["droppedUntil"]
        told = [*before, *full, *again, *after]
        assert now["entries"] + now["dropped"] == len(told)
        with Api(recording.url) as api:
            stored = api.entry_ids(SESSION)
            assert stored[: len(before)] == before
            assert stored[-len(after) :] == after
            for entry in stored:
                text = api.call("sessions/get_response_body", sessionId=SESSION, entryId=entry, encoding="text")
                assert text == entry * 2000
        recording.end()
        stopped = [line for line in recording.logged if "Recording has stopped" in line]
        goes_on = [line for line in recording.logged if "Recording goes on" in line]
        assert (len(stopped), len(goes_on)) == (1, 1)
        assert "full" in stopped[0]
        assert is_sound(disk / "entries.db")


def test_failing_disk_is_survived(tmp_path: Path) -> None:
    """A limit on the size of files makes the system refuse writes as a broken disk does, with SQLite's I/O error."""
    entries = iter(IDS)
    with recorder(tmp_path / "entries.db") as recording:
        recording.tell(whole(next(entries), b""))
        previous = resource.prlimit(recording.pid, resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
        lost = tell_until(recording, entries, lambda now: not now["isStored"] and now["dropped"] > 0)
        assert lost
        resource.prlimit(recording.pid, resource.RLIMIT_FSIZE, previous)
        tell_until(recording, entries, lambda now: now["isStored"])
        recording.end()
        assert sum("disk I/O error" in line for line in recording.logged) == 1
    assert is_sound(tmp_path / "entries.db")


def test_store_that_another_process_locks_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "entries.db"
    with recorder(path) as recording, closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        number = recording.send(*whole(IDS[0], b"waited"))
        with Api(recording.url) as api:
            assert api.entry_ids(SESSION) == []
        other.execute("ROLLBACK")
        recording.wait_for(number)
        now = status(recording.url)
        assert (now["entries"], now["dropped"], now["isStored"]) == (1, 0, True)
        recording.end()
        assert not recording.logged


def test_store_stays_within_its_bound_under_load(tmp_path: Path) -> None:
    path = tmp_path / "entries.db"
    limit = 16 * 2**20
    with recorder(path, how=configuration(path, max_disk=limit)) as recording:
        for start in range(0, 1000, 50):
            for entry in IDS[start : start + 50]:
                recording.send(*whole(entry, entry.encode() * 2000))
            recording.wait_for(start + 50)
        now = eventually(lambda: status(recording.url), lambda now: now["storeBytes"] <= limit)
        assert now["storeLimit"] == limit
        assert now["entries"] == 1000
        assert now["evictedBytes"] + now["bytes"] == 1000 * 2000 * len(IDS[0])
        with Api(recording.url) as api:
            assert api.entry_ids(SESSION) == IDS
            bodies = [
                api.call("sessions/get_response_body", sessionId=SESSION, entryId=entry, encoding="text")
                for entry in IDS
            ]
        kept = [text is not None for text in bodies]
        assert kept == sorted(kept)
        assert any(kept)
        assert all(text in {None, entry * 2000} for text, entry in zip(bodies, IDS, strict=True))
        recording.end()
    assert is_sound(path)


# Answers


def test_many_ids_do_not_keep_others_waiting(tmp_path: Path) -> None:
    """While a client gets a long list, others are answered: each of its pages is a turn of its own."""
    path = tmp_path / "entries.db"
    with closing(SqliteStore(path)) as store:
        store.open_session(SESSION, "large", 0.0)
        with store.writing():
            session = store._session_number(SESSION)
            rows = ((session, f"01JD8Z7V2NDQ31SRQS{number:08d}") for number in range(200_000))
            store._connection.executemany("INSERT INTO entry (session, id, json) VALUES (?, ?, x'7b7d')", rows)

    async def ask(url: str) -> list[str]:
        async with connect_async(url, max_size=None, proxy=None) as long, connect_async(url, proxy=None) as short:
            request = {"jsonrpc": "2.0", "id": 1, "method": "sessions/get_entry_ids", "params": {"sessionId": SESSION}}
            await long.send(json.dumps(request))
            answers = 0
            listing = asyncio.create_task(long.recv())
            while not listing.done():
                await short.send(json.dumps({"jsonrpc": "2.0", "id": 2, "method": "sessions/list"}))
                await short.recv()
                answers += 1
            assert answers > 5
            result: list[str] = json.loads(await listing)["result"]
            return result

    with recorder(path, how=configuration(path, session=OTHER_SESSION)) as recording:
        assert len(asyncio.run(ask(recording.url))) == 200_000
        recording.end()


def test_answers_are_up_to_date_without_waiting_for_a_flush(tmp_path: Path) -> None:
    with recorder(tmp_path / "entries.db") as recording, connect(recording.url, proxy=None) as api:
        recording.send(*whole(IDS[0], b""), EntryEnded(IDS[0]))

        def ask() -> Any:
            request = {"jsonrpc": "2.0", "id": 1, "method": "sessions/get_entry_ids", "params": {"sessionId": SESSION}}
            api.send(json.dumps(request))
            return json.loads(api.recv())["result"]

        assert eventually(ask, bool) == IDS[:1]
        recording.end()
