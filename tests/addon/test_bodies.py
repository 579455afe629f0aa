from __future__ import annotations

import pytest
from mitmproxy import http
from mitmproxy.proxy.layers import http as http_layers

from addon.bodies import BEHIND_BYTES, Body, Chunk, tapped_stream
from addon.layers import replaced
from rpc.records import CHUNK_SIZE, BodyChunk, Side
from tests.addon.layers import Driver

HEAD = b"POST http://origin.test/ HTTP/1.1\r\nHost: origin.test\r\nContent-Length: 6\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n"


def joined(chunk: Chunk | None) -> tuple[int, bytes]:
    """Return where a chunk begins and what it carries, wherever it carries it."""
    assert chunk is not None
    data = chunk.record.data + b"".join(chunk.behind)
    assert chunk.size == len(data)
    assert chunk.record.behind == sum(map(len, chunk.behind))
    return chunk.record.offset, data


# What has arrived


def test_what_has_arrived_is_told_once_and_in_order() -> None:
    body = Body("entry", "response")
    assert body.take() is None
    body.arrive(b"ab")
    body.arrive(b"c")
    assert body.take() == (BodyChunk("entry", "response", 0, b"abc"), 3, ())
    assert body.take() is None
    body.arrive(b"d")
    assert joined(body.take()) == (3, b"d")
    assert body.size == 4


def test_a_large_piece_goes_behind_its_record_uncopied() -> None:
    body = Body("entry", "request")
    pieces = [b"x" * BEHIND_BYTES, b"y"]
    for piece in pieces:
        body.arrive(piece)
    chunk = body.take()
    assert chunk is not None
    assert chunk.record == BodyChunk("entry", "request", 0, b"", BEHIND_BYTES + 1)
    assert all(behind is piece for behind, piece in zip(chunk.behind, pieces, strict=True))


def test_a_body_is_ripe_when_a_record_is_full() -> None:
    body = Body("entry", "response")
    body.arrive(b"x" * (CHUNK_SIZE - 1))
    assert not body.is_ripe
    body.arrive(b"x")
    assert body.is_ripe
    body.take()
    assert not body.is_ripe


def test_the_rest_of_a_body_is_what_was_not_told() -> None:
    content = bytes(range(256)) * (CHUNK_SIZE // 128)
    body = Body("entry", "response")
    body.arrive(content[:1000])
    body.take()
    body.arrive(content[1000:])
    body.complete(content)
    rest = list(map(joined, body.rest(content)))
    assert [offset for offset, _ in rest] == [1000, 1000 + CHUNK_SIZE]
    assert b"".join(data for _, data in rest) == content[1000:]
    assert body.take() is None


def test_another_body_in_its_place_is_told_from_its_start() -> None:
    body = Body("entry", "response")
    body.arrive(b"as it came")
    body.take()
    body.complete(b"as it came")
    assert list(map(joined, body.rest(b"as an addon wants it"))) == [(0, b"as an addon wants it")]


def test_a_body_that_is_streamed_begins_anew_with_what_goes_out() -> None:
    body = Body("entry", "response")
    body.arrive(b"what came")
    body.take()
    body.arrive(b" in")
    body.stream()
    assert body.is_streamed
    assert body.take() is None
    body.arrive(b"WHAT")
    assert joined(body.take()) == (0, b"WHAT")
    assert body.size == 4


# In mitmproxy's layers


class Tap:
    """Keeps the bodies of one exchange, and what has arrived of each when it did."""

    def __init__(self) -> None:
        self.bodies: dict[Side, Body] = {"request": Body("entry", "request"), "response": Body("entry", "response")}
        self.arrivals: list[tuple[Side, int]] = []
        self.is_recorded = True

    def body_of(self, _: http.HTTPFlow, side: Side) -> Body | None:
        return self.bodies[side] if self.is_recorded else None

    def body_arrived(self, body: Body) -> None:
        self.arrivals.append((body.side, body.size))


@pytest.fixture
def tap(monkeypatch: pytest.MonkeyPatch) -> Tap:
    tap = Tap()
    monkeypatch.setattr(http_layers, "HttpStream", tapped_stream(tap))
    return tap


def transform(name: str, flow: http.HTTPFlow) -> None:
    """Stream both bodies, in capitals."""
    if name == "requestheaders":
        flow.request.stream = bytes.upper
    elif name == "responseheaders":
        assert flow.response is not None
        flow.response.stream = lambda data: data.upper() if data else [b"!"]


def test_both_bodies_are_seen_as_they_arrive(tap: Tap) -> None:
    driver = Driver()
    driver.start()
    driver.receive(driver.client, HEAD + b"abc")
    assert tap.arrivals == [("request", 3)]
    driver.receive(driver.client, b"def")
    (server,) = driver.servers
    driver.receive(server, ANSWER + b"uv")
    driver.receive(server, b"wxyz")
    assert tap.arrivals == [("request", 3), ("request", 6), ("response", 2), ("response", 6)]
    assert joined(tap.bodies["request"].take()) == (0, b"abcdef")
    assert joined(tap.bodies["response"].take()) == (0, b"uvwxyz")
    assert not tap.bodies["response"].is_streamed
    assert driver.sent[driver.client].endswith(b"uvwxyz")


def test_streamed_bodies_are_seen_as_they_go_out(tap: Tap) -> None:
    driver = Driver(on_hook=transform)
    driver.start()
    driver.receive(driver.client, HEAD + b"abcdef")
    (server,) = driver.servers
    driver.receive(server, ANSWER + b"uvwxyz")
    assert joined(tap.bodies["request"].take()) == (0, b"ABCDEF")
    assert joined(tap.bodies["response"].take()) == (0, b"UVWXYZ!")
    assert tap.bodies["request"].is_streamed
    assert driver.sent[server].endswith(b"ABCDEF")


def test_what_had_arrived_of_a_body_that_is_cut_off_is_kept_in_the_flow(tap: Tap) -> None:
    failed: list[http.HTTPFlow] = []
    driver = Driver(on_hook=lambda name, flow: failed.append(flow) if name == "error" else None)
    driver.start()
    driver.receive(driver.client, HEAD + b"abcdef")
    (server,) = driver.servers
    driver.receive(server, ANSWER + b"uv")
    driver.close(server)
    (flow,) = failed
    assert flow.response is not None
    assert flow.response.data.content == b"uv"
    assert joined(tap.bodies["response"].take()) == (0, b"uv")


def test_an_exchange_that_is_not_recorded_goes_on_untouched(tap: Tap) -> None:
    tap.is_recorded = False
    driver = Driver(on_hook=transform)
    driver.start()
    driver.receive(driver.client, HEAD + b"abcdef")
    (server,) = driver.servers
    driver.receive(server, ANSWER + b"uvwxyz")
    assert tap.arrivals == []
    assert b"UVWXYZ" in driver.sent[driver.client]


def test_streams_are_tapped_only_while_the_replacement_is_in_place() -> None:
    original = http_layers.HttpStream
    with replaced(http_layers, {"HttpStream": tapped_stream(Tap())}):
        assert issubclass(http_layers.HttpStream, original)
        assert http_layers.HttpStream is not original
    assert http_layers.HttpStream is original
