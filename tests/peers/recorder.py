"""A recorder's process of its own, which is told what happens by records over its pipe, as the proxy tells it."""

from __future__ import annotations

import itertools
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rpc import records

SESSION = "01JD8Z7T5M0E9R3Q6W2XKY4ABC"
TOKEN = "token"
CHUNK_SIZE = records.CHUNK_SIZE


def configuration(
    store: Path | None = None, *, session: str = SESSION, port: int = 0, max_disk: int | None = None
) -> records.Configuration:
    """Return how a process is to serve; without a path, with a temporary store."""
    path = store or Path(tempfile.gettempdir()) / f"entries-{secrets.token_hex(16)}" / "entries.db"
    opened = records.SessionOpened(session, "session", 0.0)
    return records.Configuration("127.0.0.1", port, TOKEN, str(path), opened, store is None, max_disk)


class Recorder:
    """A running process. Make one with `recorder`. `logged` is what it has said for the log so far."""

    def __init__(self, process: subprocess.Popen[bytes], how: records.Configuration, first_frame: int) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.pid = process.pid
        self.process = process
        self.store = Path(how.store)
        self.logged: list[str] = []
        self.stored = 0
        self._pipe = process.stdin
        self._replies = records.read_payloads(process.stdout.read)
        self._numbers = itertools.count(first_frame)
        self._write(0, [how])
        self.port = self._next(records.Ready).port
        self.url = f"ws://127.0.0.1:{self.port}/?token={TOKEN}"

    def tell(self, told: Iterable[records.Captured]) -> None:
        """Send records, each in a frame of its own, and wait until they are stored."""
        number = self.stored
        for record in told:
            number = self.send(record)
        self.wait_for(number)

    def send(self, *told: records.Captured, number: int | None = None) -> int:
        """Send records in one frame, and return its number."""
        number = next(self._numbers) if number is None else number
        self._write(number, list(told))
        return number

    def wait_for(self, number: int) -> None:
        """Wait until everything up to this frame is stored."""
        while self.stored < number:
            self._next(records.Stored)

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()
        self.process.wait()

    def end(self) -> int:
        """Close the pipe, and return the exit code."""
        self._pipe.close()
        for _ in self._read():
            pass
        return self.process.wait()

    def _write(self, number: int, told: list[records.Captured]) -> None:
        self._pipe.write(records.encode(records.Frame(number, told)))
        self._pipe.flush()

    def _next[Kind: records.Reply](self, kind: type[Kind]) -> Kind:
        for reply in self._read():
            if isinstance(reply, kind):
                return reply
        raise AssertionError("the process has ended")

    def _read(self) -> Iterator[records.Reply]:
        for payload in self._replies:
            match reply := records.decode_reply(payload):
                case records.Failed(message):
                    raise FailedError(message)
                case records.Stored(number):
                    self.stored = number
                case records.Logged(_, message):
                    self.logged.append(message)
            yield reply


class FailedError(Exception):
    """The process cannot serve."""


@contextmanager
def recorder(
    store: Path | None = None, *, how: records.Configuration | None = None, first_frame: int = 1
) -> Iterator[Recorder]:
    """Run a recorder's process, which ends with its pipe."""
    process = subprocess.Popen([sys.executable, "-m", "rpc"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with process:
        try:
            yield Recorder(process, how or configuration(store), first_frame)
        except BaseException:
            process.kill()
            raise


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
