"""Expressions find the same entries as mitmproxy finds flows."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mitmproxy import flowfilter, http, websocket
from mitmproxy.test import tflow
from wsproto.frame_protocol import Opcode

from rpc import records
from rpc.filters import MAX_SEARCHED, Filter, FilterError
from rpc.recording import Recording
from rpc.records import MessageType
from rpc.store import SqliteStore

SESSION = "01JD8Z7T5M0E9R3Q6W2XKY4ABC"

HTML = ((b"Content-Type", b"text/html; charset=utf-8"), (b"X-One", b"first"), (b"x-two", b"second"))
DEFLATED = ((b"content-type", b"Application/JSON"), (b"content-encoding", b"deflate"))


def flows() -> Iterator[http.HTTPFlow]:
    """Yield flows that differ in what expressions look at."""
    yield flow("GET", "http://example.com/", response=(200, HTML, b"<p>hello</p>"))
    yield flow("POST", "https://api.example.org:8443/v1?q=needle", sent=(HTML, b"asked"), response=(404, (), b""))
    yield flow("PUT", "http://other.test:8080/a%20b", response=(200, DEFLATED, zlib.compress(b'{"needle": 1}')))
    yield flow("GET", "http://example.com/broken", response=(500, ((b"content-encoding", b"gzip"),), b"no gzip needle"))
    yield flow("GET", "http://example.com/style.css", response=(304, ((b"content-type", b"text/css"),), b""))
    yield flow("DELETE", "http://example.com/failed", error="connection reset")
    yield flow("GET", "http://example.com/pending")
    yield flow("GET", "http://example.com/socket", response=(101, (), b""), messages=("needle", b"\x00bytes"))


def flow(
    method: str,
    url: str,
    *,
    sent: tuple[records.Fields, bytes] = ((), b""),
    response: tuple[int, records.Fields, bytes] | None = None,
    error: str | None = None,
    messages: tuple[str | bytes, ...] = (),
) -> http.HTTPFlow:
    made = tflow.tflow(req=http.Request.make(method, url, sent[1]), err=error is not None)
    made.request.headers = http.Headers(sent[0])
    made.server_conn.address = (made.request.host, made.request.port)
    if response is not None:
        made.response = http.Response.make(response[0], response[2])
        made.response.headers = http.Headers(response[1])
    if messages:
        made.websocket = websocket.WebSocketData()
        for number, data in enumerate(messages):
            kind = Opcode.TEXT if isinstance(data, str) else Opcode.BINARY
            content = data.encode() if isinstance(data, str) else data
            made.websocket.messages.append(websocket.WebSocketMessage(kind, number % 2 == 0, content))
    return made


def told(of: http.HTTPFlow, entry: str) -> Iterator[records.Captured]:
    """Yield the records of a flow."""
    data, peer = of.request.data, (of.client_conn.peername[0], of.client_conn.peername[1])
    yield records.ClientConnection(1, peer, None, "tcp", None, None, None, find_process=False, is_urgent=False)
    authority = f"{of.request.host}:{of.request.port}".encode()
    head = records.RequestHead(
        data.method, data.scheme, data.host, data.port, authority, data.path, b"HTTP/1.1", data.headers.fields, None
    )
    yield records.EntryStarted(entry, 1, 0.0, 0.0, None, head, None)
    yield records.RequestFinished(entry, 0.0, data.content, len(data.content or b""), ())
    if of.response is not None:
        got = of.response.data
        answer = records.ResponseHead(got.status_code, b"", b"HTTP/1.1", got.headers.fields)
        yield records.ResponseStarted(entry, 0.0, answer, None, None)
        size, is_socket = len(got.content or b""), of.websocket is not None
        yield records.ResponseFinished(entry, 0.0, None, got.content, size, (), is_socket, ended=not is_socket)
    for message in of.websocket.messages if of.websocket else ():
        kind: MessageType = "text" if message.type == Opcode.TEXT else "binary"
        yield records.MessageReceived(entry, message.from_client, kind, message.content, 1.0, 1.0)
    if of.error is not None:
        yield records.EntryFailed(entry, 0.0, of.error.msg, None, None)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqliteStore]:
    made = SqliteStore(tmp_path_factory.mktemp("store") / "entries.db")
    recording = Recording(made, records.SessionOpened(SESSION, "", 0.0))
    for number, one in enumerate(flows()):
        recording.apply(told(one, entry(number)))
    recording.flush()
    assert made.position(SESSION) is not None
    yield made
    made.close()


def entry(number: int) -> str:
    return f"01JD8Z7V2NDQ31SRQS54P{number:05}"


def found(expression: str, store: SqliteStore) -> list[int]:
    rows = store.summaries(SESSION, 0, 100)
    return [index for index, (_, fits) in enumerate(Filter(expression, store, SESSION).fitting(rows)) if fits]


@pytest.mark.parametrize(
    "expression",
    [
        *("~all", "~e", "~q", "~s", "~a", "~http", "~websocket", "~tcp", "~udp", "~dns"),
        *("~c 404", "~c 200", "~m GET", "~m p", "~u needle", "example", "~d example", "~d ^example.com$", "~u :8443"),
        *(
            "~t json",
            "~t html",
            "~tq html",
            "~ts html",
            "~t charset=UTF-8",
            "~h X-One",
            "~hs x-two:.second",
            "~hq text",
        ),
        *("~h ^content-type", "~b needle", "~bq asked", "~bs needle", "~b hello", r"~b \x00bytes", "~bq needle"),
        *("~src 127.0.0.1", "~dst 8443", "~dst other", "~dst example.com:80"),
        *("!~s", "~m GET & ~c 200", "~c 404 | ~c 500", "~d example & !(~c 200 | ~e )", "~u a%20b", '~u "v1.q"'),
    ],
)
def test_expression_finds_what_mitmproxy_finds(expression: str, store: SqliteStore) -> None:
    matches: Any = flowfilter.parse(expression)
    assert found(expression, store) == [index for index, one in enumerate(flows()) if matches(one)]


@pytest.mark.parametrize("expression", ["", "~", "~foo", "~c x", "~u [", "(~q", "~u", "~q ~", "("])
def test_what_mitmproxy_cannot_read_is_refused(expression: str, store: SqliteStore) -> None:
    with pytest.raises(FilterError, match="is no valid expression"):
        Filter(expression, store, SESSION)


@pytest.mark.parametrize("expression", ["~marked", "~q & !~comment x", "~c 200 | (~meta y & ~q )", "~replayq"])
def test_what_entries_know_nothing_of_is_refused(expression: str, store: SqliteStore) -> None:
    with pytest.raises(FilterError, match="of which entries know nothing"):
        Filter(expression, store, SESSION)


def test_the_beginning_of_a_large_body_is_looked_at(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "entries.db")
    recording = Recording(store, records.SessionOpened(SESSION, "", 0.0))
    body = b"first" + bytes(MAX_SEARCHED) + b"last"
    recording.apply(told(flow("GET", "http://example.com/", response=(200, (), body)), entry(0)))
    recording.flush()
    assert found("~b first", store) == [0]
    assert found("~b last", store) == []
    store.close()
