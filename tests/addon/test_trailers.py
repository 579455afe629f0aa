from __future__ import annotations

from collections.abc import Iterator

import pytest
from mitmproxy import http

from addon.trailers import trailers_supported
from tests.addon.layers import Driver

REQUEST = b"POST http://origin.test/ HTTP/1.1\r\nHost: origin.test\r\nTransfer-Encoding: chunked\r\n\r\n"
RESPONSE = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
BODY = b"3\r\nabc\r\n0\r\n"
TRAILERS = b"X-Sum: 1\r\nx-sum: 2\r\n\r\n"
NONE = b"\r\n"


@pytest.fixture(autouse=True)
def _supported() -> Iterator[None]:
    with trailers_supported():
        yield


class Exchange:
    """One request and its response through mitmproxy's HTTP layers, and the flow that addons see."""

    def __init__(self, *, stream: bool = False) -> None:
        self.flow: http.HTTPFlow | None = None
        self._stream = stream
        self.driver = Driver(on_hook=self._see)
        self.driver.start()

    def request(self, data: bytes) -> bytes:
        """Send a request; return what reaches the server."""
        self.driver.receive(self.driver.client, data)
        return self.driver.sent[self.driver.servers[0]]

    def response(self, data: bytes) -> bytes:
        """Send a response; return what reaches the client."""
        self.driver.receive(self.driver.servers[0], data)
        return self.driver.sent[self.driver.client]

    def _see(self, name: str, flow: http.HTTPFlow) -> None:
        self.flow = flow
        if self._stream and name == "requestheaders":
            flow.request.stream = True
        if self._stream and name == "responseheaders" and flow.response is not None:
            flow.response.stream = True


def fields(headers: http.Headers | None) -> list[tuple[bytes, bytes]]:
    assert headers is not None
    return list(headers.fields)


@pytest.mark.parametrize("stream", [False, True])
def test_trailers_of_both_sides_pass_and_are_seen_as_they_were_sent(stream: bool) -> None:
    exchange = Exchange(stream=stream)
    assert exchange.request(REQUEST + BODY + TRAILERS).endswith(b"0\r\n" + TRAILERS)
    assert exchange.response(RESPONSE + BODY + TRAILERS).endswith(b"0\r\n" + TRAILERS)
    assert exchange.flow is not None
    assert exchange.flow.response is not None
    expected = [(b"X-Sum", b"1"), (b"x-sum", b"2")]
    assert fields(exchange.flow.request.trailers) == expected
    assert fields(exchange.flow.response.trailers) == expected


def test_a_body_without_trailers_passes_as_ever() -> None:
    exchange = Exchange()
    assert exchange.request(REQUEST + BODY + NONE).endswith(b"3\r\nabc\r\n0\r\n\r\n")
    assert exchange.response(RESPONSE + BODY + NONE).endswith(b"3\r\nabc\r\n0\r\n\r\n")
    assert exchange.flow is not None
    assert exchange.flow.request.trailers is None


def test_trailers_that_come_byte_by_byte_are_whole() -> None:
    exchange = Exchange()
    exchange.request(REQUEST + BODY + NONE)
    sent = b""
    for byte in RESPONSE + BODY + TRAILERS:
        sent = exchange.response(bytes([byte]))
    assert sent.endswith(b"0\r\n" + TRAILERS)


def test_a_connection_goes_on_after_trailers() -> None:
    exchange = Exchange()
    exchange.request(REQUEST + BODY + TRAILERS)
    exchange.response(RESPONSE + BODY + TRAILERS)
    assert exchange.request(REQUEST + BODY + NONE).endswith(b"3\r\nabc\r\n0\r\n\r\n")
    assert exchange.response(RESPONSE + BODY + NONE).endswith(b"3\r\nabc\r\n0\r\n\r\n")


def test_a_body_that_ends_with_the_bytes_of_a_last_chunk_is_not_taken_for_one() -> None:
    exchange = Exchange()
    exchange.request(REQUEST + BODY + NONE)
    body = b"5\r\n0\r\n\r\n\r\n0\r\n"
    assert exchange.response(RESPONSE + body + TRAILERS).endswith(b"5\r\n0\r\n\r\n\r\n0\r\n" + TRAILERS)
