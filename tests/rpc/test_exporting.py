# ruff: noqa: ARG002 - the stand-in takes what a source takes

from __future__ import annotations

import io
import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rpc.exporting import export_har
from rpc.records import Side
from rpc.sources import Session
from tests import har_model

BODY_SIZE = 100_000


def entry(entry_id: str) -> dict[str, Any]:
    message = {"httpVersion": "HTTP/1.1", "headers": [], "bodySize": BODY_SIZE}
    phases = ("blocked", "dns", "connect", "send", "wait", "receive", "ssl")
    return {
        "id": entry_id,
        "url": "http://h/",
        "clientAddr": None,
        "remoteAddr": None,
        "httpVersion": "HTTP/1.1",
        "transactionType": "request",
        "request": message | {"method": "GET", "path": "/", "bodySize": 0},
        "response": message | {"statusCode": 200, "statusText": "OK"},
        "isWebSocket": False,
        "tls": {"connectionId": None},
        "http2": None,
        "timings": {"startedAt": "2026-11-24T14:55:06.836Z"} | dict.fromkeys(phases),
        "process": None,
    }


class Made:
    """A source of entries that are made when they are asked for; `gone` is one that is not there any more."""

    def __init__(self, count: int, gone: str = "") -> None:
        self._count = count
        self._gone = gone

    def sessions(self) -> list[Session]:
        return [Session("S", 'a "name"', self._count)]

    def entry_ids(self, session_id: str) -> Iterator[str]:
        assert session_id == "S"
        return map(str, range(self._count))

    def entry(self, session_id: str, entry_id: str) -> dict[str, Any] | None:
        return None if entry_id == self._gone else entry(entry_id)

    def body(self, session_id: str, entry_id: str, side: Side) -> bytes | None:
        return b"x" * BODY_SIZE if side == "response" else b""

    def messages(self, session_id: str, entry_id: str) -> list[dict[str, Any]] | None:
        raise AssertionError("there is no WebSocket")


class Counter(io.RawIOBase):
    """Counts what is written, and keeps nothing."""

    size = 0

    def write(self, data: Any) -> int:
        self.size += len(data)
        return len(data)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_session_of_any_number_of_entries_is_one_file(count: int) -> None:
    source, file = Made(count), io.BytesIO()
    exported: list[None] = []
    export_har(source, source.sessions()[0], file, lambda: exported.append(None))
    log = har_model.check(file.getvalue()).log
    assert [(made.model_extra or {})["_id"] for made in log.entries] == list(map(str, range(count)))
    assert (log.comment, log.model_extra) == ('a "name"', {"_session": {"id": "S", "name": 'a "name"'}})
    assert len(exported) == count


def test_an_entry_that_is_gone_meanwhile_is_left_out() -> None:
    source, file = Made(3, gone="0"), io.BytesIO()
    export_har(source, source.sessions()[0], file)
    assert [made["_id"] for made in json.loads(file.getvalue())["log"]["entries"]] == ["1", "2"]


def test_a_large_session_takes_the_memory_of_few_entries() -> None:
    source, file = Made(300), Counter()
    tracemalloc.start()
    try:
        export_har(source, source.sessions()[0], file)  # type: ignore[arg-type]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert file.size > 300 * BODY_SIZE
    assert peak < 20 * BODY_SIZE


def test_each_entry_is_on_a_line_of_its_own(tmp_path: Path) -> None:
    source, path = Made(3), tmp_path / "x.har"
    with path.open("wb") as file:
        export_har(source, source.sessions()[0], file)
    assert len(path.read_text().splitlines()) == 1 + 3 + 1
