"""The writing end of the pipe to the child: it takes everything at once, and writes as fast as the child reads.

What asyncio offers for this copies all that waits into one buffer, which costs much when a body passes by.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol

BUFFERS_PER_WRITE = 64
"""Buffers that one system call takes; every system allows as many."""

BYTES_PER_TURN = 1024 * 1024
"""Bytes that are written before the event loop goes on with other things."""


class Pipe(Protocol):
    """Something to write frames to."""

    def writelines(self, frame: Iterable[bytes | memoryview], /) -> None:
        """Write the pieces of a frame behind those before it."""

    def close(self) -> None:
        """Close when everything is written."""


@contextmanager
def opened() -> Iterator[tuple[int, Pipe | None]]:
    """Yield what a child that is started meanwhile takes for its standard input, and the other end of it.

    The other end is null on Windows, whose pipes only asyncio's own transports can write to without blocking.
    """
    if sys.platform == "win32":
        yield asyncio.subprocess.PIPE, None
        return
    reading_end, writing_end = os.pipe()
    try:
        yield reading_end, PosixPipe(writing_end)
    finally:
        os.close(reading_end)


class PosixPipe:
    """The writing end of a pipe. What is written after its reader has gone is dropped."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._waiting: deque[bytes | memoryview] = deque()
        self._is_closing = self._is_closed = False
        os.set_blocking(descriptor, False)

    def writelines(self, frame: Iterable[bytes | memoryview], /) -> None:
        """Write the pieces of a frame behind those before it."""
        if self._is_closing:
            return
        must_wait = bool(self._waiting)
        self._waiting.extend(filter(None, frame))
        if not must_wait:
            self._write()
            if self._waiting:
                asyncio.get_running_loop().add_writer(self._descriptor, self._go_on)

    def close(self) -> None:
        """Close when everything is written."""
        self._is_closing = True
        if not self._waiting:
            self._close()

    def _go_on(self) -> None:
        self._write()
        if not self._waiting:
            asyncio.get_running_loop().remove_writer(self._descriptor)
            if self._is_closing:
                self._close()

    def _write(self) -> None:
        written = 0
        try:
            while self._waiting and written < BYTES_PER_TURN:
                size = os.writev(self._descriptor, list(itertools.islice(self._waiting, BUFFERS_PER_WRITE)))
                self._drop(size)
                written += size
        except BlockingIOError:
            return
        except OSError:
            self._is_closing = True
            self._waiting.clear()

    def _drop(self, size: int) -> None:
        """Drop this many bytes, which are written."""
        while size and size >= len(self._waiting[0]):
            size -= len(self._waiting.popleft())
        if size:
            self._waiting[0] = memoryview(self._waiting[0])[size:]

    def _close(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            os.close(self._descriptor)
