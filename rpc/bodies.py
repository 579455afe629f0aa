"""Bodies as they are answered: the content encoding undone, as text or base64. No storage, no JSON here."""

from __future__ import annotations

import base64
import codecs
import re
import zlib
from collections.abc import Callable

import brotli
import zstandard

_CHARSET = re.compile(r';\s*charset\s*=\s*"?([^\s";]+)', re.IGNORECASE)
_SURROGATE = re.compile(r"[\ud800-\udfff]")


class _BrokenError(Exception):
    """What the content encoding says is not what the bytes are."""


def _gzip(data: bytes, *, complete: bool) -> bytes:
    parts: list[bytes] = []
    while data.startswith(b"\x1f\x8b") or not parts:
        member = zlib.decompressobj(31)
        parts.append(member.decompress(data))
        if not member.eof:
            if complete:
                raise _BrokenError
            break
        data = member.unused_data
    return b"".join(parts)


def _deflate(data: bytes, *, complete: bool) -> bytes:
    wrapped = len(data) > 1 and data[0] & 0x0F == 8 and (data[0] << 8 | data[1]) % 31 == 0
    stream = zlib.decompressobj(15 if wrapped else -15)
    plain = stream.decompress(data)
    if complete and not stream.eof:
        raise _BrokenError
    return plain


def _br(data: bytes, *, complete: bool) -> bytes:
    stream = brotli.Decompressor()
    plain: bytes = stream.process(data)
    if complete and not stream.is_finished():
        raise _BrokenError
    return plain


def _zstd(data: bytes, *, complete: bool) -> bytes:
    parts: list[bytes] = []
    while data:
        frame = zstandard.ZstdDecompressor().decompressobj()
        parts.append(frame.decompress(data))
        if not frame.eof:
            if complete:
                raise _BrokenError
            break
        data = frame.unused_data
    return b"".join(parts)


_UNDO: dict[str, Callable[..., bytes]] = {
    "gzip": _gzip,
    "x-gzip": _gzip,
    "deflate": _deflate,
    "br": _br,
    "zstd": _zstd,
}


def undo_content_encoding(data: bytes, coding: str | None, *, complete: bool) -> bytes:
    """Return the body with the codings of its content-encoding undone, the last one first; `data` if that fails.

    A body that is not `complete` is undone as far as it goes.
    """
    names = [name.strip().lower() for name in (coding or "").split(",")]
    plain = data
    try:
        for name in reversed([name for name in names if name not in {"", "identity"}]):
            plain = _UNDO[name](plain, complete=complete)
    except (KeyError, _BrokenError, zlib.error, brotli.error, zstandard.ZstdError):
        return data
    return plain


def as_base64(data: bytes) -> str:
    """Return the bytes in base64: standard alphabet, padded."""
    return base64.b64encode(data).decode()


def as_text(data: bytes, content_type: str | None) -> str:
    """Return the bytes as text in the charset of the content-type, else UTF-8; no surrogate is in it."""
    named = _CHARSET.search(content_type or "")
    try:
        text = codecs.lookup(named[1] if named else "utf-8").decode(data, "replace")[0]
    except (LookupError, ValueError):
        text = None
    if not isinstance(text, str):
        text = data.decode("utf-8", "replace")
    return _SURROGATE.sub("\ufffd", text)
