"""Bytes as text: which charset a content-type names, and how text is read in it, piece by piece.

- A charset that is unknown, or that is no charset but another of Python's codecs, is UTF-8. UTF-7 counts as unknown:
  the Encoding Standard forbids it, and what is not UTF-7 could not be read in bounded memory.
- Where what is called by one name is in practice a superset of it, it is read as that, as browsers do (Encoding
  Standard, section 4.2): what the name's own charset lacks would only become U+FFFD.
- A byte order mark is no text: UTF-16 and UTF-32 are read as it says (else as little-endian), and one is left out in
  every charset. It does not overrule the charset.
"""

from __future__ import annotations

import codecs
import encodings
import encodings.aliases
import pkgutil
import re
from functools import lru_cache

DEFAULT = "utf_8"

_PARAMETER = re.compile(r';\s*([^=;\s]+)\s*(?:=\s*("(?:[^"\\]|\\.)*"|[^;]*))?')
_ESCAPED = re.compile(r"\\(.)")

# Codecs that are not how text is encoded on the wire, or differ from machine to machine.
_NO_CHARSETS = {
    "aliases",
    "base64_codec",
    "bz2_codec",
    "charmap",
    "hex_codec",
    "idna",
    "mbcs",
    "oem",
    "punycode",
    "quopri_codec",
    "raw_unicode_escape",
    "rot_13",
    "undefined",
    "unicode_escape",
    "utf_7",
    "uu_codec",
    "zlib_codec",
}
_CODECS = {module.name for module in pkgutil.iter_modules(encodings.__path__)} - _NO_CHARSETS
_MORE_NAMES = {
    "iso_8859_8_i": "iso8859_8",
    "iso_8859_8_e": "iso8859_8",
    "unicode_1_1_utf_8": "utf_8",
    "utf8mb4": "utf_8",
    "windows_874": "cp874",
}
_SUPERSETS = {
    "ascii": "utf_8",
    "utf_8_sig": "utf_8",
    "shift_jis": "cp932",
    "euc_kr": "cp949",
    "gb2312": "gb18030",
    "gbk": "gb18030",
}

_BY_MARK = {
    "utf_16": (2, {codecs.BOM_UTF16_BE: "utf_16_be"}, "utf_16_le"),
    "utf_32": (4, {codecs.BOM_UTF32_BE: "utf_32_be"}, "utf_32_le"),
}

# An escape sequence of ISO 2022 as Python's decoders know them; they fail on ESC with much else behind it.
_STRAY_ESCAPE = re.compile(rb"\x1b(?![ -/]{0,3}[@-Z])")
_BEGUN_ESCAPE = re.compile(rb"\x1b[ -/]{0,3}\Z")


@lru_cache(maxsize=128)
def charset_of(content_type: str | None) -> str:
    """Return the name of Python's codec for the charset that a content-type field names; UTF-8 if there is none."""
    for name, value in _PARAMETER.findall(content_type or ""):
        if name.lower() == "charset":
            return _codec(_unquoted(value.strip()))
    return DEFAULT


def _unquoted(value: str) -> str:
    return _ESCAPED.sub(r"\1", value[1:-1]) if value.startswith('"') else value.strip("'")


def _codec(charset: str) -> str:
    name = encodings.normalize_encoding(charset.strip().lower()).removeprefix("x_")
    name = _MORE_NAMES.get(name) or encodings.aliases.aliases.get(name, name)
    return _SUPERSETS.get(name, name) if name in _CODECS else DEFAULT


class TextReader:
    """Reads bytes, piece by piece, as text in a charset that `charset_of` has returned."""

    def __init__(self, charset: str) -> None:
        self._charset = charset
        self._decoder: codecs.IncrementalDecoder | None = None
        self._held = b""
        self._at_start = True

    def read(self, data: bytes, *, last: bool) -> str:
        """Return the next characters. What cannot be read is U+FFFD.

        A character whose bytes have not all come is kept for the next time; in the `last` bytes it is U+FFFD.
        """
        data, self._held = self._held + data, b""
        if self._decoder is None:
            size, by_mark, else_ = _BY_MARK.get(self._charset, (0, {}, self._charset))
            if len(data) < size and not last:
                self._held = data
                return ""
            self._decoder = codecs.getincrementaldecoder(by_mark.get(data[:size], else_))("replace")
        if self._charset.startswith("iso2022"):
            data = self._without_stray_escapes(data, last=last)
        return self._without_mark(self._decoder.decode(data, last))

    def _without_mark(self, text: str) -> str:
        if not text or not self._at_start:
            return text
        self._at_start = False
        return text.removeprefix("\ufeff")

    def _without_stray_escapes(self, data: bytes, *, last: bool) -> bytes:
        if not last and (begun := _BEGUN_ESCAPE.search(data)):
            data, self._held = data[: begun.start()], data[begun.start() :]
        return _STRAY_ESCAPE.sub(b"\xff", data)
