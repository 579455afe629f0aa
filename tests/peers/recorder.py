"""A recorder's process of its own, which is told what happens by records over its pipe, as the proxy tells it."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from rpc import records

SESSION = "01JD8Z7T5M0E9R3Q6W2XKY4ABC"
TOKEN = "token"
CHUNK_SIZE = records.CHUNK_SIZE


class Recorder:
    """A running process. Make one with `recorder`."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.pid = process.pid
        self._pipe = process.stdin
        self._replies = records.read_payloads(process.stdout.read)
        self._numbers = itertools.count()
        session = records.SessionOpened(SESSION, "session", 0.0)
        self._write([records.Configuration("127.0.0.1", 0, TOKEN, "", session)])
        self.url = f"ws://127.0.0.1:{self._next(records.Ready).port}/?token={TOKEN}"

    def tell(self, told: Iterable[records.Captured]) -> None:
        """Send records, each in a frame of its own, and wait until they are stored."""
        number = 0
        for record in told:
            number = self._write([record])
        while self._next(records.Stored).number < number:
            pass

    def _write(self, told: list[records.Captured]) -> int:
        number = next(self._numbers)
        self._pipe.write(records.encode(records.Frame(number, told)))
        self._pipe.flush()
        return number

    def _next[Kind: records.Reply](self, kind: type[Kind]) -> Kind:
        for payload in self._replies:
            reply = records.decode_reply(payload)
            assert not isinstance(reply, records.Failed), reply
            if isinstance(reply, kind):
                return reply
        raise AssertionError("the process has ended")


@contextmanager
def recorder() -> Iterator[Recorder]:
    """Run a recorder's process, which ends with its pipe."""
    process = subprocess.Popen([sys.executable, "-m", "rpc"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with process:
        yield Recorder(process)


def started(entry: str) -> Iterator[records.Captured]:
    """Yield the records of an entry whose request has come."""
    peer = ("127.0.0.1", 1)
    yield records.ClientConnection(1, peer, None, "tcp", None, None, None, find_process=False, is_urgent=False)
    head = records.RequestHead(b"GET", b"http", "h", 80, b"", b"/", b"HTTP/1.1", (), None)
    yield records.EntryStarted(entry, 1, 0.0, 0.0, None, head, None)
    yield records.RequestFinished(entry, 0.0, b"", 0, ())


def answered(entry: str, body: Iterable[bytes], **fields: str) -> Iterator[records.Captured]:
    """Yield the records of a response that comes whole: its header fields, with `_` for `-`, and the body's chunks."""
    encoded = tuple((name.replace("_", "-").encode(), value.encode()) for name, value in fields.items())
    head = records.ResponseHead(200, b"OK", b"HTTP/1.1", encoded)
    yield records.ResponseStarted(entry, 0.0, head, None, None)
    size = 0
    for chunk in body:
        yield records.BodyChunk(entry, "response", size, chunk)
        size += len(chunk)
    yield records.ResponseFinished(entry, 0.0, None, None, size, (), websocket=False, ended=True)
