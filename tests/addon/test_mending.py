from __future__ import annotations

from addon.mending import is_text, mended
from rpc.records import EntryFailed, EntryStarted, RequestHead

HEAD = RequestHead(b"GET", b"http", "h\udc80", 80, b"\xff", b"/", b"HTTP/1.1", ((b"\xff", b""),), None)


def test_lone_surrogates_are_replaced_wherever_they_are_and_nothing_else_is() -> None:
    record = EntryStarted("id", 1, 0.5, None, None, HEAD, None)
    repaired = mended(record)
    assert repaired.head.host == "h\ufffd"
    assert repaired == EntryStarted("id", 1, 0.5, None, None, mended(HEAD), None)
    assert (repaired.head.authority, repaired.head.fields) == (b"\xff", ((b"\xff", b""),))


def test_text_of_any_kind_is_kept() -> None:
    record = EntryFailed("id", None, "é漢😀\x00", ("::1", 1), None)
    assert mended(record) == record


def test_a_string_with_a_lone_surrogate_is_no_text() -> None:
    assert [is_text(said) for said in ("", "é😀", "\udc80", "a\ud83d")] == [True, True, False, False]
