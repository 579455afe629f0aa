"""What travels through the pipe: it arrives as it was sent, frame by frame, and never half a frame."""

from __future__ import annotations

import io
from contextlib import suppress
from types import UnionType
from typing import Any, Literal, TypeAliasType, get_args, get_origin, get_type_hints

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpc.records import (
    LENGTH_BYTES,
    Captured,
    ClientDisconnected,
    EntryEnded,
    Frame,
    Ready,
    Record,
    Reply,
    Stored,
    decode_frame,
    decode_reply,
    encode,
    read_payloads,
)

PLAIN: dict[Any, st.SearchStrategy[Any]] = {
    int: st.integers(-(2**63), 2**64 - 1),
    float: st.floats(),
    str: st.text(),
    bytes: st.binary(),
    bool: st.booleans(),
    type(None): st.none(),
}


def values(hint: Any) -> st.SearchStrategy[Any]:
    """Return every value that a record's field of this type can have."""
    if isinstance(hint, TypeAliasType):
        return values(hint.__value__)
    if hint in PLAIN:
        return PLAIN[hint]
    if isinstance(hint, type) and issubclass(hint, Record):
        return st.builds(hint, **{name: values(type_) for name, type_ in get_type_hints(hint).items()})
    parts, origin = get_args(hint), get_origin(hint)
    if origin is Literal:
        return st.sampled_from(parts)
    if origin is UnionType:
        return st.one_of(*map(values, parts))
    assert origin is tuple, hint
    if parts[1:] == (Ellipsis,):
        return st.lists(values(parts[0]), max_size=3).map(tuple)
    return st.tuples(*map(values, parts))


CAPTURED = get_args(Captured.__value__)
REPLIES = get_args(Reply.__value__)

frames = st.builds(Frame, st.integers(1, 2**63), st.lists(values(Captured), max_size=3))


def name_of(type_: type) -> str:
    return type_.__name__


@pytest.mark.parametrize("type_", CAPTURED, ids=name_of)
@given(data=st.data())
def test_a_record_arrives_as_it_was_sent(type_: type, data: st.DataObject) -> None:
    record = data.draw(values(type_))
    frame = decode_frame(encode(Frame(7, [record]))[LENGTH_BYTES:])
    assert repr(frame) == repr(Frame(7, [record]))  # in which not-a-number equals itself
    assert type(frame.records[0]) is type_


@pytest.mark.parametrize("type_", REPLIES, ids=name_of)
@given(data=st.data())
def test_a_reply_arrives_as_it_was_sent(type_: type, data: st.DataObject) -> None:
    reply = data.draw(values(type_))
    decoded = decode_reply(encode(reply)[LENGTH_BYTES:])
    assert repr(decoded) == repr(reply)
    assert type(decoded) is type_


def test_records_of_one_shape_are_told_apart_and_keep_their_order() -> None:
    sent: list[Captured] = [ClientDisconnected(1), EntryEnded("a"), ClientDisconnected(2), EntryEnded("b")]
    assert decode_frame(encode(Frame(1, sent))[LENGTH_BYTES:]).records == sent


def test_a_frame_is_its_length_in_four_bytes_and_its_payload() -> None:
    frame = encode(Ready(8765))
    assert frame[:4] == (len(frame) - 4).to_bytes(4, "big")


@given(st.lists(frames, max_size=4))
def test_frames_are_read_one_by_one(sent: list[Frame]) -> None:
    pipe = io.BytesIO(b"".join(map(encode, sent)))
    assert list(map(repr, map(decode_frame, read_payloads(pipe.read)))) == list(map(repr, sent))


@given(st.lists(frames, min_size=1, max_size=3), st.data())
def test_a_frame_that_the_end_of_the_pipe_cuts_off_is_dropped(sent: list[Frame], data: st.DataObject) -> None:
    *whole, last = map(encode, sent)
    cut = data.draw(st.integers(0, len(last) - 1))
    pipe = io.BytesIO(b"".join(whole) + last[:cut])
    assert [len(payload) + LENGTH_BYTES for payload in read_payloads(pipe.read)] == list(map(len, whole))


def test_an_empty_frame_is_a_frame() -> None:
    assert list(read_payloads(io.BytesIO(bytes(LENGTH_BYTES) * 2).read)) == [b"", b""]


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xc1",
        msgspec.msgpack.encode(None),
        msgspec.msgpack.encode(["Frame"]),
        msgspec.msgpack.encode(["Frame", "1", []]),
        msgspec.msgpack.encode(["Frame", 1, [["NoSuchRecord", 1]]]),
        msgspec.msgpack.encode(["Frame", 1, [["EntryEnded", 1]]]),
        encode(Stored(1))[LENGTH_BYTES:],
        encode(Frame(1, []))[LENGTH_BYTES:-1],
        encode(Frame(1, []))[LENGTH_BYTES:] + b"\x00",
    ],
)
def test_what_is_no_frame_is_refused(payload: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_frame(payload)


@pytest.mark.parametrize("payload", [b"", msgspec.msgpack.encode(["Ready"]), encode(Frame(1, []))[LENGTH_BYTES:]])
def test_what_is_no_reply_is_refused(payload: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_reply(payload)


@given(st.binary())
def test_any_bytes_are_a_frame_or_refused(payload: bytes) -> None:
    with suppress(msgspec.DecodeError, UnicodeDecodeError):
        assert isinstance(decode_frame(payload), Frame)


def test_a_record_does_not_change() -> None:
    with pytest.raises(AttributeError):
        EntryEnded("a").entry = "b"  # type: ignore[misc]
