from __future__ import annotations

import codecs

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rpc import charsets
from rpc.charsets import DEFAULT, TextReader, charset_of

ALL = sorted({charset_of(f"text/plain; charset={name}") for name in charsets._CODECS})
ISO_2022 = [charset for charset in ALL if charset.startswith("iso2022")]


def read(data: bytes, charset: str) -> str:
    return TextReader(charset_of(f"text/plain;charset={charset}")).read(data, last=True)


# The field


@pytest.mark.parametrize(
    "content_type",
    [
        "text/plain; charset=iso-8859-2",
        "text/plain;charset=ISO-8859-2",
        'text/plain; Charset = "iso-8859-2" ; x=y',
        'text/plain; charset="iso\\-8859-2"',
        "text/plain; charset='iso-8859-2'",
        "text/plain; x=y;; charset=latin2",
        'text/plain; x="; charset=utf-16"; charset=iso8859-2',
        "text/plain; charset=iso-8859-2; charset=utf-16",
        ";charset=iso-8859-2",
    ],
)
def test_charset_is_found(content_type: str) -> None:
    assert charset_of(content_type) == "iso8859_2"


@pytest.mark.parametrize(
    "charset",
    [
        *sorted(charsets._NO_CHARSETS),
        *("rot13", "base64", "hex", "zip", "uu", "bz2", "u7", "unicode-1-1-utf-7", "idna", "dbcs", "ansi"),
        *(
            "",
            '""',
            '"',
            "nonsense",
            "\x00",
            "é",
            "../x",
            "encodings.utf_16",
            "x" * 10_000,
            "x-",
            "utf-16-surrogatepass",
        ),
    ],
)
def test_what_is_no_charset_is_utf_8(charset: str) -> None:
    assert charset_of(f"text/plain; charset={charset}") == DEFAULT


@pytest.mark.parametrize(
    "content_type", [None, "", "text/html", "charset=utf-16", "text/html; xcharset=utf-16", ";;=;"]
)
def test_charset_that_is_not_named_is_utf_8(content_type: str | None) -> None:
    assert charset_of(content_type) == DEFAULT


@settings(deadline=None)
@given(st.text())
def test_any_field_names_a_charset(content_type: str) -> None:
    assert codecs.lookup(charset_of(content_type))
    assert codecs.lookup(charset_of(f"text/plain;charset={content_type}"))


# Text


@pytest.mark.parametrize(
    ("charset", "data", "text"),
    [
        ("utf-8", "é漢😀".encode(), "é漢😀"),
        ("US-ASCII", "é漢😀".encode(), "é漢😀"),
        ("iso-8859-1", b"\xe9\x80", "é\x80"),
        ("windows-1252", b"\xe9\x80", "é€"),
        ("koi8-u", "ґанок".encode("koi8-u"), "ґанок"),
        ("Shift_JIS", b"\x87\x40\xfb\xfc", "①髙"),
        ("x-sjis", b"\x82\xa0", "あ"),
        ("euc-kr", "똠방".encode("cp949"), "똠방"),
        ("GB2312", "朱镕基".encode("gbk"), "朱镕基"),
        ("big5", "中文".encode("big5"), "中文"),
        ("iso-2022-jp", "日本語abc".encode("iso2022_jp"), "日本語abc"),
        ("utf-16le", "é😀".encode("utf-16-le"), "é😀"),
        ("utf-16", "é😀".encode("utf-16-le"), "é😀"),
    ],
)
def test_text_is_read_in_its_charset(charset: str, data: bytes, text: str) -> None:
    assert read(data, charset) == text


@pytest.mark.parametrize(
    ("charset", "data", "text"),
    [
        ("utf-8", b"a\xffb", "a\ufffdb"),
        ("utf-8", b"a\xe2\x82", "a\ufffd"),
        ("utf-8", b"\xed\xa0\x80", "\ufffd\ufffd\ufffd"),
        ("us-ascii", b"a\xe9", "a\ufffd"),
        ("utf-16le", b"\x00\xd8a\x00", "\ufffda"),
        ("utf-16", b"a\x00b", "a\ufffd"),
        ("utf-16", b"a", "\ufffd"),
        ("utf-32", b"abc", "\ufffd"),
        ("iso-2022-jp", b"a\x1b", "a\ufffd"),
        ("iso-2022-jp", b"a\x1b$", "a\ufffd$"),
        ("iso-2022-jp", b"a\x1b$$$$$$$$$$$$$$", "a\ufffd$$$$$$$$$$$$$$"),
    ],
)
def test_what_cannot_be_read_is_the_replacement_character(charset: str, data: bytes, text: str) -> None:
    assert read(data, charset) == text


@pytest.mark.parametrize("charset", ["utf-8", "utf-16", "utf-16le", "utf-16be", "utf-32", "gb18030"])
def test_byte_order_mark_is_no_text(charset: str) -> None:
    for order in ("le", "be") if charset in {"utf-16", "utf-32"} else ("",):
        data = "\ufeff\ufeffé".encode(charset + order)
        assert read(data, charset) == "\ufeffé"


def test_byte_order_mark_does_not_overrule_the_charset() -> None:
    assert read(b"\xff\xfea", "iso-8859-1") == "ÿþa"
    assert read(b"\xff\xfea", "utf-8") == "\ufffd\ufffda"


# Pieces


def test_character_that_has_come_in_part_waits_for_the_rest() -> None:
    reader = TextReader("utf_8")
    assert reader.read("a😀".encode()[:-1], last=False) == "a"
    assert reader.read("a😀".encode()[-1:], last=False) == "😀"
    assert reader.read(b"\xf0\x9f", last=False) == ""
    assert reader.read(b"", last=True) == "\ufffd"


bytes_of_text = st.one_of(
    st.binary(max_size=40),
    st.lists(
        st.sampled_from([b"\x1b", b"\x1b$B", b"\x1b(B", b"\x1b$", b"~{", b"\xff\xfe", b"\x0e", b"a", b"\xa1"])
    ).map(b"".join),
    st.text(max_size=20).flatmap(
        lambda text: st.sampled_from([text.encode(c, "ignore") for c in ("utf-8", "gbk", "hz")])
    ),
)


@settings(deadline=None)
@given(st.sampled_from(ALL) | st.sampled_from(ISO_2022), bytes_of_text, st.integers(1, 5))
def test_any_bytes_are_text_without_surrogates_however_they_are_cut(charset: str, data: bytes, size: int) -> None:
    reader = TextReader(charset)
    whole = TextReader(charset).read(data, last=True)
    pieces = [reader.read(data[at : at + size], last=False) for at in range(0, len(data), size)]
    assert "".join([*pieces, reader.read(b"", last=True)]) == whole
    whole.encode()


@pytest.mark.parametrize("charset", ALL)
def test_charset_reads_what_it_has_written(charset: str) -> None:
    text = "".join(chr(code).encode(charset, "ignore").decode(charset) for code in range(0x20, 0x7F))
    assert TextReader(charset).read(text.encode(charset), last=True) == text
