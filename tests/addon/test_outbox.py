from __future__ import annotations

import pytest

from addon.faults import FAULTS
from addon.outbox import FRAME_BYTES, Outbox
from rpc import records
from rpc.records import LENGTH_BYTES, EntryEnded, Frame, ResponseHead, ResponseStarted

HUGE = ResponseStarted("a", None, ResponseHead(2**70, b"", b"", ()), None, None)


def read(frame: bytes | None) -> Frame:
    assert frame is not None
    assert int.from_bytes(frame[:LENGTH_BYTES]) == len(frame) - LENGTH_BYTES
    return records.decode_frame(frame[LENGTH_BYTES:])


def filled(*names: str) -> Outbox:
    outbox = Outbox()
    for name in names:
        outbox.add(EntryEnded(name))
        outbox.take()
    return outbox


def test_records_become_frames_numbered_from_one() -> None:
    outbox = Outbox()
    outbox.add(EntryEnded("a"))
    outbox.add(EntryEnded("b"))
    assert read(outbox.take()) == Frame(1, [EntryEnded("a"), EntryEnded("b")])
    assert outbox.take() is None
    outbox.add(EntryEnded("c"))
    assert read(outbox.take()) == Frame(2, [EntryEnded("c")])


def test_frames_are_kept_until_they_are_acknowledged() -> None:
    outbox = filled("a", "b", "c")
    assert [read(frame).number for frame in outbox.unacknowledged()] == [1, 2, 3]
    assert outbox.acknowledge(2)
    assert [read(frame) for frame in outbox.unacknowledged()] == [Frame(3, [EntryEnded("c")])]
    assert not outbox.acknowledge(2)
    assert not outbox.is_empty
    assert outbox.acknowledge(3)
    assert outbox.is_empty


def test_outbox_with_something_gathered_is_not_empty() -> None:
    outbox = Outbox()
    assert outbox.is_empty
    outbox.add(EntryEnded("a"))
    assert not outbox.is_empty


def test_outbox_is_full_while_more_than_its_limit_is_gathered_or_unacknowledged() -> None:
    outbox = Outbox(limit=1000)
    outbox.add(EntryEnded("x"), 999)
    assert not outbox.is_full
    outbox.add(EntryEnded("x"), 1)
    assert outbox.is_full
    outbox.take()
    assert not outbox.is_full
    outbox.add(EntryEnded("x" * 1000))
    outbox.take()
    assert outbox.is_full
    outbox.acknowledge(2)
    assert not outbox.is_full


def test_frame_is_ripe_when_it_carries_enough() -> None:
    outbox = Outbox()
    outbox.add(EntryEnded("x"), FRAME_BYTES - 1)
    assert not outbox.is_ripe
    outbox.add(EntryEnded("x"), 1)
    assert outbox.is_ripe
    outbox.take()
    assert not outbox.is_ripe


@pytest.mark.parametrize("record", [EntryEnded("\udc80"), HUGE])
def test_record_that_cannot_be_told_costs_no_other(record: records.Captured) -> None:
    before = FAULTS.counts["telling of a record"]
    outbox = Outbox()
    outbox.add(EntryEnded("a"))
    outbox.add(record)
    outbox.add(EntryEnded("b"))
    assert read(outbox.take()) == Frame(1, [EntryEnded("a"), EntryEnded("b")])
    outbox.add(EntryEnded("c"))
    assert read(outbox.take()) == Frame(2, [EntryEnded("c")])
    assert FAULTS.counts["telling of a record"] == before + 1
