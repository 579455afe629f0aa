from __future__ import annotations

import gzip
import zlib

import brotli
import pytest
import zstandard

from rpc.bodies import as_base64, as_text, undo_content_encoding

PLAIN = b"plain " * 1000
ENCODED = {
    "gzip": gzip.compress(PLAIN),
    "x-gzip": gzip.compress(PLAIN),
    "deflate": zlib.compress(PLAIN),
    "br": brotli.compress(PLAIN),
    "zstd": zstandard.compress(PLAIN),
    "identity": PLAIN,
    " , IDENTITY,\tGZip ": gzip.compress(PLAIN),
    "gzip, br": brotli.compress(gzip.compress(PLAIN)),
}


@pytest.mark.parametrize(("coding", "data"), ENCODED.items(), ids=ENCODED)
def test_coding_is_undone(coding: str, data: bytes) -> None:
    assert undo_content_encoding(data, coding, complete=True) == PLAIN


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "nothing", "gzip, nothing"])
def test_what_cannot_be_undone_stays_as_it_was_transferred(coding: str) -> None:
    data = b"\x00nonsense"
    assert undo_content_encoding(data, coding, complete=True) == data


def test_base64_is_standard_and_padded() -> None:
    assert as_base64(b"\xfb\xff\xfe\x00") == "+//+AA=="


def test_text_is_read_in_the_charset_of_its_type() -> None:
    assert as_text(b"\xe9", 'text/plain; Charset="ISO-8859-1"') == "é"
    assert as_text("é\udcff".encode("utf-8", "surrogateescape"), "text/plain") == "é\ufffd"
