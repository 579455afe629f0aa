"""The commands that follow a running instance."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from rpc import records
from tests import strict_client
from tests.peers.commands import COMMAND, run
from tests.peers.proxy import ROOT
from tests.peers.recorder import Recorder, answered, recorder, started
from tests.rpc.test_client import entry, message, whole


class Command:
    """A command that is running, whose lines are read as they come."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")


@contextmanager
def running(*words: str) -> Iterator[Command]:
    process = subprocess.Popen(
        [*COMMAND, *words], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, cwd=ROOT
    )
    with process:
        try:
            yield Command(process)
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate()


@pytest.fixture
def recording() -> Iterator[Recorder]:
    with recorder() as running:
        yield running
        running.end()


def test_tail_prints_the_last_entries_and_then_each_that_finishes(recording: Recorder) -> None:
    recording.tell([*whole(1), *whole(2), *whole(3), *started(entry(4))])
    with running("tail", "-n", "3", recording.url) as tail:
        assert [tail.line().split()[1:3] for _ in range(2)] == [["GET", "200"]] * 2
        recording.send(*answered(entry(4), [b"body"]))
        assert "4 B" in tail.line()
        recording.send(*started(entry(5)), records.EntryFailed(entry(5), 0.0, "reset", None, None))
        assert tail.line().endswith("http://h/  (reset)")


def test_tail_prints_json_of_what_fits(recording: Recorder) -> None:
    recording.tell([*whole(1), *whole(2, content_type="image/png")])
    with running("tail", "--json", "--filter", "~t png", recording.url) as tail:
        first = json.loads(tail.line())
        strict_client.check_entry(first)
        assert first["id"] == entry(2)
        recording.tell([*whole(3), *whole(4, content_type="image/png")])
        assert json.loads(tail.line())["id"] == entry(4)


def test_tail_is_coloured_on_a_terminal_only(recording: Recorder) -> None:
    recording.tell(whole(1))
    ours, theirs = pty.openpty()
    with subprocess.Popen([*COMMAND, "tail", recording.url], stdout=theirs, stdin=subprocess.DEVNULL, cwd=ROOT) as tail:
        os.close(theirs)
        assert b"\x1b[32m200\x1b[0m" in os.read(ours, 1000)
        tail.send_signal(signal.SIGINT)
    os.close(ours)
    assert tail.returncode == 130


def test_bad_expression_and_bad_url_are_sentences(recording: Recorder) -> None:
    ended = run("tail", "--filter", "~foo", recording.url)
    assert ended.returncode == 1
    assert "filter is no valid expression" in ended.sentence
    assert "is no URL of an endpoint" in run("tail", "file.db").sentence


def test_body_is_written_as_it_is(recording: Recorder) -> None:
    recording.tell(whole(1, b"\x00\xffbody"))
    recording.tell(started(entry(2)))
    assert run("body", entry(1), recording.url).stdout == b"\x00\xffbody"
    assert run("body", "--request", entry(1), recording.url).stdout == b""
    ended = run("body", entry(2), recording.url)
    assert (ended.returncode, ended.sentence) == (1, f"The body is not kept, or has not come: that of {entry(2)}.")


def test_binary_body_is_not_written_to_a_terminal(recording: Recorder) -> None:
    recording.tell(whole(1, b"\x00\xffbody"))
    ours, theirs = pty.openpty()
    command = [*COMMAND, "body", entry(1), recording.url]
    ended = subprocess.run(command, stdout=theirs, stderr=subprocess.PIPE, cwd=ROOT, check=False)
    os.close(theirs)
    os.close(ours)
    assert ended.returncode == 1
    assert b"write it to a file with -o" in ended.stderr


def test_messages_are_printed_and_followed(recording: Recorder) -> None:
    head = records.ResponseHead(101, b"", b"HTTP/1.1", ())
    done = records.ResponseFinished(entry(1), 0.0, None, b"", 0, (), websocket=True, ended=False)
    recording.tell([*started(entry(1)), records.ResponseStarted(entry(1), 0.0, head, None, None), done])
    recording.tell([message(entry(1), "before")])
    assert run("ws", entry(1), recording.url).stdout.decode().rstrip().endswith("→ text    before")
    with running("ws", entry(1), recording.url, "--follow", "--json") as ws:
        assert json.loads(ws.line())["payload"]["text"] == "before"
        recording.send(message(entry(1), "live"), records.EntryEnded(entry(1)))
        assert json.loads(ws.line())["payload"]["text"] == "live"
        assert ws.line() == ""
    assert ws.process.returncode == 0


def test_messages_of_what_is_no_websocket_are_not_there(recording: Recorder) -> None:
    recording.tell(whole(1))
    assert "is no WebSocket" in run("ws", entry(1), recording.url).sentence
    assert run("ws", "--follow", entry(1), recording.url).returncode == 1
