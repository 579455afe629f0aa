from __future__ import annotations

import base64
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from rpc import recording, trouble
from rpc.recording import Recording, end_abandoned
from rpc.records import (
    BodyChunk,
    Captured,
    ClientConnection,
    ClientDisconnected,
    EntryEnded,
    EntryFailed,
    EntryStarted,
    Frame,
    Gap,
    ListenerChanged,
    MessageContinued,
    MessageReceived,
    Process,
    RequestFinished,
    RequestHead,
    ResponseFinished,
    ResponseHead,
    ResponseStarted,
    SessionOpened,
    Side,
)
from rpc.runs import run_of
from rpc.store import SqliteStore

SESSION = SessionOpened("01JD8Z7T5M0E9R3Q6W2XKY4ABC", "session", 0.0)
HEAD = RequestHead(b"GET", b"http", "h", 80, b"", b"/", b"HTTP/1.1", (), None)
ANSWER = ResponseHead(200, b"OK", b"HTTP/1.1", ())
CURL = Process(4711, "curl")


class Run:
    """A recording in a store, and what is read from that after a flush."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.store = SqliteStore(path)
        self.recording = Recording(self.store, SESSION)
        self._number = 0

    def tell(self, *told: Captured, flush: bool = True) -> None:
        self._number += 1
        self.recording.take_in(Frame(self._number, list(told)))
        if flush:
            self.recording.flush()

    def ids(self) -> list[str]:
        return [entry_id for page in self.store.entry_ids(SESSION.id) or () for entry_id in page]

    def entry(self, entry_id: str) -> Any:
        text = self.store.entry_json(SESSION.id, entry_id)
        return None if text is None else json.loads(text)

    def body(self, entry_id: str, side: Side = "response") -> bytes | None:
        stored = self.store.body(SESSION.id, entry_id, side)
        assert stored is not None
        return None if stored.data is None else b"".join(stored.data.pieces())

    def messages(self, entry_id: str) -> list[str]:
        found = json.loads(b"[" + b"".join(self.store.messages(SESSION.id, entry_id) or ()) + b"]")
        return [message["payload"].get("text") for message in found]

    def unfinished(self) -> list[str]:
        return [stored.id for stored, _ in self.store.unfinished(SESSION.id)]

    def dropped(self) -> int:
        status = self.store.status(SESSION.id)
        assert status is not None
        return status.dropped

    def die(self) -> Run:
        """Go on in a new process, without having closed anything."""
        self.store._connection.close()
        self.store._syncing.close()
        self.store = SqliteStore(self.path)
        self.recording = Recording(self.store, SESSION)
        return self


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    run = Run(tmp_path / "entries.db")
    yield run
    run.store.close()


def client(key: int = 1, *, process: Process | None = None, finds: bool = False) -> ClientConnection:
    return ClientConnection(key, ("127.0.0.1", 1), ("127.0.0.1", 2), "tcp", None, None, process, finds, is_urgent=False)


def start(entry: str, connection: int = 1) -> EntryStarted:
    return EntryStarted(entry, connection, 0.0, 0.0, None, HEAD, None)


def begun(entry: str, connection: int = 1) -> list[Captured]:
    return [start(entry, connection), RequestFinished(entry, 0.001, b"", 0, ()), response(entry)]


def response(entry: str) -> ResponseStarted:
    return ResponseStarted(entry, 0.002, ANSWER, None, None)


def chunk(entry: str, offset: int, data: bytes) -> BodyChunk:
    return BodyChunk(entry, "response", offset, data)


def finished(entry: str, size: int, *, websocket: bool = False, body: bytes | None = None) -> ResponseFinished:
    return ResponseFinished(entry, 0.003, None, body, size, (), websocket=websocket, ended=not websocket)


def opened(entry: str) -> list[Captured]:
    """Return the records of a WebSocket that opens."""
    return [*begun(entry), finished(entry, 0, websocket=True, body=b"")]


def text(entry: str, data: str, *, more: bool = False) -> MessageReceived:
    return MessageReceived(entry, True, "text", data.encode(), None, 1.0, more=more)


def rest(entry: str, data: str, *, more: bool = False) -> MessageContinued:
    return MessageContinued(entry, "text", data.encode(), more)


# Flushes


def test_entry_is_written_when_it_has_changed(run: Run) -> None:
    run.tell(client(), *begun("a"), flush=False)
    assert run.ids() == []
    assert not run.recording.is_settled
    run.recording.flush()
    assert run.recording.is_settled
    assert run.entry("a")["response"]["bodySize"] is None
    run.tell(finished("a", 2, body=b"ok"))
    assert run.entry("a")["response"]["bodySize"] == 2
    assert run.body("a") == b"ok"


def test_reader_of_one_entry_has_only_that_one_written(run: Run) -> None:
    run.tell(client(), *begun("a"))
    run.tell(chunk("a", 0, b"x"), flush=False)
    run.recording.flush("b")
    assert not run.recording.is_settled
    run.recording.flush("a")
    assert run.recording.is_settled
    assert run.body("a") == b"x"


def test_frame_is_acknowledged_when_it_is_written(run: Run) -> None:
    run.tell(client(), start("a"), flush=False)
    assert run.recording.settled_frame == 0
    run.recording.flush()
    assert run.recording.settled_frame == 1


def test_record_that_cannot_be_applied_costs_no_other(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    run.tell(client(), start("a", connection=99), start("b", connection=98), start("c"))
    assert run.ids() == ["c"]
    assert len(caplog.messages) == 1
    assert "applying EntryStarted" in caplog.text


# Going on in a new process


def test_frame_that_was_stored_is_not_taken_in_twice(run: Run) -> None:
    run.tell(client(), *opened("a"))
    run.tell(text("a", "hello"))
    after = run.die()
    assert after.recording.settled_frame == 2
    after.recording.take_in(Frame(2, [text("a", "hello")]))
    after.recording.flush()
    assert after.messages("a") == ["hello"]


def test_what_was_not_written_is_taken_in_again(run: Run) -> None:
    run.tell(client(), *begun("a"))
    run.tell(chunk("a", 0, b"lost with the process"), flush=False)
    after = run.die()
    assert after.recording.settled_frame == 1
    after.recording.take_in(Frame(2, [chunk("a", 0, b"sent "), chunk("a", 5, b"again"), finished("a", 10)]))
    after.recording.flush()
    assert after.body("a") == b"sent again"
    assert after.unfinished() == []


def test_unfinished_entries_and_their_messages_go_on(run: Run) -> None:
    run.tell(
        client(), *begun("a"), finished("a", 0, websocket=True, body=b""), text("a", "one"), text("a", "tw", more=True)
    )
    after = run.die()
    after.tell(rest("a", "o"), text("a", "three"), EntryEnded("a"))
    assert after.messages("a") == ["one", "two", "three"]
    assert after.unfinished() == []


def test_connections_and_the_listener_go_on(run: Run) -> None:
    run.tell(client(1, process=CURL), client(2), client(3), ListenerChanged(8080))
    run.tell(ClientDisconnected(2))
    after = run.die()
    assert after.recording.listener_port == 8080
    after.tell(start("a", 1), start("b", 2), start("c", 3))
    assert after.ids() == ["a", "c"]
    assert after.entry("a")["process"] == {"pid": 4711, "name": "curl"}


def test_connection_that_comes_and_goes_between_two_flushes_is_never_written(run: Run) -> None:
    run.tell(client(1), start("a"), ClientDisconnected(1))
    assert run.store.facts(SESSION.id) == []


def test_process_that_was_being_looked_for_is_looked_for_again(run: Run) -> None:
    run.tell(
        client(1, finds=True), *begun("a"), finished("a", 0, body=b""), client(2, finds=True), ClientDisconnected(1)
    )
    run.recording.set_process(2, CURL)
    run.recording.flush()
    after = run.die()
    assert [connection.key for connection in after.recording.awaited()] == [1]
    after.recording.set_process(1, CURL)
    after.recording.flush()
    assert after.entry("a")["process"] == {"pid": 4711, "name": "curl"}
    assert after.unfinished() == []
    after.tell(start("b", 2))
    assert after.entry("b")["process"] == {"pid": 4711, "name": "curl"}


def test_answer_about_a_process_alone_is_written(run: Run) -> None:
    run.tell(client(1, finds=True), *begun("a"), finished("a", 0, body=b""))
    run.recording.set_process(1, CURL)
    assert not run.recording.is_settled
    run.recording.flush()
    assert run.entry("a")["process"] == {"pid": 4711, "name": "curl"}


# The end of a session


def test_unfinished_entries_end_with_the_session(run: Run) -> None:
    run.tell(client(1, finds=True), *begun("a"), chunk("a", 0, b"part"), *begun("b"), start("c"))
    run.recording.close()
    assert run.unfinished() == []
    assert run.store.unended_sessions() == []
    assert run.store.facts(SESSION.id) == []
    assert (run.body("a"), run.body("b"), run.body("c", "request")) == (b"part", None, None)


def test_session_of_a_process_that_is_gone_is_ended(tmp_path: Path) -> None:
    with closing(SqliteStore(tmp_path / "entries.db")) as store:
        process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        with process:
            Recording(store, SESSION, run=run_of(process.pid)).apply([])
            first = Recording(store, SESSION, run=run_of(process.pid))
            first.apply([client(), *begun("a"), start("b")])
            first.flush()
            end_abandoned(store, "another")
            assert len(store.unfinished(SESSION.id)) == 2, "its process runs"
        end_abandoned(store, SESSION.id)
        assert len(store.unfinished(SESSION.id)) == 2, "it is the caller's own"
        end_abandoned(store, "another")
        assert store.unfinished(SESSION.id) == []
        assert store.unended_sessions() == []
        stored = store.body(SESSION.id, "a", "response")
        assert stored is not None
        assert stored.data is None


def test_abandoned_entry_whose_state_cannot_be_read_stays_as_it_was(run: Run) -> None:
    run.tell(client(), *begun("a"))
    with run.store.writing():
        run.store._connection.execute("UPDATE entry SET state = x'00'")
    before = run.entry("a")
    end_abandoned(run.store, "another")
    assert run.unfinished() == []
    assert run.entry("a") == before


# Gaps


def test_gap_cuts_entries_and_forgets_connections_that_are_gone(run: Run) -> None:
    run.tell(client(1), client(2), *begun("cut"), chunk("cut", 0, b"part"), *begun("whole", 2))
    run.tell(Gap(10.0, 20.0, missed=3, cut=("cut",), connections=(2,)))
    assert run.unfinished() == ["whole"]
    assert run.body("cut") == b"part"
    status = run.store.status(SESSION.id)
    assert status is not None
    assert (status.dropped, status.dropped_since, status.dropped_until) == (4, 10.0, 20.0)
    run.tell(finished("whole", 0, body=b""), start("next", 2))
    assert run.unfinished() == ["next"]


def test_entry_without_a_beginning_is_counted_once(run: Run) -> None:
    run.tell(response("lost"), chunk("lost", 0, b"x"), finished("lost", 1))
    run.tell(EntryFailed("other", None, "", None, None))
    assert run.ids() == []
    assert run.dropped() == 2


# Trouble with the store


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try again at once, and let go at the first failure."""
    monkeypatch.setattr(trouble, "RETRY_SECONDS", 0.0)
    monkeypatch.setattr(trouble, "HOLD_SECONDS", 0.0)


def fill(run: Run) -> None:
    """Let the store's file grow no more."""
    (pages,) = run.store._connection.execute("PRAGMA page_count").fetchone()
    run.store._connection.execute(f"PRAGMA max_page_count = {pages}")


def make_room(run: Run) -> None:
    run.store._connection.execute("PRAGMA max_page_count = 1000000")


LARGE = os.urandom(50_000)


def test_what_cannot_be_written_for_a_moment_is_written_then(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trouble, "RETRY_SECONDS", 0.0)
    run.tell(client(), *begun("a"))
    fill(run)
    run.tell(finished("a", len(LARGE), body=LARGE))
    assert not run.recording.trouble.is_over
    assert run.recording.settled_frame == 1
    make_room(run)
    run.recording.flush()
    assert run.recording.trouble.is_over
    assert run.recording.settled_frame == 2
    assert run.body("a") == LARGE
    assert run.dropped() == 0


def test_store_that_has_failed_is_left_alone_for_a_while(run: Run) -> None:
    fill(run)
    run.tell(client(), *begun("a"), finished("a", len(LARGE), body=LARGE))
    make_room(run)
    run.recording.flush()
    assert run.ids() == []
    run.recording.trouble._failed -= trouble.RETRY_SECONDS
    run.recording.flush()
    assert run.ids() == ["a"]


@pytest.mark.usefixtures("impatient")
def test_what_cannot_be_written_for_long_is_let_go_and_counted(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    run.tell(client(), *begun("before"), chunk("before", 0, b"first "), *begun("untouched"))
    fill(run)
    run.tell(chunk("before", 6, LARGE))
    for name in "abc":
        run.tell(*begun(name), finished(name, len(LARGE), body=LARGE))
    run.tell(*begun("during"), chunk("during", 0, LARGE))
    assert run.recording.settled_frame == 6, "the proxy need not keep it"
    assert run.recording.trouble.dropped == 5
    assert len(caplog.messages) == 1
    assert "full" in caplog.text
    make_room(run)
    run.tell(
        chunk("before", 6 + len(LARGE), b"last"),
        finished("before", 10 + len(LARGE)),
        finished("during", len(LARGE)),
        finished("untouched", 5, body=b"whole"),
        *begun("after"),
        finished("after", 4, body=b"fine"),
    )
    assert run.recording.trouble.is_over
    assert run.dropped() == 5
    assert run.ids() == ["before", "untouched", "during", "after"]
    assert run.entry("before")["response"]["bodySize"] == 10 + len(LARGE)
    assert (run.body("before"), run.body("during")) == (None, None)
    assert (run.body("untouched"), run.body("after")) == (b"whole", b"fine")
    assert run.unfinished() == []
    assert len(caplog.messages) == 2
    assert "goes on; 5 entries" in caplog.text


@pytest.mark.usefixtures("impatient")
def test_messages_that_are_let_go_leave_whole_ones(run: Run) -> None:
    run.tell(
        client(), *begun("a"), finished("a", 0, websocket=True, body=b""), text("a", "one"), text("a", "two", more=True)
    )
    fill(run)
    large = base64.b64encode(LARGE).decode()
    run.tell(rest("a", large), text("a", "lost"), text("a", "begins", more=True))
    make_room(run)
    run.tell(rest("a", " and ends"), text("a", "three"), text("a", "four"))
    assert run.messages("a") == ["one", "three", "four"]


@pytest.mark.usefixtures("impatient")
def test_body_that_begins_anew_after_it_was_let_go_is_kept(run: Run) -> None:
    run.tell(client(), *begun("a"))
    fill(run)
    run.tell(chunk("a", 0, LARGE))
    make_room(run)
    run.tell(finished("a", 3, body=b"new"))
    assert run.body("a") == b"new"


def test_memory_is_bounded_while_nothing_can_be_written(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "MAX_PENDING_BYTES", 3 * len(LARGE))
    run.tell(client())
    fill(run)
    for number in range(20):
        run.tell(*begun(str(number)), finished(str(number), len(LARGE), body=LARGE))
        assert len(run.recording._pieces) <= 4
        assert len(run.recording._open) <= 4


@pytest.mark.usefixtures("impatient")
def test_file_that_is_damaged_stops_nothing(run: Run) -> None:
    run.tell(client(), *begun("a"))
    run.store.sync()
    with run.path.open("rb+") as file:
        file.seek(4096)
        file.write(os.urandom(run.path.stat().st_size - 4096))
    for number in range(100):
        run.tell(*begun(str(number)), finished(str(number), len(LARGE), body=LARGE))
    assert run.recording.settled_frame == 101
    run.recording.close()


def test_end_of_a_session_that_cannot_be_stored_is_said(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    run.tell(client())
    fill(run)
    run.tell(*begun("a"), finished("a", len(LARGE), body=LARGE), flush=False)
    run.recording.close()
    assert "The end of the session could not be stored" in caplog.text
    assert run.recording.settled_frame == 2
