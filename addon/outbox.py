"""What is on its way to the child: records become numbered frames, which are kept until they are acknowledged.

Pure: it neither writes nor waits. Bounded: `is_full` asks whoever adds to wait.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from addon.faults import FAULTS
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
        self._frames: deque[tuple[int, bytes]] = deque()
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

    @property
    def is_empty(self) -> bool:
        """Whether everything that was added is acknowledged."""
        return not self._frames and not self._records

    def add(self, record: Captured, size: int = 0) -> None:
        """Add a record that carries `size` bytes of a body."""
        self._records.append(record)
        self._record_bytes += size

    def take(self) -> bytes | None:
        """Return what has gathered as the next frame; null if nothing has."""
        if not self._records:
            return None
        gathered, self._records, self._record_bytes = self._records, [], 0
        self._number += 1
        frame = _frame(self._number, gathered)
        self._frames.append((self._number, frame))
        self._unacknowledged_bytes += len(frame)
        return frame

    def acknowledge(self, number: int) -> bool:
        """Let go of the frames up to this number; return whether there were any."""
        before = len(self._frames)
        while self._frames and self._frames[0][0] <= number:
            self._unacknowledged_bytes -= len(self._frames.popleft()[1])
        return len(self._frames) < before

    def unacknowledged(self) -> Iterator[bytes]:
        """Yield the frames that may have to be sent again."""
        return (frame for _, frame in self._frames)


def _frame(number: int, gathered: list[Captured]) -> bytes:
    try:
        return encode(Frame(number, gathered))
    except (ValueError, OverflowError, TypeError) as error:
        FAULTS.count("telling of a record", error)
        return encode(Frame(number, [record for record in gathered if _can_be_told(record)]))


def _can_be_told(record: Captured) -> bool:
    """Return whether a record can be encoded: a number can be too large, a text can have a surrogate."""
    try:
        encode(Frame(0, [record]))
    except (ValueError, OverflowError, TypeError):
        return False
    return True
