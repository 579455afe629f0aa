"""What is on its way to the child: records become numbered frames, which are kept until they are acknowledged.

Pure: it neither writes nor waits. Bounded: `is_full` asks whoever adds to wait.
"""

from __future__ import annotations

from collections import deque

from rpc.records import Captured, Frame, encode

LIMIT_BYTES = 32 * 1024 * 1024
"""Bytes that may be unacknowledged before hooks have to wait."""

FRAME_BYTES = 256 * 1024
"""Bytes of bodies after which records should be sent without waiting for more."""


class Outbox:
    """Frames in order of their numbers."""

    def __init__(self, *, limit: int = LIMIT_BYTES) -> None:
        self._limit = limit
        self._records: list[Captured] = []
        self._record_bytes = 0
        self._frames: deque[tuple[int, int]] = deque()
        self._number = 0
        self._unacknowledged_bytes = 0

    @property
    def is_full(self) -> bool:
        """Whether to wait for acknowledgements before adding more."""
        return self._unacknowledged_bytes + self._record_bytes >= self._limit

    @property
    def is_ripe(self) -> bool:
        """Whether enough has gathered for a frame."""
        return self._record_bytes >= FRAME_BYTES

    def add(self, record: Captured, size: int = 0) -> None:
        """Add a record that carries `size` bytes of a body."""
        self._records.append(record)
        self._record_bytes += size

    def take(self) -> bytes | None:
        """Return what has gathered as the next frame; null if nothing has."""
        if not self._records:
            return None
        self._number += 1
        frame = encode(Frame(self._number, self._records))
        self._records = []
        self._record_bytes = 0
        self._frames.append((self._number, len(frame)))
        self._unacknowledged_bytes += len(frame)
        return frame

    def acknowledge(self, number: int) -> None:
        """Let go of the frames up to this number."""
        while self._frames and self._frames[0][0] <= number:
            self._unacknowledged_bytes -= self._frames.popleft()[1]
