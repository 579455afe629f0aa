"""Content codings (RFC 9110 section 8.4.1), undone piece by piece in bounded memory, however far a piece expands.

What is told apart, and how:

- gzip may have several members (RFC 1952 section 2.2), zstd several frames (RFC 8878 section 3.1). Whatever else
  follows the end of gzip's, deflate's or zstd's data is ignored, as browsers do; brotli's decoder refuses it.
- deflate is zlib's format (RFC 1950) or, as some servers send, the bare one (RFC 1951). No encoder begins the bare one
  with what reads as zlib's header: that would be a stored block with padding that is not zero.
- The length of a zstd window is at most 128 MiB, the decoder's own default; RFC 9659 asks for 8 MiB at most.
"""

from __future__ import annotations

import re
import sys
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple, Protocol

import brotli

if sys.version_info >= (3, 14):
    from compression.zstd import ZstdDecompressor, ZstdError
else:
    from backports.zstd import ZstdDecompressor, ZstdError

MAX_UNDONE = 2**31
"""Bytes that undoing one coding may give; more is taken for a decompression bomb, and not undone."""

MAX_CODINGS = 8
"""Codings that are undone of one body, one inside the other. Each takes memory and time of its own."""

STEP_SIZE = 128 * 1024
"""Bytes that are decoded in one step; it may be somewhat more."""


class CodingError(Exception):
    """The content encoding cannot be undone: unknown, broken, cut off or too large."""


class _Decoder(Protocol):
    rest: bytes | None
    """What follows the end of the data; null while that is not reached."""

    def decode(self, data: bytes) -> bytes:
        """Decode about `STEP_SIZE` bytes. Raises one of `_ERRORS`."""
        ...

    def has_more(self) -> bool:
        """Tell whether there is more to decode of what was given."""
        ...

    def may_end(self) -> bool:
        """Tell whether the data is complete where it has ended."""
        ...


class _Zlib:
    """Decodes gzip, zlib or bare deflate, as `window` says in zlib's way."""

    def __init__(self, window: int) -> None:
        self.rest: bytes | None = None
        self._stream = zlib.decompressobj(window)
        self._full = False

    def decode(self, data: bytes) -> bytes:
        plain = self._stream.decompress(self._stream.unconsumed_tail + data, STEP_SIZE)
        self._full = len(plain) == STEP_SIZE
        if self._stream.eof:
            self.rest = self._stream.unused_data
        return plain

    def has_more(self) -> bool:
        return self._full or bool(self._stream.unconsumed_tail)

    def may_end(self) -> bool:
        return self.rest is not None


class _Deflate:
    """Decodes zlib's format or the bare one, once its first two bytes have told which."""

    def __init__(self) -> None:
        self.rest: bytes | None = None
        self._head = b""
        self._stream: _Zlib | None = None

    def decode(self, data: bytes) -> bytes:
        if self._stream is None:
            data = self._head = self._head + data
            if len(data) < 2:
                return b""
            self._stream = _Zlib(zlib.MAX_WBITS if _is_zlib_header(data) else -zlib.MAX_WBITS)
        plain = self._stream.decode(data)
        self.rest = self._stream.rest
        return plain

    def has_more(self) -> bool:
        return self._stream is not None and self._stream.has_more()

    def may_end(self) -> bool:
        return self.rest is not None


def _is_zlib_header(data: bytes) -> bool:
    """RFC 1950 section 2.2: the method is 8, the window at most 32 KiB, and the two bytes divide by 31."""
    return data[0] & 0x0F == 8 and data[0] >> 4 <= 7 and (data[0] << 8 | data[1]) % 31 == 0


class _Brotli:
    """Decodes brotli. Its data never has a rest: the decoder refuses more than it asked for."""

    def __init__(self) -> None:
        self.rest: bytes | None = None
        self._stream = brotli.Decompressor()
        self._full = False

    def decode(self, data: bytes) -> bytes:
        # The limit is where its buffer stops to grow, so up to twice as much may come.
        plain: bytes = self._stream.process(data, output_buffer_limit=STEP_SIZE // 2)
        self._full = bool(plain)
        return plain

    def has_more(self) -> bool:
        # It may accept more data and have more to give for what it was given already.
        return self._full or not self._stream.can_accept_more_data()

    def may_end(self) -> bool:
        return bool(self._stream.is_finished())


class _Zstd:
    """Decodes one frame."""

    def __init__(self) -> None:
        self.rest: bytes | None = None
        self._frame = ZstdDecompressor()

    def decode(self, data: bytes) -> bytes:
        plain = self._frame.decompress(data, STEP_SIZE)
        if self._frame.eof:
            self.rest = self._frame.unused_data
        return plain

    def has_more(self) -> bool:
        return not self._frame.eof and not self._frame.needs_input

    def may_end(self) -> bool:
        return self.rest is not None


class _Coding(NamedTuple):
    decoder: Callable[[], _Decoder]
    next_part: re.Pattern[bytes] | None = None
    """How another member or frame begins."""
    magic_size: int = 0


_GZIP = _Coding(lambda: _Zlib(zlib.MAX_WBITS | 16), re.compile(rb"\x1f\x8b"), 2)
_CODINGS = {
    "gzip": _GZIP,
    "x-gzip": _GZIP,
    "deflate": _Coding(_Deflate),
    "br": _Coding(_Brotli),
    "zstd": _Coding(_Zstd, re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18", re.DOTALL), 4),
}
_ERRORS = (zlib.error, brotli.error, ZstdError)


@lru_cache(maxsize=128)
def codings_of(content_encoding: str | None) -> tuple[str, ...]:
    """Return the codings that a content-encoding field lists, in lower case and in the order they were applied."""
    listed = (name.strip(" \t").lower() for name in (content_encoding or "").split(","))
    return tuple(name for name in listed if name not in {"", "identity"})


def undone(pieces: Iterable[bytes], codings: Sequence[str], *, complete: bool) -> Iterator[bytes]:
    """Yield the bytes with the codings undone, the last one first; of what is not `complete`, as far as it goes.

    A piece has somewhat more than `STEP_SIZE` bytes at the most, and may be empty: each takes a bounded time, so that
    whoever asks for them can do other things in between. Raises `CodingError`, also after some pieces.
    """
    if len(codings) > MAX_CODINGS or not _CODINGS.keys() >= set(codings):
        raise CodingError
    plain = iter(pieces)
    for name in reversed(codings):
        plain = _undo(plain, _CODINGS[name], complete=complete)
    return plain


def _undo(pieces: Iterator[bytes], coding: _Coding, *, complete: bool) -> Iterator[bytes]:
    """Yield what `coding` encodes, part by part. Raises `CodingError`."""
    left = MAX_UNDONE
    data: bytes | None = b""
    while data is not None:  # what has come of the next part
        decoder = coding.decoder()
        for plain in _part(decoder, data, pieces, complete=complete):
            left -= len(plain)
            if left < 0:
                raise CodingError
            yield plain
        data = yield from _next_part(decoder.rest or b"", pieces, coding)
    for _ in pieces:
        yield b""  # what is around it has to be read to its end to be known as good


def _part(decoder: _Decoder, data: bytes, pieces: Iterator[bytes], *, complete: bool) -> Iterator[bytes]:
    yield _decoded(decoder, data)
    while decoder.rest is None:
        if decoder.has_more():
            yield _decoded(decoder, b"")
        elif (piece := next(pieces, None)) is None:
            break
        else:
            yield _decoded(decoder, piece) if piece else b""
    if complete and not decoder.may_end():
        raise CodingError


def _decoded(decoder: _Decoder, data: bytes) -> bytes:
    try:
        return decoder.decode(data)
    except _ERRORS:
        raise CodingError from None


def _next_part(data: bytes, pieces: Iterator[bytes], coding: _Coding) -> Generator[bytes, None, bytes | None]:
    """Return the bytes from the beginning of the next member or frame on; null if there is none."""
    if coding.next_part is None:
        return None
    while len(data) < coding.magic_size:
        if (piece := next(pieces, None)) is None:
            return None
        data += piece
        yield b""
    return data if coding.next_part.match(data) else None
