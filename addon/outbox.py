"""What is on its way to the child: records become numbered frames, which are kept until they are acknowledged.

Pure: it neither writes nor waits. Bounded: `is_full` asks whoever adds to wait.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress

from addon.faults import FAULTS
from addon.mending import mended
from rpc.records import Captured, Frame, encode, encode_with_data

type Buffer = bytes | memoryview
type Written = tuple[Buffer, ...]
"""A frame in the pieces that it is written in."""

LIMIT_BYTES = 32 * 1024 * 1024
"""Bytes that may be unacknowledged before hooks have to wait."""

FRAME_BYTES = 256 * 1024
"""Bytes of bodies after which records should be sent without waiting for more."""


UNTELLABLE = (ValueError, OverflowError, TypeError)
"""What encoding raises: a number can be too large, a text can have a surrogate."""


class Outbox:
    """Frames in order of their numbers."""

    def __init__(self, *, limit: int = LIMIT_BYTES) -> None:
        self._limit = limit
        self._records: list[Captured] = []
        self._record_bytes = 0
        self._behind: Sequence[Buffer] = ()
        self._frames: deque[tuple[int, Written, int]] = deque()
        self._number = 0
        self._unacknowledged_bytes = 0

    @property
    def is_full(self) -> bool:
        """Whether to wait for acknowledgements before adding more."""
        return self._unacknowledged_bytes + self._record_bytes >= self._limit

    @property
    def is_ripe(self) -> bool:
        """Whether enough has gathered for a frame."""
        return bool(self._behind) or self._record_bytes >= FRAME_BYTES

    @property
    def is_empty(self) -> bool:
        """Whether everything that was added is acknowledged."""
        return not self._frames and not self._records

    def add(self, record: Captured, size: int = 0, behind: Sequence[Buffer] = ()) -> None:
        """Add a record that carries `size` bytes of a body. With some of them `behind` it, it is the frame's last."""
        self._records.append(record)
        self._record_bytes += size
        self._behind = behind

    def take(self) -> Written | None:
        """Return what has gathered as the next frame, in the pieces to write; null if nothing has."""
        if not self._records:
            return None
        gathered, self._records, self._record_bytes = self._records, [], 0
        behind, self._behind = self._behind, ()
        self._number += 1
        written = _frame(self._number, gathered, behind)
        size = sum(map(len, written))
        self._frames.append((self._number, written, size))
        self._unacknowledged_bytes += size
        return written

    def acknowledge(self, number: int) -> bool:
        """Let go of the frames up to this number; return whether there were any."""
        before = len(self._frames)
        while self._frames and self._frames[0][0] <= number:
            self._unacknowledged_bytes -= self._frames.popleft()[2]
        return len(self._frames) < before

    def unacknowledged(self) -> Iterator[Written]:
        """Yield the frames that may have to be sent again."""
        return (written for _, written, _ in self._frames)


def _frame(number: int, gathered: list[Captured], behind: Sequence[Buffer]) -> Written:
    with suppress(*UNTELLABLE):
        return _written(Frame(number, gathered), behind)
    records = [mended(record) for record in gathered]
    told = [record for record in records if _can_be_told(record)]
    return _written(Frame(number, told), behind if told and told[-1] is records[-1] else ())


def _written(frame: Frame, behind: Sequence[Buffer]) -> Written:
    return encode_with_data(frame, behind) if behind else (encode(frame),)


def _can_be_told(record: Captured) -> bool:
    """Return whether a record can be encoded, and count it if not."""
    try:
        encode(Frame(0, [record]))
    except UNTELLABLE as error:
        FAULTS.count("telling of a record", error)
        return False
    return True
