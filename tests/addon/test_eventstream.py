from __future__ import annotations

import pytest
from mitmproxy import http
from mitmproxy.test.tflow import tflow

from addon.eventstream import KeptStream, keep_events, stream_events


def flow_of(content_type: str | None) -> http.HTTPFlow:
    flow = tflow(resp=True)
    assert flow.response is not None
    flow.response.headers.clear()
    if content_type is not None:
        flow.response.headers["Content-Type"] = content_type
    return flow


def streamed(flow: http.HTTPFlow, *, keep: bool = False) -> object:
    stream_events(flow, keep=keep)
    assert flow.response is not None
    return flow.response.stream


@pytest.mark.parametrize("content_type", ["text/event-stream", "Text/Event-Stream ; charset=utf-8"])
def test_an_event_stream_passes_as_it_comes(content_type: str) -> None:
    assert streamed(flow_of(content_type)) is True


@pytest.mark.parametrize("content_type", [None, "", "text/plain", "text/event-stream-not", "x; text/event-stream"])
def test_any_other_response_is_left_as_it_is(content_type: str | None) -> None:
    assert streamed(flow_of(content_type)) is False


def test_what_another_addon_has_decided_stands() -> None:
    flow = flow_of("text/event-stream")
    assert flow.response is not None
    flow.response.stream = bytes.upper
    assert streamed(flow) == bytes.upper


def test_a_request_without_a_response_is_left_as_it_is() -> None:
    flow = tflow()
    stream_events(flow, keep=True)
    keep_events(flow)
    assert flow.response is None


def test_an_event_stream_that_is_to_be_saved_is_kept_as_it_passes() -> None:
    flow = flow_of("text/event-stream")
    stream = streamed(flow, keep=True)
    assert isinstance(stream, KeptStream)
    assert [stream(piece) for piece in (b"data: 1\n\n", b"data: 2\n\n", b"")] == [b"data: 1\n\n", b"data: 2\n\n", b""]
    keep_events(flow)
    assert flow.response is not None
    assert flow.response.data.content == b"data: 1\n\ndata: 2\n\n"


def test_the_content_of_other_responses_is_not_touched() -> None:
    flow = flow_of("text/plain")
    assert flow.response is not None
    before = flow.response.data.content
    keep_events(flow)
    assert flow.response.data.content is before
