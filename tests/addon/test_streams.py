"""What is noted on requests of the stream that they have come on."""

from __future__ import annotations

from typing import Any

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from mitmproxy.http import HTTPFlow, Request

from addon.http_layers import tap
from addon.streams import Stream, mark, stream_of
from tests.addon.layers import Driver


def test_a_request_over_http1_has_none() -> None:
    assert stream_of(Request.make("GET", "http://example.test/")) is None


def test_a_stream_has_the_pseudo_header_fields_in_order() -> None:
    fields = [(b":path", b"/"), (b":method", b"GET"), (b"x-a", b"1"), (b"cookie", b":a")]
    stream = Stream.of(5, fields)
    assert (stream.id, stream.is_pushed) == (5, False)
    assert stream.pseudo == ((b":path", b"/"), (b":method", b"GET"))
    assert stream.pseudo_names == (b":path", b":method")


def test_what_is_noted_is_found_again() -> None:
    request, stream = Request.make("GET", "http://example.test/"), Stream(2, (), is_pushed=True)
    mark(request, stream)
    assert stream_of(request) is stream


@pytest.mark.parametrize("order", ["masp", "psam"])
def test_each_request_of_an_http2_client_has_its_own(order: str) -> None:
    flows: list[HTTPFlow] = []

    def keep(name: str, flow: Any) -> None:
        if name == "requestheaders":
            flows.append(flow)

    driver = Driver(alpn=b"h2", on_hook=keep)
    tap(driver.layer, on_http2=lambda _: None, on_dropped=lambda _: None)
    driver.start()
    client = H2Connection(H2Configuration(client_side=True))
    client.initiate_connection()
    values = {
        "m": (":method", "GET"),
        "a": (":authority", "example.test"),
        "s": (":scheme", "https"),
        "p": (":path", "/"),
    }
    for stream_id in (1, 7):
        client.send_headers(stream_id, [values[initial] for initial in order], end_stream=True)
    driver.receive(driver.client, client.data_to_send())
    streams = [stream_of(flow.request) for flow in flows]
    assert [stream and stream.id for stream in streams] == [1, 7]
    names = tuple(values[initial][0].encode() for initial in order)
    assert {stream.pseudo_names for stream in streams if stream} == {names}
