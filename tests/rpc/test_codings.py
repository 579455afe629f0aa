from __future__ import annotations

import contextlib
import gzip
import itertools
import zlib
from collections.abc import Callable, Iterable, Iterator

import brotli
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from rpc import codings
from rpc.codings import MAX_CODINGS, STEP_SIZE, CodingError, codings_of, undone

PLAIN = b"".join(b"%d plain " % number for number in range(10_000))


def bare_deflate(data: bytes) -> bytes:
    return zlib.compress(data, wbits=-15)


def zstd_frame(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(write_checksum=True).compress(data)


ENCODERS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "x-gzip": ("x-gzip", gzip.compress),
    "deflate with zlib's header": ("deflate", zlib.compress),
    "bare deflate": ("deflate", bare_deflate),
    "brotli": ("br", brotli.compress),
    "zstd": ("zstd", zstd_frame),
}
SKIPPABLE_FRAME = b"\x5a\x2a\x4d\x18\x03\x00\x00\x00abc"

encoders = st.sampled_from(list(ENCODERS.values()))


def one_by_one(data: bytes) -> Iterator[bytes]:
    return (data[at : at + 1] for at in range(len(data)))


def undo(pieces: Iterable[bytes], *names: str, complete: bool = True) -> bytes:
    return b"".join(undone(pieces, names, complete=complete))


def assert_refused(pieces: Iterable[bytes], *names: str, complete: bool = True) -> None:
    with pytest.raises(CodingError):
        undo(pieces, *names, complete=complete)


# The field


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        (None, ()),
        ("", ()),
        ("identity", ()),
        ("gzip", ("gzip",)),
        ("X-GZip", ("x-gzip",)),
        (" , IDENTITY,\tBr ,,zstd\t", ("br", "zstd")),
        ("gzip;q=1", ("gzip;q=1",)),
    ],
)
def test_codings_are_listed_in_the_order_they_were_applied(field: str | None, expected: tuple[str, ...]) -> None:
    assert codings_of(field) == expected


# Undoing


@pytest.mark.parametrize(("name", "encode"), ENCODERS.values(), ids=ENCODERS)
@pytest.mark.parametrize("plain", [b"", b"x", PLAIN], ids=["nothing", "a byte", "much"])
def test_coding_is_undone_however_it_is_cut(name: str, encode: Callable[[bytes], bytes], plain: bytes) -> None:
    assert undo([encode(plain)], name) == plain
    assert undo(one_by_one(encode(plain)), name) == plain


@settings(deadline=None)
@given(st.binary(), st.lists(encoders, max_size=4), st.lists(st.integers(0, 200)))
def test_any_codings_are_undone_however_they_are_cut(
    plain: bytes, applied: list[tuple[str, Callable[[bytes], bytes]]], cuts: list[int]
) -> None:
    data = plain
    for _, encode in applied:
        data = encode(data)
    edges = [0, *sorted(cuts), len(data)]
    pieces = [data[start:end] for start, end in itertools.pairwise(edges)]
    assert undo(pieces, *(name for name, _ in applied)) == plain


def test_no_coding_leaves_the_bytes_as_they_are() -> None:
    assert undo([PLAIN, b"more"]) == PLAIN + b"more"


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("gzip", [gzip.compress(b"one"), gzip.compress(b""), gzip.compress(b"two")]),
        ("zstd", [zstd_frame(b"one"), SKIPPABLE_FRAME, zstd_frame(b""), zstd_frame(b"two")]),
        ("zstd", [SKIPPABLE_FRAME, zstd_frame(b"onetwo"), SKIPPABLE_FRAME]),
    ],
)
def test_all_members_and_frames_are_undone(name: str, parts: list[bytes]) -> None:
    data = b"".join(parts)
    assert undo([data], name) == undo(parts, name) == undo(one_by_one(data), name) == b"onetwo"


@pytest.mark.parametrize(
    ("name", "data"), [("gzip", gzip.compress(PLAIN)), ("deflate", zlib.compress(PLAIN)), ("zstd", zstd_frame(PLAIN))]
)
@pytest.mark.parametrize("behind", [b"\0", b"\0" * 1000, b"\n", b"\x1f", b"\x28\xb5\x2f", b"<!-- 3 ms -->"])
def test_what_follows_the_end_is_ignored(name: str, data: bytes, behind: bytes) -> None:
    assert undo([data + behind], name) == undo(one_by_one(data + behind), name) == PLAIN


def test_brotli_with_something_behind_its_end_is_refused_however_it_is_cut() -> None:
    data = brotli.compress(PLAIN) + b"\n"
    assert_refused([data], "br")
    assert_refused(one_by_one(data), "br")


def test_ignored_end_is_read_nevertheless_so_that_what_is_around_it_is_known_as_good() -> None:
    around = zlib.compress(gzip.compress(b"x") + b"\0" * 1000)
    assert undo(one_by_one(around), "gzip", "deflate") == b"x"
    assert_refused(one_by_one(around[:-1]), "gzip", "deflate")


# What cannot be undone


@pytest.mark.parametrize("names", [("nothing",), ("gzip", "nothing"), ("nothing", "gzip"), ("",), ("*",)])
def test_unknown_coding_is_refused(names: tuple[str, ...]) -> None:
    assert_refused([gzip.compress(PLAIN)], *names)


@pytest.mark.parametrize(("name", "encode"), ENCODERS.values(), ids=ENCODERS)
def test_data_that_is_cut_off_is_refused(name: str, encode: Callable[[bytes], bytes]) -> None:
    data = encode(PLAIN)
    for length in (0, 1, 2, len(data) // 2, len(data) - 1):
        assert_refused([data[:length]], name)


@pytest.mark.parametrize("name", ["gzip", "deflate", "br", "zstd"])
def test_nonsense_is_refused(name: str) -> None:
    assert_refused([b"\xff\xffnonsense" * 10], name)
    assert_refused([b"\xff\xffnonsense" * 10], name, complete=False)


@pytest.mark.parametrize(
    ("name", "data"), [("gzip", gzip.compress(PLAIN)), ("deflate", zlib.compress(PLAIN)), ("zstd", zstd_frame(PLAIN))]
)
def test_data_with_a_wrong_checksum_is_refused(name: str, data: bytes) -> None:
    # gzip's is followed by the length, the others' is the end.
    at = len(data) - (8 if name == "gzip" else 1)
    assert_refused([data[:at], bytes([data[at] ^ 1]), data[at + 1 :]], name)


def test_too_many_codings_are_refused() -> None:
    data = b"x"
    for _ in range(MAX_CODINGS):
        data = gzip.compress(data)
    assert undo([data], *["gzip"] * MAX_CODINGS) == b"x"
    assert_refused([gzip.compress(data)], *["gzip"] * (MAX_CODINGS + 1))


@settings(deadline=None)
@given(
    st.lists(st.binary()), st.lists(st.sampled_from(["gzip", "deflate", "br", "zstd", "?"]), max_size=9), st.booleans()
)
def test_any_bytes_are_undone_or_refused(pieces: list[bytes], names: list[str], complete: bool) -> None:
    with contextlib.suppress(CodingError):
        undo(pieces, *names, complete=complete)


@settings(deadline=None)
@given(encoders, st.data())
def test_any_damaged_data_is_undone_or_refused(
    encoder: tuple[str, Callable[[bytes], bytes]], data: st.DataObject
) -> None:
    name, encode = encoder
    encoded = bytearray(encode(PLAIN[:5000]))
    encoded[data.draw(st.integers(0, len(encoded) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(CodingError):
        undo([bytes(encoded)], name, complete=data.draw(st.booleans()))


# What is still arriving


@pytest.mark.parametrize(("name", "encode"), ENCODERS.values(), ids=ENCODERS)
def test_what_has_arrived_is_undone_as_far_as_it_goes(name: str, encode: Callable[[bytes], bytes]) -> None:
    data = encode(PLAIN)
    for length in range(0, len(data), 997):
        plain = undo([data[:length]], name, complete=False)
        assert PLAIN.startswith(plain)
    assert len(undo([data[:-1]], name, complete=False)) > len(PLAIN) // 2
    assert undo([data], name, complete=False) == PLAIN
    assert undo([], name, complete=False) == b""


def flushed_gzip() -> bytes:
    stream = zlib.compressobj(wbits=31)
    return stream.compress(PLAIN) + stream.flush(zlib.Z_SYNC_FLUSH)


def flushed_brotli() -> bytes:
    stream = brotli.Compressor()
    return bytes(stream.process(PLAIN) + stream.flush())


def flushed_zstd() -> bytes:
    stream = zstandard.ZstdCompressor().compressobj()
    return stream.compress(PLAIN) + stream.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)


@pytest.mark.parametrize(
    ("name", "data"), [("gzip", flushed_gzip()), ("br", flushed_brotli()), ("zstd", flushed_zstd())]
)
def test_what_a_server_has_flushed_is_undone_to_its_last_byte(name: str, data: bytes) -> None:
    assert undo([data], name, complete=False) == PLAIN
    assert undo(one_by_one(data), name, complete=False) == PLAIN


# Bounds


BOMBS = {name: encode(bytes(20 * STEP_SIZE)) for name, encode in ENCODERS.values()}


@pytest.mark.parametrize("name", BOMBS)
def test_piece_is_bounded_however_far_the_data_expands(name: str) -> None:
    pieces = list(undone([BOMBS[name]], [name], complete=True))
    assert sum(map(len, pieces)) == 20 * STEP_SIZE
    assert max(map(len, pieces)) < 2 * STEP_SIZE


@pytest.mark.parametrize("name", BOMBS)
def test_bomb_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codings, "MAX_UNDONE", 20 * STEP_SIZE)
    assert len(undo([BOMBS[name]], name)) == 20 * STEP_SIZE
    monkeypatch.setattr(codings, "MAX_UNDONE", 20 * STEP_SIZE - 1)
    assert_refused([BOMBS[name]], name)
    assert_refused([BOMBS[name]], name, complete=False)


def test_bomb_within_another_coding_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codings, "MAX_UNDONE", 20 * STEP_SIZE - 1)
    frames = b"\x50\x2a\x4d\x18" + (20 * STEP_SIZE - 8).to_bytes(4, "little") + bytes(20 * STEP_SIZE - 8)
    assert_refused([gzip.compress(frames)], "zstd", "gzip")


@pytest.mark.parametrize("part", [gzip.compress(b"", mtime=0), SKIPPABLE_FRAME], ids=["gzip", "zstd"])
def test_each_of_many_empty_parts_is_a_step_of_its_own(part: bytes) -> None:
    name = "gzip" if part.startswith(b"\x1f") else "zstd"
    pieces = undone([part * 1000], [name], complete=True)
    assert sum(1 for _ in pieces) >= 1000
