from __future__ import annotations

from addon.gap import Gap
from rpc.records import (
    BodyChunk,
    Captured,
    ClientDisconnected,
    EntryEnded,
    EntryFailed,
    EntryStarted,
    ListenerChanged,
    RequestHead,
    ResponseFinished,
)

HEAD = RequestHead(b"GET", b"http", "h", 80, b"", b"/", b"HTTP/1.1", (), None)


def start(entry: str) -> EntryStarted:
    return EntryStarted(entry, 1, 0.0, 0.0, None, HEAD, None)


def chunk(entry: str) -> BodyChunk:
    return BodyChunk(entry, "request", 0, b"")


def finished(entry: str, *, ended: bool) -> ResponseFinished:
    return ResponseFinished(entry, None, None, b"", 0, (), websocket=False, ended=ended)


def sent(gap: Gap, *told: Captured) -> list[Captured]:
    return [record for record in told if not gap.drops(record)]


def test_nothing_is_dropped_without_a_gap() -> None:
    told: list[Captured] = [start("a"), chunk("a"), EntryEnded("a"), ClientDisconnected(1)]
    assert sent(Gap(), *told) == told


def test_everything_is_dropped_in_a_gap_but_where_the_proxy_listens() -> None:
    gap = Gap()
    gap.open()
    assert sent(gap, start("a"), chunk("b"), ClientDisconnected(1), ListenerChanged(80)) == [ListenerChanged(80)]


def test_gap_tells_what_is_missing_and_what_is_cut() -> None:
    gap = Gap()
    gap.open()
    sent(gap, start("new"), chunk("new"), chunk("old"), chunk("old"), start("other"), EntryEnded("other"))
    assert gap.entries == 3
    told = gap.close([4, 7])
    assert (told.missed, told.cut, told.connections) == (2, ("old",), (4, 7))
    assert told.since <= told.until


def test_entry_that_lacks_records_is_not_told_of_after_the_gap() -> None:
    gap = Gap()
    gap.open()
    sent(gap, start("new"), chunk("old"))
    gap.close([])
    later: list[Captured] = [chunk("new"), chunk("old"), chunk("untouched"), start("later"), ClientDisconnected(1)]
    assert sent(gap, *later) == later[2:]
    assert sent(gap, finished("new", ended=False), EntryFailed("old", None, "", None, None)) == []


def test_entries_are_forgotten_with_their_last_record() -> None:
    gap = Gap()
    gap.open()
    ends: list[Captured] = [EntryEnded("a"), EntryFailed("b", None, "", None, None), finished("c", ended=True)]
    sent(gap, start("a"), start("b"), start("c"), chunk("d"), ends[0])
    gap.close([])
    sent(gap, *ends[1:], EntryEnded("d"))
    assert sent(gap, chunk("a"), chunk("d")) == [chunk("a"), chunk("d")]


def test_gap_begins_anew() -> None:
    gap = Gap()
    gap.open()
    sent(gap, start("a"), EntryEnded("a"))
    gap.close([])
    gap.open()
    sent(gap, chunk("b"))
    told = gap.close([])
    assert (told.missed, told.cut) == (0, ("b",))
