"""The child process: takes in what the proxy writes to standard input, stores it, serves it, and tells what is safe.

The pipe's end is the child's end. Everything but reading the pipe and finding processes happens on one event loop, so
that the store has one user.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from rpc import records
from rpc.endpoint import Endpoint
from rpc.jsonrpc import Dispatcher
from rpc.methods import Methods
from rpc.recording import Recording
from rpc.searches import Search, Searches
from rpc.store import SqliteStore, StoreError

FLUSH_SECONDS = 0.05
"""How long changes may wait to be written and acknowledged."""

FRAMES_IN_HAND = 8
"""Frames that are read ahead of what has been taken in; beyond it the pipe fills and the proxy waits."""

PRIVATE = 0o077
"""The umask of a process whose files hold other people's passwords."""


class Replies:
    """What the child says to the proxy, one frame at a time. Once the proxy is gone there is nobody to tell."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lock = threading.Lock()

    def send(self, reply: records.Reply) -> None:
        """Write one reply. Any thread may call this."""
        frame = memoryview(records.encode(reply))
        with self._lock, suppress(BrokenPipeError):
            while frame:
                frame = frame[os.write(self._descriptor, frame) :]


class ReplyHandler(logging.Handler):
    """Sends what is logged here to the proxy's log."""

    def __init__(self, replies: Replies) -> None:
        super().__init__(logging.INFO)
        self._replies = replies

    def emit(self, record: logging.LogRecord) -> None:
        """Send one line, with its traceback if there is one."""
        self._replies.send(records.Logged(record.levelno, self.format(record)))


@contextmanager
def _opened_store(path: str) -> Iterator[SqliteStore]:
    """Open the store at `path`, or a private one that is gone at the end."""
    if path:
        store = SqliteStore(Path(path).expanduser())
        try:
            yield store
        finally:
            store.close()
        return
    folder = tempfile.mkdtemp(prefix="entries-")
    try:
        store = SqliteStore(Path(folder) / "entries.db", durable=False)
        yield store
        store.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Child:
    """One run: a session under capture, its store and its endpoint."""

    def __init__(self, replies: Replies, store: SqliteStore, configuration: records.Configuration) -> None:
        self._replies = replies
        self._store = store
        self._configuration = configuration
        self._recording = Recording(store, configuration.session)
        self._searches = Searches(replies.send)
        self._taken_in = 0
        self._flush_timer: asyncio.TimerHandle | None = None

    async def run(self, payloads: Iterator[bytes]) -> None:
        """Serve until the pipe ends. Raises OSError if the endpoint cannot listen."""
        to_serve = self._configuration
        dispatcher = Dispatcher(Methods(self._store, self._recording).all())
        endpoint = await Endpoint.start(dispatcher, host=to_serve.host, port=to_serve.port, token=to_serve.token)
        self._replies.send(records.Ready(endpoint.port))
        await self._take_in_all(payloads)
        await endpoint.close()
        self._searches.end()
        self._take_answers()
        self._recording.close()
        self._store.commit()
        self._acknowledge()

    async def _take_in_all(self, payloads: Iterator[bytes]) -> None:
        """Take in every frame; they are read by a thread, since a pipe cannot be awaited on every system."""
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        in_hand = threading.Semaphore(FRAMES_IN_HAND)

        def take_in(frame: records.Frame, searches: list[Search]) -> None:
            in_hand.release()
            self._take_in(frame, searches)

        def read() -> None:
            for payload in payloads:
                frame = records.decode_frame(payload)
                searches = self._searches.begin(frame.records)
                in_hand.acquire()
                loop.call_soon_threadsafe(take_in, frame, searches)
            loop.call_soon_threadsafe(ended.set)

        threading.Thread(target=read, name="pipe", daemon=True).start()
        await ended.wait()

    def _take_in(self, frame: records.Frame, searches: list[Search]) -> None:
        self._recording.apply(frame.records)
        self._searches.add(searches)
        self._taken_in = frame.number
        self._flush_later()

    def _flush_later(self) -> None:
        if self._flush_timer is None:
            self._flush_timer = asyncio.get_running_loop().call_later(FLUSH_SECONDS, self._flush)

    def _flush(self) -> None:
        self._flush_timer = None
        self._take_answers()
        self._recording.flush()
        self._store.commit()
        self._acknowledge()
        if self._searches.are_under_way():
            self._flush_later()

    def _take_answers(self) -> None:
        for found in self._searches.take_answers():
            self._recording.set_process(found.key, found.process)

    def _acknowledge(self) -> None:
        self._replies.send(records.Stored(self._taken_in))


def _sentence(error: Exception, configuration: records.Configuration) -> str:
    """Return what the user is told about why the child cannot serve."""
    if isinstance(error, StoreError):
        return str(error)
    reason = getattr(error, "strerror", None) or error
    return f"The endpoint cannot listen on {configuration.host}:{configuration.port} (rpc_listen_port): {reason}."


def _configuration(payloads: Iterator[bytes]) -> records.Configuration | None:
    """Return what the first frame says; null if the pipe ends before it."""
    for payload in payloads:
        (configuration,) = records.decode_frame(payload).records
        assert isinstance(configuration, records.Configuration)
        return configuration
    return None


def _serve(pipe: BinaryIO, replies: Replies) -> int:
    payloads = records.read_payloads(pipe.read)
    if (configuration := _configuration(payloads)) is None:
        return 0
    try:
        with _opened_store(configuration.store) as store:
            asyncio.run(Child(replies, store, configuration).run(payloads))
    except (OSError, StoreError) as error:
        replies.send(records.Failed(_sentence(error, configuration)))
        return 1
    return 0


def main() -> int:
    """Be the child of a proxy that writes to standard input and reads from standard output; return the exit code."""
    # Ctrl-C reaches the whole process group: what the proxy still has to say comes after it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.umask(PRIVATE)
    replies = Replies(os.dup(sys.stdout.fileno()))
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    logging.basicConfig(level=logging.INFO, handlers=[ReplyHandler(replies)])
    return _serve(sys.stdin.buffer, replies)
