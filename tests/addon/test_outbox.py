from __future__ import annotations

import io

from addon.faults import FAULTS
from addon.outbox import FRAME_BYTES, Outbox, Written
from rpc import records
from rpc.records import BodyChunk, EntryEnded, EntryFailed, Frame, ResponseHead, ResponseStarted

HUGE = ResponseStarted("a", None, ResponseHead(2**70, b"", b"", ()), None, None)


def read(written: Written | None) -> Frame:
    assert written is not None
    payloads = records.read_payloads(io.BytesIO(b"".join(written)).read)
    frame = records.joined(records.decode_frame(next(payloads)), payloads)
    assert frame is not None
    assert next(payloads, None) is None
    return frame


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


def test_record_that_cannot_be_told_costs_no_other() -> None:
    before = FAULTS.counts["telling of a record"]
    outbox = Outbox()
    outbox.add(EntryEnded("a"))
    outbox.add(HUGE)
    outbox.add(EntryEnded("b"))
    assert read(outbox.take()) == Frame(1, [EntryEnded("a"), EntryEnded("b")])
    outbox.add(EntryEnded("c"))
    assert read(outbox.take()) == Frame(2, [EntryEnded("c")])
    assert FAULTS.counts["telling of a record"] == before + 1


def test_data_goes_behind_the_frame_whose_last_record_it_belongs_to_and_is_not_copied() -> None:
    outbox = Outbox()
    data: list[bytes | memoryview] = [b"x" * 1000, memoryview(b"y" * 1000)]
    outbox.add(EntryEnded("a"))
    outbox.add(BodyChunk("b", "response", 7, b"", 2000), 2000, data)
    assert outbox.is_ripe
    written = outbox.take()
    assert written is not None
    assert all(piece is given for piece, given in zip(written[-2:], data, strict=True))
    assert read(written) == Frame(1, [EntryEnded("a"), BodyChunk("b", "response", 7, b"x" * 1000 + b"y" * 1000)])
    outbox.add(EntryEnded("c"))
    assert not outbox.is_ripe
    assert read(outbox.take()) == Frame(2, [EntryEnded("c")])


def test_data_whose_record_cannot_be_told_is_dropped_with_it() -> None:
    outbox = Outbox()
    outbox.add(EntryEnded("a"))
    outbox.add(BodyChunk("b", "response", 2**70, b"", 4), 4, [b"data"])
    assert read(outbox.take()) == Frame(1, [EntryEnded("a")])


def test_record_whose_text_has_a_surrogate_is_told_without_it() -> None:
    before = FAULTS.counts.copy()
    outbox = Outbox()
    outbox.add(EntryEnded("a"))
    outbox.add(EntryFailed("b", None, "no \udc80 text", None, None))
    outbox.add(BodyChunk("c\ud800", "response", 0, b"", 4), 4, [b"data"])
    assert read(outbox.take()) == Frame(
        1,
        [
            EntryEnded("a"),
            EntryFailed("b", None, "no \ufffd text", None, None),
            BodyChunk("c\ufffd", "response", 0, b"data"),
        ],
    )
    assert FAULTS.counts == before
