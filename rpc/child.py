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
import stat
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import msgspec

from rpc import records, runfile
from rpc.api import api
from rpc.certificates import CertificateError
from rpc.endpoint import Endpoint
from rpc.recording import Recording, end_abandoned
from rpc.runs import run_of
from rpc.searches import Search, Searches
from rpc.store import SqliteStore, StoreError
from rpc.wire import instant

if sys.platform == "linux":
    import fcntl

logger = logging.getLogger(__name__)

FLUSH_SECONDS = 0.05
"""How long changes may wait to be written and acknowledged."""

PROMPT_SECONDS = 0.005
"""How often to look for processes that were found, while somebody has subscribed."""

SYNC_SECONDS = 0.5
"""How often what is stored is written to the disk: with what that takes, less than a second is lost with the power."""

MAX_AHEAD_BYTES = 48 * 1024 * 1024
"""Bytes of frames that are read ahead of what has been taken in: more than the proxy sends without being answered.

What the proxy dies with in its own memory is lost; what has been read is not.
"""

PIPE_BYTES = 1024 * 1024
"""What the pipe should hold, where that can be said: what has reached it outlives the proxy."""

GROUP_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")
"""Signals that end a whole group of processes: this one ends with the pipe, after what the proxy still has to say."""

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


def _make_private(folder: Path) -> None:
    """Make a folder that nobody else can read, or find the one that an earlier process made. Raises `StoreError`."""
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        found = folder.lstat()
        is_ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & PRIVATE
        if os.name == "posix" and not is_ours:
            message = f"The folder {folder} is not private: somebody else has made it."
            raise StoreError(message) from None
    except OSError as error:
        message = f"The folder {folder} for the temporary store cannot be made: {error.strerror}."
        raise StoreError(message) from error


@contextmanager
def _opened_store(configuration: records.Configuration) -> Iterator[SqliteStore]:
    """Open the store. A private one is gone at the end, unless this process dies: then another one goes on with it."""
    path = Path(configuration.store)
    is_temporary = configuration.is_temporary
    if is_temporary:
        _make_private(path.parent)
    try:
        # A temporary store goes with the machine's power anyway.
        with closing(SqliteStore(path, durable=not is_temporary, max_bytes=configuration.max_disk)) as store:
            yield store
    finally:
        if is_temporary:
            shutil.rmtree(path.parent, ignore_errors=True)


@contextmanager
def _announced(configuration: records.Configuration, port: int) -> Iterator[None]:
    """Have a run file as long as this is entered."""
    if configuration.access.run_file is None:
        yield
        return
    path = Path(configuration.access.run_file)
    session = configuration.session
    run = runfile.RunFile(configuration.url(port), configuration.token, session.id, instant(session.started))
    try:
        runfile.write(path, run)
    except OSError as error:
        logger.warning("The run file %s cannot be written: %s.", path, error.strerror)
    try:
        yield
    finally:
        runfile.remove(path)


class Ahead:
    """How many bytes one thread is ahead of another; it waits when they are too many."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._bytes = 0
        self._changed = threading.Condition()

    def add(self, size: int) -> None:
        """Go ahead, once less than the limit is ahead already."""
        with self._changed:
            self._changed.wait_for(lambda: self._bytes < self._limit)
            self._bytes += size

    def subtract(self, size: int) -> None:
        """Catch up."""
        with self._changed:
            self._bytes -= size
            self._changed.notify()


class Child:
    """One run: a session under capture, its store and its endpoint."""

    def __init__(self, replies: Replies, store: SqliteStore, configuration: records.Configuration) -> None:
        self._replies = replies
        self._store = store
        self._configuration = configuration
        end_abandoned(store, configuration.session.id)
        self._recording = Recording(store, configuration.session, run=run_of(os.getppid()))
        self._dispatcher, self._subscriptions = api(store, self._recording, configuration.limits)
        self._searches = Searches(replies.send)
        # What an earlier process of ours was told and has not found out.
        self._searches.add(self._searches.begin(self._recording.awaited()))
        self._flush_timer: asyncio.TimerHandle | None = None
        self._is_flushed_soon = False
        self._written = asyncio.Event()

    async def run(self, payloads: Iterator[bytes]) -> None:
        """Serve until the pipe ends. Raises OSError if the endpoint cannot listen, CertificateError if not with TLS."""
        to_serve = self._configuration
        endpoint = await Endpoint.start(
            self._dispatcher,
            host=to_serve.host,
            port=to_serve.port,
            token=to_serve.token,
            access=to_serve.access,
            limits=to_serve.limits,
        )
        with _announced(to_serve, endpoint.port):
            await self._record(payloads, endpoint)
        await endpoint.close()

    async def _record(self, payloads: Iterator[bytes], endpoint: Endpoint) -> None:
        # First what need not be sent again.
        self._acknowledge()
        self._replies.send(records.Ready(endpoint.port))
        self._flush_later()
        upkeep = [asyncio.create_task(work()) for work in (self._stay_within_bound, self._sync)]
        await self._take_in_all(payloads)
        # What came is stored before anything else: the machine may be going down.
        self._recording.flush()
        self._acknowledge()
        self._searches.end()
        self._take_answers()
        self._recording.close()
        self._acknowledge()
        await self._subscriptions.close()
        for task in upkeep:
            task.cancel()
        await asyncio.wait(upkeep)

    async def _take_in_all(self, payloads: Iterator[bytes]) -> None:
        """Take in every frame; they are read by a thread, since a pipe cannot be awaited on every system."""
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        ahead = Ahead(MAX_AHEAD_BYTES)

        def take_in(frame: records.Frame, searches: list[Search], size: int) -> None:
            self._recording.take_in(frame)
            self._searches.add(searches)
            if self._recording.is_ripe:
                self._flush()
            elif self._subscriptions.are_any:
                self._flush_soon()
            else:
                self._flush_later()
            ahead.subtract(size)

        def read() -> None:
            for payload in payloads:
                try:
                    frame = records.joined(records.decode_frame(payload), payloads)
                except (msgspec.DecodeError, UnicodeDecodeError):
                    logger.exception("Recording is incomplete: a frame cannot be read")
                    continue
                if frame is None:
                    break
                # Before anything that may wait: a client may be gone within milliseconds.
                searches = self._searches.begin(frame.records)
                size = len(payload) + _data_size(frame)
                ahead.add(size)
                loop.call_soon_threadsafe(take_in, frame, searches, size)
            loop.call_soon_threadsafe(ended.set)

        threading.Thread(target=read, name="pipe", daemon=True).start()
        await ended.wait()

    def _flush_soon(self) -> None:
        """Write once what has come already is taken in: subscribers are told what has been written."""
        if not self._is_flushed_soon:
            self._is_flushed_soon = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush_later(self) -> None:
        if self._flush_timer is None and (self._searches.are_under_way() or not self._recording.is_settled):
            seconds = PROMPT_SECONDS if self._subscriptions.are_any else FLUSH_SECONDS
            self._flush_timer = asyncio.get_running_loop().call_later(seconds, self._flush)

    def _flush(self) -> None:
        if self._flush_timer is not None:
            self._flush_timer.cancel()
            self._flush_timer = None
        self._is_flushed_soon = False
        self._take_answers()
        self._recording.flush()
        self._acknowledge()
        self._written.set()
        self._flush_later()

    def _take_answers(self) -> None:
        for found in self._searches.take_answers():
            self._recording.set_process(found.key, found.process)

    def _acknowledge(self) -> None:
        self._replies.send(records.Stored(self._recording.settled_frame))

    async def _stay_within_bound(self) -> None:
        """Give up what is oldest as long as the store is too large, and look again when something was written."""
        while True:
            self._written.clear()
            with suppress(StoreError):  # writing fails likewise, and says so
                if self._store.evict():
                    self._written.set()
            await asyncio.sleep(0)
            await self._written.wait()

    async def _sync(self) -> None:
        """Bring what is committed to the disk, now and then."""
        while True:
            with suppress(StoreError, OSError):
                await asyncio.to_thread(self._store.sync)
            await asyncio.sleep(SYNC_SECONDS)


def _data_size(frame: records.Frame) -> int:
    """Return how much data was behind a frame, or is in its last record."""
    last = frame.records[-1] if frame.records else None
    return len(last.data) if isinstance(last, records.BodyChunk) else 0


def _sentence(error: Exception, configuration: records.Configuration) -> str:
    """Return what the user is told about why the child cannot serve."""
    if isinstance(error, (StoreError, CertificateError)):
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


async def _run(
    replies: Replies, store: SqliteStore, configuration: records.Configuration, payloads: Iterator[bytes]
) -> None:
    await Child(replies, store, configuration).run(payloads)


def _serve(pipe: BinaryIO, replies: Replies) -> int:
    payloads = records.read_payloads(pipe.read)
    if (configuration := _configuration(payloads)) is None:
        return 0
    try:
        with _opened_store(configuration) as store:
            asyncio.run(_run(replies, store, configuration, payloads))
    except (OSError, StoreError, CertificateError) as error:
        replies.send(records.Failed(_sentence(error, configuration)))
        return 1
    return 0


def _widen(pipe: int) -> None:
    """Make a pipe hold more, where the system allows it."""
    if sys.platform == "linux":
        with suppress(OSError):
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)


def main() -> int:
    """Be the child of a proxy that writes to standard input and reads from standard output; return the exit code."""
    for name in GROUP_SIGNALS:
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    _widen(sys.stdin.fileno())
    os.umask(PRIVATE)
    replies = Replies(os.dup(sys.stdout.fileno()))
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    logging.basicConfig(level=logging.INFO, handlers=[ReplyHandler(replies)])
    return _serve(sys.stdin.buffer, replies)
