"""What the taps in mitmproxy's HTTP layers tell."""

from __future__ import annotations

from typing import Any

import pytest
from mitmproxy.connection import Client
from mitmproxy.http import HTTPFlow
from mitmproxy.proxy.layers.tls import ClientTLSLayer

from addon.http_layers import tap
from tests.addon.layers import Driver

UPLOAD = b"POST http://example.test/ HTTP/1.1\r\nHost: example.test\r\nContent-Length: 4\r\n\r\n"
ANSWER = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n"


class Tapped(Driver):
    """A layer that is tapped, and what the tap has told."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.http2: list[Client] = []
        self.over: list[HTTPFlow] = []
        tap(self.layer, on_http2=self.http2.append, on_dropped=self.over.append)
        self.start()


def streamed(name: str, flow: HTTPFlow) -> None:
    """Have a request passed on as it comes."""
    if name == "requestheaders":
        flow.request.stream = True


def test_a_flow_is_over_after_its_last_hook() -> None:
    driver = Tapped()
    driver.receive(driver.client, b"GET http://example.test/ HTTP/1.1\r\nHost: example.test\r\n\r\n")
    assert driver.over == []
    driver.receive(driver.servers[0], ANSWER)
    assert driver.hooks == ["requestheaders", "request", "responseheaders", "response"]
    (flow,) = driver.over
    assert flow.response is not None


def test_an_upload_that_goes_on_after_the_response_is_over_with_its_last_byte() -> None:
    driver = Tapped(on_hook=streamed)
    driver.receive(driver.client, UPLOAD + b"ab")
    driver.receive(driver.servers[0], ANSWER)
    assert driver.over == []
    driver.receive(driver.client, b"cd")
    assert driver.hooks == ["requestheaders", "responseheaders", "response", "request"]
    assert len(driver.over) == 1


def test_an_upload_that_is_broken_off_after_the_response_is_over_without_a_hook() -> None:
    driver = Tapped(on_hook=streamed)
    driver.receive(driver.client, UPLOAD + b"ab")
    driver.receive(driver.servers[0], ANSWER)
    driver.close(driver.client)
    assert driver.hooks == ["requestheaders", "responseheaders", "response"]
    assert len(driver.over) == 1


@pytest.mark.parametrize(("alpn", "count"), [(None, 0), (b"http/1.1", 0), (b"h2", 1)])
def test_an_http2_connection_of_a_client_is_told_when_it_begins(alpn: bytes | None, count: int) -> None:
    driver = Tapped(alpn=alpn)
    assert driver.http2 == [driver.client] * count


def test_a_layer_is_found_at_the_end_of_a_stack() -> None:
    driver = Driver(alpn=b"h2")
    top = ClientTLSLayer(driver.layer.context)
    top.child_layer = driver.layer
    told: list[Client] = []
    tap(top, on_http2=told.append, on_dropped=lambda _: None)
    tap(top, on_http2=told.append, on_dropped=lambda _: None)
    driver.start()
    assert told == [driver.client]


def test_what_is_no_http_is_left_alone() -> None:
    tap(None, on_http2=lambda _: None, on_dropped=lambda _: None)
